"""The schema that the server publishes is kept, and no request makes it fail."""

import contextlib
import copy
import json
import os
import re
import socket
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
import serving_case as case
import serving_wire as wire
from hypothesis import HealthCheck, Phase, given, seed, settings
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ensemblefuse import (
    DecisionFusionClassifier,
    ImageEncoder,
    PrecomputedEncoder,
    TimeSeriesEncoder,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.serving import ServerSettings

PICTURE = case.picture("red")
VECTOR = [0.5, -1.0, 2.0]
OPEN = ("/health", "/ready")
READS = (*OPEN, "/metrics", "/model", "/example", "/openapi.json")
ASKS = ("/predict", "/explain")
MAX_BODY = 2_000_000
KINDS = JSON, FORM = "application/json", "multipart/form-data"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A model with a column of each kind that needs no network."""
    X, y = case.table()
    rng = np.random.default_rng(0)
    series, vectors = (np.empty(len(y), dtype=object) for _ in range(2))
    series[:] = [rng.normal(size=20) for _ in y]
    vectors[:] = [rng.normal(size=3) + list(case.COLORS).index(name) for name in y]
    X = X.drop(columns="weight").assign(brand=rng.choice(["a", "b", None], size=len(y)), curve=series, vector=vectors)
    modalities = [
        ("image", ImageEncoder(features="color"), "photo"),
        ("text", TfidfVectorizer(), "title"),
        ("tabular", StandardScaler(), ["size"]),
        ("brand", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["brand"]),
        ("curve", TimeSeriesEncoder(), "curve"),
        ("vector", PrecomputedEncoder(), "vector"),
    ]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(LogisticRegression(), cv=3, joint=False))
    return save_model(model.fit(X, y), tmp_path_factory.mktemp("served") / "wide.fuse", example=X.head(3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder that is served, and what lies around it."""
    around = tmp_path_factory.mktemp("files")
    inside = around / "shared"
    inside.mkdir()
    (inside / "a.png").write_bytes(PICTURE)
    (around / "outside.png").write_bytes(PICTURE)
    (inside / "link.png").symlink_to(around / "outside.png")
    (inside / "up").symlink_to(around)
    (inside / "device").symlink_to("/dev/zero")
    os.mkfifo(inside / "pipe")
    return inside


@pytest.fixture(scope="module", params=["thread", pytest.param("process", marks=pytest.mark.slow)])
def serve(request, path, folder):
    """Servers in a thread of this process; in the slow run as users start them."""

    @contextlib.contextmanager
    def serve(token):
        if request.param == "process":
            with case.start_server(path, "--max-body", MAX_BODY, "--files", folder, token=token) as server:
                yield server
        else:
            with wire.ServerHere(path, ServerSettings(token=token, max_body=MAX_BODY, files=folder)) as server:
                yield server

    return serve


@contextlib.contextmanager
def unfailing(server, headers=()):
    """Whatever the tests send it, the server answers on, and has answered nothing with an error of its own."""
    server.headers = dict(headers)
    yield server
    assert predict(server, {"title": "a red thing"}).status == 200
    counted = wire.send(server.url, wire.request("/metrics", method="GET", headers=server.headers)).content.decode()
    assert (
        'route="/predict",status="200"' in counted and 'status="500"' not in counted and 'status="504"' not in counted
    )
    assert not [line for line in server.lines if '"event": "error"' in line]


@pytest.fixture(scope="module")
def server(serve):
    with serve(None) as server, unfailing(server):
        yield server


@pytest.fixture(scope="module")
def guarded(serve):
    """A server with a token."""
    with serve(case.TOKEN) as server, unfailing(server, {"Authorization": f"Bearer {case.TOKEN}"}):
        yield server


def predict(server, *rows, **changes):
    body = json.dumps({"rows": rows}).encode()
    return wire.send(server.url, wire.request(body=body, **{"headers": server.headers, **changes}))


def errors(answer):
    """The errors of a 422, which has the form that is documented."""
    assert answer.status == 422, answer
    body = answer.json()
    assert set(body) == {"predictions", "errors"} and body["errors"]
    assert all(set(error) == {"row", "field", "reason"} for error in body["errors"])
    return body["errors"]


# ---------------------------------------------------------------------- generated requests


def operations(server):
    schemathesis = pytest.importorskip("schemathesis")
    document = wire.send(server.url, wire.request("/openapi.json", method="GET", headers=server.headers)).json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=server.url)
    return {operation.ok().path: operation.ok() for operation in schema.get_all_operations()}


def tamed(cell):
    """A cell without gaps in a series, and without numbers of which a model makes an infinite one."""
    if isinstance(cell, list):
        return [0.0 if item is None else tamed(item) for item in cell]
    return float(np.clip(cell, -1e6, 1e6)) if type(cell) in (int, float) else cell


def made_true(body):
    """A body of the schema with what a schema cannot say: files are pictures, vectors have the model's length."""
    fields = {name: copy.deepcopy(body[name]) for name in ("rows", "row", "within", "target") if name in body}
    uploads = {}

    def file(given):
        if "base64" in given:
            return case.in_base64(PICTURE)
        if "path" in given:
            return {"path": "a.png"}
        name = f"part {len(uploads)}"
        uploads[name] = PICTURE
        return {"upload": name}

    for row in fields["rows"] if "rows" in fields else [fields["row"]]:
        photo = row.get("photo")
        if photo is not None:
            if isinstance(photo, list) and "row" in fields:  # one picture can be explained inside
                photo = photo[0]
            row["photo"] = [file(item) for item in photo] if isinstance(photo, list) else file(photo)
        if row.get("vector") is not None:
            row["vector"] = VECTOR
        if isinstance(curve := row.get("curve"), list) and isinstance(curve[0], list):
            row["curve"] = curve[0]
        row.update({name: tamed(cell) for name, cell in row.items() if name != "photo"})
    if isinstance(fields.get("within"), list):  # a vector has no parts
        fields["within"] = [name for name in fields["within"] if name != "vector"]
    return {**fields, **uploads}


def fuzz(server, path, mode, n, change=None, but=()):
    """Statuses by content type of n generated requests, each of whose answers must be as documented."""
    import schemathesis
    from schemathesis.specs.openapi import checks

    left_out = [getattr(checks, name) for name in but]
    statuses = Counter()
    quiet = {"database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}

    @seed(0)
    @settings(max_examples=n, phases=[Phase.generate], **quiet)
    @given(operations(server)[path].as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    def ask(generated):
        headers = dict(server.headers)
        if change is not None:
            generated.body = change(generated.body)
            if generated.media_type == FORM:
                generated.body, headers["Content-Type"] = as_form(generated.body), f"{FORM}; boundary=edge"
        answer = generated.call(headers=headers)
        generated.validate_response(answer, headers=headers, excluded_checks=left_out)
        assert change is None or answer.status_code == 200, answer.content
        statuses[generated.media_type, answer.status_code] += 1

    ask()
    return statuses


def as_form(fields):
    """Each value a part of its own: files as they are, all else as JSON."""
    return wire.form(
        *(
            (b'form-data; name="%b"; filename="x"' % name.encode(), value)
            if isinstance(value, bytes)
            else (b'form-data; name="%b"' % name.encode(), json.dumps(value).encode())
            for name, value in fields.items()
        )
    )


MANY = pytest.mark.parametrize("n", [5, pytest.param(60, marks=pytest.mark.slow)])


def examples_for(server, n):
    """A process gets few: what reads bodies is the same code as in a thread, which gets them all."""
    return n if isinstance(server, wire.ServerHere) else 5


NO_VERDICT = ("positive_data_acceptance", "negative_data_rejection")  # on a body that a test has changed


@pytest.mark.by_turns
@MANY
@pytest.mark.parametrize("route", ASKS)
def test_every_body_of_the_schema_is_answered(guarded, route, n):
    n = examples_for(guarded, n)
    statuses = fuzz(guarded, route, "positive", n, made_true, but=NO_VERDICT)
    assert all(statuses[kind, 200] >= n // 5 for kind in KINDS), statuses


@pytest.mark.by_turns
@MANY
@pytest.mark.parametrize("route", ASKS)
def test_bodies_that_no_schema_covers_are_told_what_is_wrong(guarded, route, n):
    """Generated files are no pictures, and generated vectors have other lengths."""
    n = examples_for(guarded, n)
    statuses = fuzz(guarded, route, "positive", n, but=NO_VERDICT[:1])
    statuses += fuzz(guarded, route, "negative", n)
    assert {status for _, status in statuses} <= {200, 401, 415, 422}  # token and content type are bent too
    assert all(statuses[kind, 422] >= n // 5 for kind in KINDS), statuses


def test_every_other_route_answers_as_the_schema_says(server, guarded):
    for one in (server, guarded):
        assert set(operations(one)) == {*READS, *ASKS}
        for path in READS:
            assert fuzz(one, path, "positive", 1) == {(None, 200): 1}


# ---------------------------------------------------------------------- tokens and hosts


def test_no_other_token_opens_a_route(guarded):
    good = case.TOKEN.encode()
    wrong = [b"Bearer " + good[:n] for n in range(len(good))] + [b"Bearer " + bytes([c]) * 28 for c in range(0x21, 256)]
    wrong += [b"", b"Bearer", good, b"Basic " + good, b"Token " + good, b"Bearer " + good + b"0", b"Bearer " + good * 2]
    wrong += [b"Bearer x " + good, b"Bearer " + good + b" x", b"Bearer," + good, b"Bearer " + b"a" * 30_000]
    wrong += ["Bearer ａ-token".encode(), b"Bearer " + good.upper(), b'Bearer "' + good + b'"', b"Bearer\xa0" + good]
    for header in wrong:
        answer = wire.send(guarded.url, wire.request("/model", method="GET", headers={"Authorization": header}))
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer", header
        assert set(answer.json()) == {"error"}
    for headers in ({"Cookie": case.TOKEN}, {"X-Api-Key": case.TOKEN}, {"Proxy-Authorization": b"Bearer " + good}):
        assert wire.send(guarded.url, wire.request("/model", method="GET", headers=headers)).status == 401
    twice = wire.request(
        "/model", method="GET", headers={"Authorization": b"Bearer " + good, "authorization": "Bearer x"}
    )
    assert wire.send(guarded.url, twice).status == 401
    for control in (0, 11, 127):  # no header at all
        with_control = {"Authorization": b"Bearer " + good + bytes([control])}
        answer = wire.send(guarded.url, wire.request("/model", method="GET", headers=with_control))
        assert answer.status in (0, 400, 401), control


def test_every_route_but_the_open_ones_asks_for_the_token_before_it_reads(guarded):
    for path in (
        *READS,
        *ASKS,
        "/nothing",
        "/docs",
        "/redoc",
        "//predict",
        "/predict/",
        "/health/../model",
        "/%6dodel",
    ):
        for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH", "BREW"):
            answer = wire.send(guarded.url, wire.request(path, method=method, headers={"Content-Length": "0"}))
            assert answer.status == 401 or (path in OPEN and answer.status in (200, 405)), (method, path)
    # Nothing of a body is waited for.
    assert wire.send(guarded.url, wire.request(headers={"Content-Length": "1000000"})).status == 401


HOSTS = ["evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "127.0.0.1@evil.com", "evil.com:8000", "", "0.0.0.0"]
HOSTS += ["[::1].evil.com", "[::2]", "127.0.0.1:8000:80", "127.0.0.1:evil.com", "127.0.0.1#x", "127.0.0.1, evil.com"]
HOSTS += ["10.0.0.1", "[::ffff:10.0.0.1]", "localhost.", "0x7f000001", "127.1", "127.0.0.1/", "user:x@127.0.0.1"]


@pytest.mark.parametrize("host", HOSTS)
def test_other_hosts_are_refused_without_a_token(server, host):
    for path in ("/", "/health", "/model"):
        assert wire.send(server.url, wire.request(path, method="GET", host=host)).status == 403
    assert predict(server, {}, host=host).status == 403


def test_hosts_of_this_machine_and_headers_that_name_others(server):
    for host in ("127.0.0.1", "127.0.0.1:1", "localhost", "LocalHost:8000", "[::1]", "[::1]:8000", "127.0.0.2"):
        assert predict(server, {}, host=host).status == 200, host
    for name in ("X-Forwarded-Host", "Forwarded", "X-Host", "X-Original-URL", "X-Rewrite-URL"):
        assert predict(server, {}, headers={name: "/metrics"}).json()["predictions"]
    assert predict(server, {}, headers={"host": "evil.com"}).status in (400, 403)  # two of them
    assert predict(server, {}, headers={"Host": None}).status in (400, 403)
    for origin in ("http://evil.com", "null", "http://127.0.0.1.evil.com", "https://localhost"):
        assert predict(server, {}, headers={"Origin": origin}).status == 403
    assert predict(server, {}, headers={"Origin": "http://127.0.0.1"}).status == 200


# ---------------------------------------------------------------------- bodies


NO_JSON = {
    "nothing": b"",
    "spaces": b" " * 100_000,
    "lists without end": b"[" * 500_000,
    "objects without end": b'{"a":' * 200_000,
    "too deep": b'{"rows":[{"title":' + b"[" * 40 + b"]" * 40 + b"}]}",
    "deep and closed": b'{"rows":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a name twice": b'{"rows":[{}],"rows":[{"size":1}]}',
    "a column twice": b'{"rows":[{"size":1,"size":2}]}',
    "a name twice by an escape": b'{"rows":[{"size":1,"s\\u0069ze":2}]}',
    "NaN": b'{"rows":[{"size":NaN}]}',
    "Infinity": b'{"rows":[{"size":-Infinity}]}',
    "too large a float": b'{"rows":[{"size":1e400}]}',
    "too large a whole number": b'{"rows":[{"size":' + b"9" * 1_000_000 + b"}]}",
    "just too large": b'{"rows":[{"size":9223372036854775808}]}',
    "half a surrogate pair": b'{"rows":[{"title":"\\ud800"}]}',
    "half a pair in a name": b'{"rows":[{"\\udfff":1}]}',
    "a raw control character": b'{"rows":[{"title":"a\x00b"}]}',
    "no UTF-8": b'{"rows":[{"title":"\xff"}]}',
    "overlong UTF-8": b'{"rows":[{"title":"\xc0\xaf"}]}',
    "a surrogate in UTF-8": b'{"rows":[{"title":"\xed\xa0\x80"}]}',
    "UTF-16": '{"rows":[{}]}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"rows":[{}]}',
    "a comma too many": b'{"rows":[{},]}',
    "a comment": b'{"rows":[{}]}//',
    "two values": b'{"rows":[{}]}{"rows":[{}]}',
    "single quotes": b"{'rows':[{}]}",
    "half": b'{"rows":[{"title":"a re',
    "hexadecimal": b'{"rows":[{"size":0x10}]}',
    "a leading zero": b'{"rows":[{"size":010}]}',
    "a list": b"[{}]",
    "null": b"null",
    "true": b"true",
    "another name": b'{"rows":[{}],"__proto__":{}}',
    "rows as an object": b'{"rows":{"0":{}}}',
    "no rows": b'{"rows":[]}',
    "too many rows": b'{"rows":[' + b"{}," * 256 + b"{}]}",
    "a hundred thousand columns": b'{"rows":[{' + b",".join(b'"c%d":1' % i for i in range(100_000)) + b"}]}",
}


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_body_is_told_in_one_form(server, body):
    for path in ASKS:
        whole = body.replace(b'"rows":[{', b'"row":{').replace(b"}]}", b"}}") if path == "/explain" else body
        answer = wire.send(server.url, wire.request(path, whole))
        assert errors(answer) and len(answer.content) < 100_000
        assert answer.json()["predictions"] in ([], [None])


TEXTS = [
    "\0",
    "\u202e\u200b",
    "😀" * 1000,
    "http://169.254.169.254/latest",
    "/etc/passwd",
    "{{7*7}}",
    "%s%n",
    "a" * 300_000,
]
TEXTS += ["<script>alert(1)</script>", "'; DROP TABLE rows; --", "\uffff", "\r\nSet-Cookie: x=1", "../" * 50]


def test_a_text_is_a_text(server):
    answer = predict(server, *({"title": text, "brand": text} for text in TEXTS))
    assert answer.status == 200 and "set-cookie" not in answer.headers
    proba = [p["probabilities"] for p in answer.json()["predictions"]]
    expected = predict(server, {"title": "other", "brand": "other"}).json()["predictions"][0]["probabilities"]
    assert all(p == pytest.approx(expected) for p in proba)  # no word of them was learned


def test_no_address_in_a_media_column_is_opened(server, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(PICTURE)
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        here = f"127.0.0.1:{trap.getsockname()[1]}"
        names = [
            f"http://{here}/a.png",
            f"//{here}/a",
            f"ftp://{here}/a",
            str(secret),
            secret.as_uri(),
            "a.png",
            "data:,",
        ]
        cells = [
            cell for name in names for cell in (name, [name], {"url": name}, {"path": name} if name != "a.png" else 1)
        ]
        answer = predict(server, *({"photo": cell} for cell in cells))
        assert {error["row"] for error in errors(answer)} == set(range(len(cells)))
        assert answer.json()["predictions"] == [None] * len(cells)
        with pytest.raises(TimeoutError):
            trap.accept()


PATHS = [
    "../outside.png",
    "link.png",
    "up/outside.png",
    "/etc/passwd",
    "device",
    "pipe",
    "",
    ".",
    "..",
    "a\0.png",
    "up",
]
PATHS += [
    "x" * 5000,
    "a.png/../../outside.png",
    "..\\outside.png",
    "%2e%2e/outside.png",
    "~",
    "file:a.png",
    "A" * 254,
]


def test_only_files_inside_the_folder_are_read(server, folder):
    answer = predict(server, {"photo": {"path": "a.png"}}, *({"photo": {"path": name}} for name in PATHS))
    told = errors(answer)
    assert [error["row"] for error in told] == [*range(1, len(PATHS) + 1)]
    told = [error["reason"] for error in told]  # nothing tells them apart
    assert all(reason.startswith("there is no file") and reason.endswith("in the served folder") for reason in told)
    assert str(folder.parent) not in answer.content.decode()
    assert answer.json()["predictions"][0]["prediction"] == "red"


# ---------------------------------------------------------------------- forms


def part(name, content=b"x", file=True, more=b""):
    return b'form-data; name="%b"%b%b' % (name, b'; filename="%b"' % name if file else b"", more), content


def rows_part(*cells):
    return part(b"rows", json.dumps([{"photo": cell} for cell in cells]).encode(), file=False)


def send_form(server, body, kind=f"{FORM}; boundary=edge"):
    return wire.send(server.url, wire.request(body=body, kind=kind))


def test_a_form_that_ends_anywhere_but_at_its_end_is_refused(server):
    whole = wire.form(rows_part({"upload": "a"}), part(b"a", PICTURE))
    assert send_form(server, whole).status == 200 == send_form(server, whole[:-2]).status  # \\r\\n after the end
    for end in (*range(0, len(whole) - 4, 7), len(whole) - 4, len(whole) - 3):
        assert errors(send_form(server, whole[:end]))[0]["row"] is None
    changed = bytearray(whole)
    for place in range(0, len(whole), 7):
        changed[place] ^= 0x81
        assert send_form(server, bytes(changed)).status in (200, 422)
        changed[place] = whole[place]


def test_many_pictures_and_too_many_parts(server):
    names = [f"p{i}" for i in range(200)]
    parts = [part(name.encode(), PICTURE) for name in names]
    answer = send_form(server, wire.form(rows_part([{"upload": name} for name in names]), *parts))
    assert answer.status == 200 and answer.json()["predictions"][0]["prediction"] == "red"
    assert "no cell names" in errors(send_form(server, wire.form(rows_part(None), *parts)))[0]["reason"]
    many = [part(b"%d" % i) for i in range(10_000)]
    assert "more than 4096 parts" in errors(send_form(server, wire.form(*many)))[0]["reason"]


NAMES = ["../../etc/passwd", "/etc/passwd", "C:\\\\boot.ini", "a/b", "é", "n" * 1000, "a;b", "%00", "~", ".", "rows "]


def test_names_of_parts_are_names(server):
    parts = [part(name.encode(), PICTURE) for name in NAMES]
    cells = [{"upload": name.replace("\\\\", "\\")} for name in NAMES]
    answer = send_form(server, wire.form(rows_part(*cells), *parts))
    assert answer.status == 200, answer.content
    assert {p["prediction"] for p in answer.json()["predictions"]} == {"red"}


ODD_FORMS = {
    "no parts": wire.form(),
    "not a form": b"hello",
    "another boundary": wire.form(rows_part(None), boundary=b"other"),
    "rows twice": wire.form(rows_part(None), rows_part(None)),
    "a file twice": wire.form(rows_part({"upload": "a"}), part(b"a", PICTURE), part(b"a", PICTURE)),
    "rows as a file": wire.form(part(b"rows", b"[{}]")),
    "a field that is no file": wire.form(rows_part({"upload": "a"}), part(b"a", PICTURE, file=False)),
    "a part without a name": wire.form(rows_part(None), (b"form-data", b"x")),
    "a part that is no form data": wire.form(rows_part(None), (b"attachment; name=x", b"x")),
    "a name that is no UTF-8": wire.form(rows_part(None), part(b"\xff")),
    "a header of half a megabyte": wire.form(rows_part(None), part(b"n" * 500_000)),
    "a thousand headers": wire.form(rows_part(None), part(b"a", more=b"\r\nX-Y: z" * 1000)),
    "a form in a form": wire.form(part(b"rows", wire.form(rows_part(None), boundary=b"inner"), file=False)),
    "a base64 part": wire.form(
        rows_part({"upload": "a"}), part(b"a", b"iVBO", more=b"\r\nContent-Transfer-Encoding: base64")
    ),
    "an empty file": wire.form(rows_part({"upload": "a"}), part(b"a", b"")),
    "line ends without returns": wire.form(rows_part(None)).replace(b"\r\n", b"\n"),
    "a path": wire.form(rows_part({"path": "../outside.png"})),
    "a list for a name": wire.form(rows_part({"upload": ["a"]}), part(b"a", PICTURE)),
}


@pytest.mark.parametrize("body", ODD_FORMS.values(), ids=ODD_FORMS)
def test_odd_forms_are_told_what_is_wrong(server, body):
    assert errors(send_form(server, body))


@pytest.mark.parametrize(
    "kind, status",
    [
        (FORM, 422),
        (f"{FORM}; boundary=", 422),
        (f"{FORM}; boundary=" + "e" * 5000, 422),
        (f'{FORM}; boundary="edge"', 200),
        (f"{FORM}; boundary=édge", 422),
        (f"{FORM.upper()}; Boundary=edge", 200),
        ("multipart/mixed; boundary=edge", 415),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("application/jsonp", 415),
        ("", 415),
        (None, 415),
    ],
)
def test_content_types(server, kind, status):
    answer = wire.send(server.url, wire.request(body=wire.form(rows_part(None)), headers={"Content-Type": kind}))
    assert answer.status == status, answer.content


# ---------------------------------------------------------------------- files that promise too much


def png(width, height, *, data=b"\0" * 9, more=b""):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def text_bomb():
    packed = zlib.compress(b"a" * 100_000_000)
    name = b"zTXt"
    content = b"Comment\0\0" + packed
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def gif(width, height, n_frames):
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return b"GIF89a" + screen + frame * n_frames + b";"


def bmp(width, height):
    return (
        struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 58, 0, 0, 54, 40, width, height, 1, 24, 0, 4, 0, 0, 0, 0) + b"\0" * 4
    )


BOMBS = {
    "a PNG of 100 000 x 100 000": (png(100_000, 100_000), "pixels; at most 50000000"),
    "a PNG of the largest size": (png(2**31 - 1, 2**31 - 1), ""),
    "a PNG without pixels": (png(0, 0), ""),
    "a PNG whose data are a gigabyte in the making": (png(16, 16, data=b"\0" * 30_000_000), None),
    "a PNG with a text of 100 MB": (png(16, 16, data=b"\0" * 784, more=text_bomb()), None),
    "a GIF of 65 535 x 65 535": (gif(65_535, 65_535, 1), "pixels; at most 50000000"),
    "a GIF of 50 000 frames": (gif(16, 16, 50_000), None),
    "a BMP of 30 000 x 30 000": (bmp(30_000, 30_000), "pixels; at most 50000000"),
    "a BMP of negative sizes": (bmp(-(2**31), -(2**31)), ""),
    "a cut PNG": (PICTURE[:60], ""),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "SVG"),
    "an archive": (b"PK\x03\x04" + b"\0" * 100, ""),
    "a pickle": (b"cos\nsystem\n(S'true'\ntR.", ""),
}


@pytest.mark.parametrize("content, reason", BOMBS.values(), ids=BOMBS)
def test_pictures_that_would_fill_the_memory_or_never_end(server, content, reason):
    """By their headers, or because only the first frame is taken; the row beside them is answered."""
    answer = predict(server, {"photo": case.in_base64(content)}, {"photo": case.in_base64(PICTURE)})
    assert answer.json()["predictions"][1]["prediction"] == "red"
    if reason is not None:
        assert reason in errors(answer)[0]["reason"] and errors(answer)[0]["field"] == "photo"


def test_pictures_of_a_cell_count_together(server):
    large = png(5000, 5000)
    answer = predict(server, {"photo": [case.in_base64(large)] * 3})
    assert "at most 0 are allowed" in errors(answer)[0]["reason"]


TEXT = case.in_base64(PICTURE)["base64"]
NO_BASE64 = [
    TEXT[:-1],
    TEXT + "=",
    TEXT[:40] + "\n" + TEXT[40:],
    TEXT[:40] + " " + TEXT[40:],
    " " + TEXT,
    TEXT + "\n",
    "====",
    "A",
]
NO_BASE64 += [
    "-_-_",
    f"data:image/png;base64,{TEXT}",
    TEXT[:-4] + "é" + TEXT[-3:],
    TEXT + "\0",
    "AA=A",
    "A===",
    TEXT + TEXT + "=",
]


@pytest.mark.parametrize("text", NO_BASE64)
def test_base64_is_read_in_one_way(server, text):
    (error,) = errors(predict(server, {"photo": {"base64": text}}))
    assert error["field"] == "photo" and "base64" in error["reason"]


# ---------------------------------------------------------------------- lengths, chunks and smuggling


def chunked(body, size=65_536, end=b"0\r\n\r\n"):
    pieces = (body[i : i + size] for i in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


BY_CHUNKS = {"Content-Length": None, "Transfer-Encoding": "chunked"}
ROWS = b'{"rows":[{}]}'


def test_bodies_over_the_limit_are_refused_by_their_header_and_while_they_are_read(server):
    for path in ASKS:
        told = wire.send(server.url, wire.request(path, headers={"Content-Length": str(MAX_BODY + 1)}))
        assert told.status == 413 and str(MAX_BODY) in told.json()["error"]
        assert wire.send(server.url, wire.request(path, headers={"Content-Length": "9" * 30})).status in (400, 413)
        whole = wire.request(path, headers=BY_CHUNKS) + chunked(ROWS + b" " * MAX_BODY)
        assert wire.send(server.url, whole).status in (413, 0)  # 0: closed while much was still to be sent
    # The last byte that is taken.
    exact = ROWS + b" " * (MAX_BODY - len(ROWS))
    assert wire.send(server.url, wire.request(body=exact)).status == 200
    assert wire.send(server.url, wire.request(headers=BY_CHUNKS) + chunked(exact)).status == 200
    assert wire.send(server.url, wire.request(headers=BY_CHUNKS) + chunked(ROWS, size=1)).status == 200


@pytest.mark.parametrize(
    "headers, body",
    [
        ({"Content-Length": "-1"}, ROWS),
        ({"Content-Length": "1e3"}, ROWS),
        ({"Content-Length": "+13"}, ROWS),
        ({"Content-Length": "0x0d"}, ROWS),
        ({"Content-Length": "13, 14"}, ROWS),
        ({"Content-Length": "13", "content-length": "14"}, ROWS),
        ({"Content-Length": None, "Transfer-Encoding": "xchunked"}, chunked(ROWS)),
        ({"Content-Length": None, "Transfer-Encoding": "chunked, identity"}, chunked(ROWS)),
        ({"Content-Length": None, "Transfer-Encoding": "gzip, chunked"}, chunked(ROWS)),
        ({"Content-Length": None, "Transfer-Encoding": "chunked", "transfer-encoding": "identity"}, chunked(ROWS)),
        (BY_CHUNKS, b"zz\r\n" + ROWS),
        (BY_CHUNKS, b"-1\r\n" + ROWS),
        (BY_CHUNKS, b"f" * 30 + b"\r\n" + ROWS),
        ({"X\r\n Y": "folded"}, ROWS),
        ({"X ": "space before the colon"}, ROWS),
        ({"X": b"a\0b"}, ROWS),
        ({"X": b"a" * 100_000}, ROWS),
        ({f"X-{i}": "a" * 1000 for i in range(100)}, ROWS),
    ],
)
def test_framing_that_two_servers_could_read_in_two_ways_ends_the_connection(server, headers, body):
    """Nothing after it is taken for a request."""
    second = wire.request("/metrics", method="GET", headers={"Content-Type": None, "Content-Length": None})
    with wire.connect(server.url) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(wire.request(headers={"Connection": None, **headers}) + body + second)
        said = all_of(connection)
        assert statuses_in(said) in ([], [400], [422], [422, 400]) and b"ensemblefuse_requests" not in said


def all_of(connection):
    """All that comes until the server ends the connection."""
    content = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            content += piece
    return content


def statuses_in(content):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", content)]


def test_a_length_and_chunks_together_are_read_once(server):
    """By RFC 9112, 6.1 chunks win, and the connection ends."""
    for length in (4, 13, 500):
        both = {"Content-Length": str(length), "Transfer-Encoding": "chunked", "Connection": None}
        with wire.connect(server.url) as connection:
            connection.sendall(wire.request(headers=both) + chunked(ROWS))
            connection.shutdown(socket.SHUT_WR)
            assert statuses_in(all_of(connection)) in ([], [200], [400])
    # Bytes behind the end of a body are another request, and no part of the first.
    second = wire.request("/model", method="GET", headers={"Content-Length": None, "Content-Type": None})
    with wire.connect(server.url) as connection:
        connection.sendall(wire.request(body=ROWS, headers={"Connection": None}) + second)
        said = all_of(connection)
        assert statuses_in(said) == [200, 200] and said.count(b'"errors":[]') == 1 and said.count(b'"limits"') == 1


def test_lengths_that_are_not_kept(server):
    for length in (len(ROWS) + 1, 10**6):  # the client ends early
        with wire.connect(server.url) as connection:
            connection.sendall(wire.request(body=ROWS, headers={"Content-Length": str(length)}))
            connection.shutdown(socket.SHUT_WR)
            assert wire.receive(connection).status in (0, 400, 422)
    short = wire.send(server.url, wire.request(body=ROWS, headers={"Content-Length": "5"}))
    assert errors(short)[0]["reason"].startswith("it is not JSON")


GARBAGE = [b"\0" * 1000, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET /\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
GARBAGE += [
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET  /  HTTP/1.1\r\n\r\n",
    b"\r\n" * 100 + b"x\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\n\r\n",
]
GARBAGE += [b"GET / HTTP/1.1\r\n: x\r\n\r\n", b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"]


@pytest.mark.parametrize("content", GARBAGE)
def test_what_is_no_http(server, content):
    with wire.connect(server.url) as connection:
        with contextlib.suppress(OSError):  # the server may close before it has read all
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        answer = wire.receive(connection)
        assert answer.status in (0, 400, 403, 404, 414, 431), answer


def test_methods_and_upgrades(server):
    for override in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"):
        assert predict(server, {}, headers={override: "GET"}).json()["predictions"]
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        answer = wire.send(server.url, wire.request("/predict", ROWS, method=method))
        assert answer.status == 405 and answer.headers["allow"] == "POST" and set(answer.json()) == {"error"}
    for upgrade in ("websocket", "h2c"):
        headers = {"Connection": "Upgrade", "Upgrade": upgrade, "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
        asked = wire.request("/health", method="GET", headers={**headers, "Sec-WebSocket-Version": "13"})
        with wire.connect(server.url) as connection:
            connection.sendall(asked)
            assert wire.receive(connection).status == 200
    expecting = wire.request(body=ROWS, headers={"Expect": "100-continue"})
    assert wire.send(server.url, expecting).status == 200  # http.client passes over the 100
    for path in ("/predict/", "/predict?x=1&rows=[]", "/predict%2f", "/PREDICT", "//predict", "/predict/../predict"):
        answer = wire.send(server.url, wire.request(path, ROWS))
        assert answer.status == (200 if "?" in path else 404), path
