"""Many clients at once: every row gets its own answer, nothing of a request stays, and every end is clean."""

import base64
import contextlib
import io
import itertools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import serving_case as case
import serving_wire as wire
from PIL import Image

import ensemblefuse
from ensemblefuse import load_model
from ensemblefuse.serving import ServerSettings

N_CLIENTS = 16
PLENTY = 120.0  # seconds, against hangs


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return case.save(tmp_path_factory.mktemp("served") / "colors.fuse")


class Server(case.RunningServer):
    """A process with folders of its own to write to, all of whose output is kept."""

    def __init__(self, path, folder, *options, token=None):
        self.folder, self.token, self.path, self.options = folder, token, path, options
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        places = {"TMPDIR": "tmp", "HOME": "home", "XDG_CACHE_HOME": "home/.cache", "ENSEMBLEFUSE_CACHE": "cache"}
        places = {name: str(folder / place) for name, place in places.items()}
        for place in places.values():
            Path(place).mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **places, **({} if token is None else {"ENSEMBLEFUSE_TOKEN": token})}
        command = [sys.executable, "-m", "ensemblefuse", "serve", str(path), "--port", "0", *map(str, options)]
        self.output = folder / "stdout"
        with self.output.open("ab") as output:
            pipes = {"stdout": output, "stderr": subprocess.PIPE, "text": True, "cwd": folder}
            super().__init__(subprocess.Popen(command, env=environment, **pipes))

    def __enter__(self):
        self.wait_until_ready()
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait(PLENTY)

    def files(self):
        """Files under its folders, and those that it holds open without a name."""
        open_files = []
        for link in Path(f"/proc/{self.process.pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                open_files.append(os.readlink(link))
        named = {str(file) for file in self.folder.rglob("*") if not file.is_dir() and file != self.output}
        return named | {name for name in open_files if "(deleted)" in name or str(self.folder / "tmp") in name}

    def resident(self):
        """Bytes of memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.fixture(scope="module")
def running(path, tmp_path_factory):
    """Servers that are still running, which is one."""
    servers = []
    with contextlib.ExitStack() as stack:

        def get():
            if not servers or servers[-1].process.poll() is not None:
                folder = tmp_path_factory.mktemp("process")
                servers.append(stack.enter_context(Server(path, folder, "--timeout", PLENTY, token=case.TOKEN)))
            return servers[-1]

        yield get


@pytest.fixture
def server(running):
    return running()


# ---------------------------------------------------------------------- rows that tell whose they are


def distinct(client, i):
    """Cells of a row that no other request has, and the row of JSON."""
    rng = np.random.default_rng([client, i])
    color = tuple(int(v) for v in rng.integers(256, size=3))
    title = f"a {rng.choice(list(case.COLORS))} thing"
    cells = {"photo": case.picture(color), "title": title, "size": float(rng.normal()), "weight": float(rng.normal())}
    for name in ("photo", "title"):
        if rng.random() < 0.2:
            cells[name] = None
    return cells, {**cells, "photo": cells["photo"] and case.in_base64(cells["photo"])}


def expected(model, rows):
    """What the model itself says of cells."""
    columns = {name: [row[name] for row in rows] for name in ("title", "size", "weight")}
    photo = np.empty(len(rows), dtype=object)
    photo[:] = [row["photo"] for row in rows]
    return model.predict_proba(pd.DataFrame({"photo": photo, **columns}))


def as_form(rows):
    """The same rows, whose pictures are files."""
    files, written = {"rows": (None, "")}, []
    for row in rows:
        name = f"file {len(files)}"
        if isinstance(row, dict) and isinstance(row.get("photo"), dict):
            files[name] = base64.b64decode(row["photo"]["base64"])
            row = {**row, "photo": {"upload": name}}
        written.append(row)
    return {"files": {**files, "rows": (None, json.dumps(written))}}


class Client(threading.Thread):
    """Asks one question after the other, and keeps what it was told."""

    def __init__(self, server, number, until):
        super().__init__(daemon=True)
        self.server, self.number, self.until = server, number, until
        self.asked, self.told, self.odd = [], [], []

    def run(self):
        i = 0
        with httpx.Client(base_url=self.server.url, headers=self.server.headers, timeout=PLENTY) as http:
            while not self.until.is_set():
                i += 1
                try:
                    self.ask(http, i)
                except Exception as error:
                    self.odd.append(repr(error))

    def ask(self, http, i):
        cells, rows = zip(*(distinct(self.number, 10 * i + k) for k in range(1 + i % 3)), strict=True)
        bad = [{"photo": "/etc/passwd"}, {"size": "large"}, {"photo": {"base64": "AAAA"}}, 3][i % 4]
        place = i % (len(rows) + 1)
        has_bad = i % 5 == 0
        body = [*rows[:place], *([bad] if has_bad else []), *rows[place:]]
        answer = http.post("/predict", **(as_form(body) if i % 4 == 0 else {"json": {"rows": body}}))
        if answer.status_code != (422 if has_bad else 200):
            self.odd.append((answer.status_code, answer.text[:300]))
            return
        said = answer.json()["predictions"]
        if has_bad:
            assert said.pop(place) is None and {e["row"] for e in answer.json()["errors"]} == {place}
        self.asked += cells
        self.told += [list(p["probabilities"].values()) for p in said]


@contextlib.contextmanager
def trouble(server, n=8):
    """Clients that send a byte at a time and never end, and clients that leave before they are answered."""
    over = threading.Event()

    def drip():
        with wire.connect(server.url) as connection, contextlib.suppress(OSError):
            connection.sendall(wire.request(headers={**server.headers, "Content-Length": "100000"}))
            while not over.wait(0.05):
                connection.sendall(b" ")

    def leave():
        rows = [distinct(99, i)[1] for i in range(40)]
        whole = wire.request(body=json.dumps({"rows": rows}).encode(), headers=server.headers)
        for i in itertools.count():
            if over.wait(0.02):
                return
            with wire.connect(server.url) as connection, contextlib.suppress(OSError):
                connection.sendall(whole if i % 2 else whole[: len(whole) // 2])
                if i % 3 == 0:  # with a reset
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    threads = [threading.Thread(target=work, daemon=True) for work in [drip] * n + [leave] * 2]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(PLENTY)


def load(server, seconds):
    """Clients that have asked for some seconds."""
    until = threading.Event()
    clients = [Client(server, number, until) for number in range(N_CLIENTS)]
    for client in clients:
        client.start()
    until.wait(seconds)
    case.wait_until(lambda: all(client.asked or client.odd for client in clients), PLENTY)
    until.set()
    for client in clients:
        client.join(PLENTY)
    assert not any(client.is_alive() for client in clients)
    return clients


MOST_GROWTH = 150e6  # bytes; one decoded picture of each request kept would be more


@pytest.mark.parametrize("seconds", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_every_client_gets_the_answers_to_its_own_rows(server, path, seconds):
    """Beside bad rows, clients that never end and clients that leave; and the memory stays."""
    with trouble(server):
        load(server, min(1, seconds))
        before = server.resident()
        clients = load(server, seconds)
        after = server.resident()
    assert [odd for client in clients for odd in client.odd] == []
    model = load_model(path)
    asked, told = ([x for client in clients for x in getattr(client, name)] for name in ("asked", "told"))
    assert len(asked) == len(told) >= N_CLIENTS
    assert len({json.dumps(proba) for proba in told}) > len(told) / 2  # a swap would show
    np.testing.assert_allclose(told, expected(model, asked), rtol=1e-5, atol=1e-8)
    assert after - before < MOST_GROWTH
    text = server.get("/metrics", headers=server.headers).text
    assert 'status="500"' not in text and 'route="/predict",status="499"' in text


def begin(server, *, length, headers=()):
    """A connection whose request has a place: the server has asked for its body."""
    connection = wire.connect(server.url, wait=PLENTY)
    usual = {**server.headers, "Content-Length": str(length), "Expect": "100-continue"}
    connection.sendall(wire.request(headers={**usual, **dict(headers)}))
    said = b""
    while not said.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, said
        said += piece
    assert said.startswith(b"HTTP/1.1 100 "), said
    return connection


def test_a_full_queue_says_try_again_and_all_in_it_are_answered(server):
    body = json.dumps({"rows": [case.row("green")]}).encode()
    waiting = [begin(server, length=len(body)) for _ in range(ServerSettings().max_queue)]
    refused = wire.send(server.url, wire.request(body=body, headers=server.headers))
    assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1 and set(refused.json()) == {"error"}
    assert server.get("/ready").status_code == 200 == server.get("/model", headers=server.headers).status_code
    for connection in waiting:
        with connection:
            connection.sendall(body)
            assert wire.receive(connection).json()["predictions"][0]["prediction"] == "green"
    assert wire.send(server.url, wire.request(body=body, headers=server.headers)).status == 200


def test_a_body_that_does_not_end_in_time_is_told_so_and_others_are_answered(path):
    """A client that waits on with its body costs a place until then, and no more."""
    with wire.ServerHere(path, ServerSettings(timeout=2.0, max_queue=2)) as server:
        server.headers = {}
        body = json.dumps({"rows": [case.row("blue")]}).encode()
        with begin(server, length=100) as first, begin(server, length=100) as second:
            second.sendall(b'{"rows"')
            assert wire.send(server.url, wire.request(body=body)).status == 503
            for connection in (first, second):
                late = wire.receive(connection)
                assert late.status == 504 and "2 seconds" in late.json()["error"]
        case.wait_until(lambda: wire.send(server.url, wire.request(body=body)).status == 200)


# ---------------------------------------------------------------------- clients that are slow on purpose

QUICK = ServerSettings(header_timeout=0.8, timeout=20.0, max_queue=4)
HALVES = [b"", b"G", b"GET /model HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"POST /predict HTTP/1.1\r\nX-A: " + b"a" * 5000]


def ended(connection):
    """Whether the server has closed a connection, and what it said before."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            said += piece
    return said


def n_open(server):
    return len(server.server.server_state.connections)


def test_a_hundred_requests_that_are_half_sent_are_closed_and_nobody_waits_for_them(path):
    with wire.ServerHere(path, QUICK) as server, contextlib.ExitStack() as stack:
        start = time.monotonic()
        waiting = [stack.enter_context(wire.connect(server.url, wait=PLENTY)) for _ in range(100)]
        for i, connection in enumerate(waiting):
            connection.sendall(HALVES[i % len(HALVES)])
        assert wire.send(server.url, wire.request("/model", method="GET")).status == 200
        for connection in waiting:
            assert ended(connection).startswith(b"HTTP/1.1 408 ")
        assert 0.5 < time.monotonic() - start < 10
        case.wait_until(lambda: n_open(server) == 0)


def test_a_head_that_drips_is_not_prolonged_by_each_drop(path):
    with wire.ServerHere(path, QUICK) as server, wire.connect(server.url, wait=PLENTY) as connection:
        start = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for letter in b"GET /model HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: " + b"a" * 200:
                connection.sendall(bytes([letter]))
                time.sleep(0.05)
        assert time.monotonic() - start < 5


def test_a_second_request_on_a_connection_has_as_long_and_an_idle_one_is_closed(path):
    whole = wire.request("/model", method="GET", headers={"Connection": "keep-alive"})
    with wire.ServerHere(path, QUICK) as server:
        server.server.config.timeout_keep_alive = 1
        with wire.connect(server.url, wait=PLENTY) as idle, wire.connect(server.url, wait=PLENTY) as half:
            for _ in range(2):  # the time of a head begins anew with each request
                time.sleep(0.5)
                for connection in (idle, half):
                    connection.sendall(whole)
                    assert wire.receive(connection).status == 200
            half.sendall(whole[:20])
            start = time.monotonic()
            assert ended(half) == b"" == ended(idle)
            assert time.monotonic() - start < 10
        case.wait_until(lambda: n_open(server) == 0)


@pytest.mark.by_turns
@pytest.mark.parametrize("drip", [0, 1], ids=["no more", "drops"])
def test_a_body_that_comes_too_slowly_gives_up_its_place(path, drip):
    with wire.ServerHere(path, QUICK) as server:
        server.headers = {}
        waiting = [begin(server, length=1000) for _ in range(QUICK.max_queue)]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(20 * drip):
                for connection in waiting:
                    connection.sendall(b"{")
                time.sleep(0.1)
        for connection in waiting:
            with connection:
                late = wire.receive(connection)
                assert late.status == 408 and "more slowly than 10 kB in a second" in late.json()["error"]
        body = json.dumps({"rows": [case.row("blue")]}).encode()
        assert wire.send(server.url, wire.request(body=body)).status == 200
        case.wait_until(lambda: n_open(server) == 0)


def test_a_large_body_may_take_its_time(path):
    """At 40 kB in a second, four times as fast as asked for, longer than the time of a head."""
    body = json.dumps({"rows": [case.row("blue")]}).encode() + b" " * 70_000
    with wire.ServerHere(path, QUICK) as server:
        server.headers = {}
        with begin(server, length=len(body)) as connection:
            for at in range(0, len(body), 4000):
                connection.sendall(body[at : at + 4000])
                time.sleep(0.1)
            assert wire.receive(connection).json()["predictions"][0]["prediction"] == "blue"


# ---------------------------------------------------------------------- what stays


SECRETS = {
    name: f"planted{name}0f3a9c" for name in ("text", "file", "part", "column", "query", "path", "label", "agent")
}


def noise(n_bytes):
    """A picture that does not get smaller, with a text in it."""
    side = int((n_bytes / 3) ** 0.5) + 1
    pixels = np.random.default_rng(0).integers(256, size=(side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_nothing_of_a_request_is_logged_or_kept_on_the_disk(server):
    before = server.files()
    picture = noise(1_500_000)
    in_base64, said = case.in_base64(picture), {**SECRETS}
    headers = {**server.headers, "User-Agent": said["agent"]}
    ask = lambda path, *, kind=None, **options: httpx.post(
        server.url + path, headers={**headers, **({"Content-Type": kind} if kind else {})}, timeout=PLENTY, **options
    )
    seen = []
    for row in (
        case.row(photo=in_base64, title=said["text"]),
        case.row(photo={"base64": in_base64["base64"][:-400]}, title=said["text"]),
        case.row(title=said["text"] * 60_000),
        {said["column"]: said["text"]},
        {"photo": said["file"], "title": [said["text"]], "size": said["text"]},
        {"photo": {"path": said["file"]}},
    ):
        seen.append(ask(f"/predict?q={said['query']}", json={"rows": [row]}).status_code)
        seen.append(ask("/explain", json={"row": row, "within": True, "target": said["label"]}).status_code)
        seen.append(ask("/explain", json={"row": row, "within": ["text"]}).status_code)
    for content in (picture, picture[:-5000], said["text"].encode() * 60_000):
        files = {said["part"]: (said["file"], content)}
        rows = [{"photo": {"upload": said["part"]}, "title": said["text"]}]
        seen.append(ask("/predict", data={"rows": json.dumps(rows)}, files=files).status_code)
        seen.append(ask("/predict", data={"rows": json.dumps([{}])}, files=files).status_code)
        seen.append(ask("/predict", data={"rows": said["text"]}, files=files).status_code)
    seen.append(ask("/predict", content=said["text"], kind="application/json").status_code)
    seen.append(ask("/predict", content=said["text"], kind=said["text"]).status_code)
    seen.append(ask(f"/{said['path']}").status_code)
    odd = wire.request(f"/page/{said['path']}", method=said["path"].upper(), headers={said["column"]: said["text"]})
    seen.append(wire.send(server.url, odd).status)
    seen.append(wire.send(server.url, said["text"].encode() + b"\r\n\r\n").status)
    assert {200, 422, 404, 415, 400} <= set(seen) and 500 not in seen
    assert server.files() == before
    case.wait_until(lambda: server.lines and '"/predict"' in "".join(server.lines))
    told = "\n".join(server.lines) + server.output.read_text() + server.get("/metrics", headers=headers).text
    assert told.count('"route": "/predict"') >= 17  # those of this test
    pieces = [in_base64["base64"][at : at + 24] for at in range(0, 2000, 50)]
    for secret in (*SECRETS.values(), case.TOKEN, *pieces, str(server.path.parent)):
        assert secret.lower() not in told.lower(), secret


# ---------------------------------------------------------------------- ends


def unbroken(server, over, seen):
    """Asks on and on; an answer is one or a clean refusal, until no connection is taken any more."""
    body = json.dumps({"rows": [case.row("red")]}).encode()
    while not over.is_set():
        try:
            answer = wire.send(server.url, wire.request(body=body, headers=server.headers))
        except ConnectionRefusedError:
            return
        except OSError as error:
            seen.append(repr(error))
            return
        if answer.status == 200:
            assert answer.json()["predictions"][0]["prediction"] == "red"
        elif answer.status:
            answer.json()["error"]
        seen.append(answer.status)


def test_what_was_accepted_is_answered_before_the_process_ends(server):
    bodies = [json.dumps({"rows": [case.row(color)] * 5}).encode() for color in case.COLORS] * 4
    accepted = [begin(server, length=len(body)) for body in bodies]
    over, seen = threading.Event(), []
    threads = [threading.Thread(target=unbroken, args=(server, over, seen), daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    case.wait_until(lambda: seen.count(200) > 20)
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(OSError):  # no new connection is taken, while the old ones go on
        case.wait_until(lambda: wire.connect(server.url).close())
    for connection, body, color in zip(accepted, bodies, list(case.COLORS) * 4, strict=True):
        with connection:
            connection.sendall(body)
            answer = wire.receive(connection)
            assert answer.status == 200
            assert [p["prediction"] for p in answer.json()["predictions"]] == [color] * 5
    assert server.process.wait(PLENTY) == 0
    over.set()
    for thread in threads:
        thread.join(PLENTY)
    assert set(seen) <= {200, 503, 0, repr(ConnectionResetError(104, "Connection reset by peer"))}, set(seen)
    assert not [line for line in server.lines if '"event": "error"' in line or "Traceback" in line]


@pytest.mark.slow
@pytest.mark.parametrize("first, second", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_a_second_signal_ends_it_at_once(path, tmp_path, first, second):
    """Though a client keeps its place for as long as it may."""
    with Server(path, tmp_path, "--timeout", 10_000) as server, begin(server, length=1000):
        server.process.send_signal(first)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(1)
        server.process.send_signal(second)
        assert server.process.wait(PLENTY) == -second


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--cache",)])
def test_a_killed_server_starts_again_as_if_nothing_had_been(path, tmp_path, options):
    """On the same port, with the same cache, and nothing left over."""
    cells, row = distinct(0, 0)
    proba = expected(load_model(path), [cells])[0]
    port, folder = "0", tmp_path / "process"
    for _ in range(2):
        with Server(path, folder, "--port", port, *options) as server:
            port = server.url.rpartition(":")[2]
            until = threading.Event()
            clients = [Client(server, number, until) for number in range(4)]
            for client in clients:
                client.start()
            case.wait_until(lambda clients=clients: sum(len(client.asked) for client in clients) > 30, PLENTY)
            server.process.kill()
            server.process.wait(PLENTY)
            until.set()
    with Server(path, folder, "--port", port, *options) as server:
        answer = server.post("/predict", json={"rows": [row]}).json()
        np.testing.assert_allclose(list(answer["predictions"][0]["probabilities"].values()), proba)
        assert server.stop() == 0
    left = {Path(name).relative_to(folder) for name in server.files()}
    assert all(name.parts[0] == "cache" and options for name in left)
    assert not [name for name in left if re.search(r"lock|tmp|temp|/\.|~|^\.", str(name))]
    assert bool(left) == bool(options)
    if options:  # the cache is whole
        with ensemblefuse.config_context(cache=folder / "cache"):
            assert expected(load_model(path), [cells])[0] == pytest.approx(proba)
