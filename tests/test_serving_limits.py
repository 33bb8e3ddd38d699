"""Bodies that are too large, too deep or no JSON; queues that are full; answers that come too late."""

import asyncio
import gc
import json
import logging
import threading
import time

import numpy as np
import pytest
import serving_case as case

from ensemblefuse.serving import ServerSettings, make_app
from ensemblefuse.serving._app import Service
from ensemblefuse.serving._errors import Unreadable
from ensemblefuse.serving._json import parse_json
from ensemblefuse.serving._model import ServedModel
from ensemblefuse.serving._worker import Job, Worker

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return case.save(tmp_path_factory.mktemp("served") / "colors.fuse")


@pytest.fixture(scope="module")
def client(path):
    with case.client_of(path, ServerSettings(max_body=50_000, max_rows=5)) as client:
        yield client


# ---------------------------------------------------------------------- JSON


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON (line 1, column 2)"),
        (b"\xff\xfe", "it is not UTF-8: byte 0"),
        (b"\xef\xbb\xbf{}", "it is not JSON"),
        ('{"rows": "é"}'.encode("latin-1"), "it is not UTF-8: byte 10"),
        (b'{"rows": [NaN]}', "NaN is not a number in JSON"),
        (b'{"rows": [-Infinity]}', "-Infinity is not a number in JSON"),
        (b'{"rows": [1e999]}', "too large for a float"),
        (b'{"rows": [9223372036854775808]}', "too large for 64 bits"),
        (b'{"rows": [' + b"9" * 10_000 + b"]}", "too large for 64 bits"),
        (b'{"rows": [], "rows": []}', "an object names 'rows' more than once"),
        (b'{"rows": "\\ud800"}', "half of a surrogate pair"),
        (b'{"\\udc00": 1}', "half of a surrogate pair"),
        (b"[" * 20_000 + b"]" * 20_000, "more than 32 levels"),
        (b"[" * 20_000, "more than 32 levels"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "more than 32 levels"),
    ],
)
def test_json_that_is_refused(client, content, reason):
    with pytest.raises(Unreadable) as refusal:
        parse_json(content)
    assert reason in refusal.value.faults[0].reason
    for route in ("/predict", "/explain"):
        answer = client.post(route, content=content, headers=JSON)
        assert answer.status_code == 422 and answer.json()["predictions"] == []
        assert answer.json()["errors"] == [{"row": None, "field": None, "reason": refusal.value.faults[0].reason}]


def test_json_that_is_taken():
    text = '{"a": [1, -9223372036854775808, 0.5, true, null, "\U0001f600", "\\ud83d\\ude00"]}'
    assert parse_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize("body", [[], "x", 3, None, {}, {"row": {}}, {"rows": [], "more": 1}, {"rows": {}}])
def test_bodies_of_another_shape(client, body):
    answer = client.post("/predict", content=json.dumps(body).encode(), headers=JSON)
    assert answer.status_code == 422 and answer.json()["predictions"] == [] and "expected" in answer.text


# ---------------------------------------------------------------------- forms


def form(*parts, boundary=b"B", end=b"--B--\r\n"):
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + end


ROWS = b'Content-Disposition: form-data; name="rows"\r\n\r\n[{"title": "a red thing"}]'
TYPE = "multipart/form-data; boundary=B"


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "content, kind, reason",
    [
        (form(ROWS), "multipart/form-data", "must name its boundary"),
        (form(ROWS, end=b""), TYPE, "cut short"),
        (b"", TYPE, "cut short"),
        (b"nonsense", TYPE, "it is not a form"),
        (form(ROWS, ROWS), TYPE, "several parts of this name"),
        (form(b"Content-Disposition: form-data\r\n\r\n[]"), TYPE, "needs Content-Disposition"),
        (form(b"\r\n[]"), TYPE, "needs Content-Disposition"),
        (form(ROWS.replace(b"rows", b"\xff")), TYPE, "the name of a part is not UTF-8"),
        (form(ROWS.replace(b"red", b"\xff")), TYPE, "it is not UTF-8"),
        (form(ROWS.replace(b'"rows"', b'"rows"; filename="x"')), TYPE, "expected 'rows'; it is absent"),
        (form(*[ROWS.replace(b"rows", b"%d" % i) for i in range(4100)])[: 10**6], TYPE, "more than 4096 parts"),
    ],
)
def test_forms_that_are_refused(path, content, kind, reason):
    with case.client_of(path) as client:
        answer = client.post("/predict", content=content, headers={"content-type": kind})
        assert answer.status_code == 422 and reason in answer.json()["errors"][0]["reason"]


def test_a_form_without_files_is_taken(client):
    answer = client.post("/predict", content=form(ROWS), headers={"content-type": TYPE})
    assert answer.status_code == 200 and answer.json()["predictions"][0]["prediction"] == "red"


# ---------------------------------------------------------------------- sizes and types


def test_a_body_that_is_too_large_by_its_header_and_by_its_bytes(client):
    assert client.post("/predict", content=b"x" * 50_001, headers=JSON).status_code == 413
    chunks = (b"x" * 10_000 for _ in range(6))  # without a content-length
    answer = client.post("/predict", content=chunks, headers=JSON)
    assert answer.status_code == 413 and "more than 50000 bytes" in answer.json()["error"]
    assert client.post("/predict", content=b" " * 50_000, headers=JSON).status_code == 422


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_other_content_types(client, kind):
    answer = client.post("/predict", content=b"{}", headers={} if kind is None else {"content-type": kind})
    assert answer.status_code == 415 and "application/json or multipart/form-data" in answer.json()["error"]


def test_a_compressed_body_is_refused(client):
    assert client.post("/predict", content=b"{}", headers={**JSON, "content-encoding": "gzip"}).status_code == 415


def test_a_charset_parameter_is_no_other_type(client):
    body = json.dumps({"rows": [case.row()]}).encode()
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post("/predict", content=body, headers=headers).status_code == 200


def test_unknown_paths_and_methods(client):
    for method, route, status in [("GET", "/predict", 405), ("DELETE", "/model", 405), ("GET", "/model/", 404)]:
        answer = client.request(method, route)
        assert answer.status_code == status and set(answer.json()) == {"error"}
    assert client.get("/predict").headers["allow"] == "POST"
    assert client.get("/docs").status_code == 404


# ---------------------------------------------------------------------- waiting


class Gate:
    """Holds every prediction until it is opened, and keeps how many rows each batch had."""

    def __init__(self, monkeypatch):
        self.open, self.begun, self.batches = threading.Event(), threading.Event(), []
        original = ServedModel.predict

        def wait(model, rows):
            self.batches.append(len(rows))
            self.begun.set()
            assert self.open.wait(60)
            return original(model, rows)

        monkeypatch.setattr(ServedModel, "predict", wait)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


def in_thread(client, *rows, answers):
    def send():
        answers.append(client.post("/predict", json={"rows": list(rows)}))

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_what_waits_is_predicted_together_and_everyone_gets_its_own(path, gate):
    with case.client_of(path, ServerSettings(max_batch=4)) as client:
        service: Service = client.app.state.service
        answers: list = []
        threads = [in_thread(client, case.row("red"), answers=answers)]
        assert gate.begun.wait(60)
        for color in ("green", "blue", "red"):
            threads.append(in_thread(client, case.row(color), case.row("blue"), answers=answers))
        case.wait_until(lambda: service.worker.n_waiting() == 3)
        gate.open.set()
        for thread in threads:
            thread.join(60)
        assert gate.batches == [1, 4, 2]
        assert all(answer.status_code == 200 for answer in answers)
        got = sorted([p["prediction"] for p in answer.json()["predictions"]] for answer in answers)
        assert got == [["blue", "blue"], ["green", "blue"], ["red"], ["red", "blue"]]


def test_many_rows_go_in_several_batches_and_keep_their_order(path):
    colors = [list(case.COLORS)[i % 3] for i in range(23)]
    with case.client_of(path, ServerSettings(max_batch=4)) as client:
        said = client.post("/predict", json={"rows": [case.row(color) for color in colors]}).json()["predictions"]
        assert [p["prediction"] for p in said] == colors and [p["row"] for p in said] == list(range(23))


def test_a_full_queue_says_try_again(path, gate):
    with case.client_of(path, ServerSettings(max_queue=1)) as client:
        answers: list = []
        thread = in_thread(client, case.row(), answers=answers)
        assert gate.begun.wait(60)
        refused = client.post("/predict", json={"rows": [case.row()]})
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
        gate.open.set()
        thread.join(60)
        assert answers[0].status_code == 200
        assert client.post("/predict", json={"rows": [case.row()]}).status_code == 200


def test_an_answer_that_takes_too_long_and_the_rows_that_nobody_waits_for(path, gate):
    with case.client_of(path, ServerSettings(timeout=0.3)) as client:
        answers: list = []
        threads = [in_thread(client, case.row(), answers=answers)]
        assert gate.begun.wait(60)
        threads.append(in_thread(client, case.row(), answers=answers))
        for thread in threads:
            thread.join(60)
        assert [answer.status_code for answer in answers] == [504, 504]
        assert "more than 0.3 seconds" in answers[0].json()["error"]
        gate.open.set()
        case.wait_until(lambda: client.app.state.service.worker.n_waiting() == 0)
        assert gate.batches == [1]  # the second was never begun with


def test_what_the_model_raises_when_nobody_waits_is_not_printed(path, gate, monkeypatch, caplog):
    def explain(*args):
        gate.begun.set()
        assert gate.open.wait(60)
        raise KeyError("a private cell")

    monkeypatch.setattr(ServedModel, "explain", explain)
    with case.client_of(path, ServerSettings(timeout=0.3)) as client:
        assert client.post("/explain", json={"row": case.row()}).status_code == 504
        gate.open.set()
    gc.collect()
    assert "private" not in caplog.text


def test_before_the_model_is_loaded_only_the_process_is_alive(path, monkeypatch):
    from starlette.testclient import TestClient

    from ensemblefuse.serving import _app

    wait, original = threading.Event(), _app.open_model
    monkeypatch.setattr(_app, "open_model", lambda *args: (wait.wait(60), original(*args))[1])
    app = make_app(path)
    with TestClient(app, base_url=case.LOCAL) as client:
        assert client.get("/health").json() == {"status": "alive"}
        for answer in (client.get("/ready"), client.post("/predict", json={"rows": [case.row()]})):
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
            assert answer.json() == {"error": "the model is being loaded"}
        wait.set()
        case.wait_until(lambda: client.get("/ready").status_code == 200)
        app.state.service.drain()
        assert client.get("/ready").json() == {"error": "the server is shutting down"}
        assert client.post("/predict", json={"rows": [case.row()]}).status_code == 503


# ---------------------------------------------------------------------- the model fails


def test_a_row_that_the_model_cannot_take_spoils_no_other(path, monkeypatch):
    """Not a cell that cannot be encoded, but an exception from anywhere in the model."""
    original = ServedModel._predict

    def refuse(model, X):
        if (X["weight"] == 13).any():
            raise KeyError("13 of another client")
        return original(model, X)

    monkeypatch.setattr(ServedModel, "_predict", refuse)
    with case.client_of(path) as client:
        rows = [case.row("red"), case.row("red", weight=13), case.row("blue")]
        body = client.post("/predict", json={"rows": rows}).json()
        assert [p and p["prediction"] for p in body["predictions"]] == ["red", None, "blue"]
        assert body["errors"] == [{"row": 1, "field": None, "reason": "KeyError"}]


def test_numbers_that_are_not_finite_are_no_answer(path, monkeypatch):
    with case.client_of(path) as client:
        parts = client.app.state.service.worker.model.parts
        monkeypatch.setattr(type(parts.fusion), "predict_proba", lambda self, Z: np.full((len(Z), 3), np.nan))
        body = client.post("/predict", json={"rows": [case.row()]}).json()
        assert body["predictions"] == [None] and "no finite number" in body["errors"][0]["reason"]


def test_logs_tell_the_shape_of_a_request_and_nothing_else(path, caplog, monkeypatch):
    secret = "a very private title"
    with caplog.at_level(logging.INFO, logger="ensemblefuse.serving"), case.client_of(path) as client:
        body = {"rows": [case.row(title=secret), case.row(size=secret), {secret: 1}]}
        size = len(client.post("/predict", json=body).request.content)
        client.get(f"/{secret}?{secret}", headers={"user-agent": secret})
        monkeypatch.setattr(Service, "_predict", lambda *args: {}[secret])
        failed = client.post("/predict", json=body)  # a fault of the server's own
        assert failed.status_code == 500 and secret not in failed.text
    assert secret not in caplog.text
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    asked = next(line for line in lines if line.get("route") == "/predict")
    assert {**asked, "ms": 0} == {
        **{"event": "request", "route": "/predict", "method": "POST", "status": 422, "rows": 3, "bytes": size, "ms": 0}
    }
    assert next(line for line in lines if line.get("route") == "other")["status"] == 404
    assert next(line for line in lines if line["event"] == "error")["class"] == "KeyError"


def test_the_client_that_leaves_is_not_predicted(path, gate):
    """A client that closes the connection while its rows wait frees its place."""
    with case.start_in_thread(path, ServerSettings(port=0)) as (url, service):
        answers: list = []
        import httpx

        first = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/predict", json={"rows": [case.row()]}, timeout=60))
        )
        first.start()
        assert gate.begun.wait(60)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/predict", json={"rows": [case.row()]}, timeout=0.5)
        case.wait_until(lambda: service._n_running == 1)
        gate.open.set()
        first.join(60)
        assert answers[0].status_code == 200
        time.sleep(0.1)
        assert gate.batches == [1]


# ---------------------------------------------------------------------- cells that cost much


@pytest.mark.parametrize(
    "column, most, fits, too_much, reason",
    [
        ("title", {"max_characters": 9}, "a red one", "a red one!", "a text of 10 characters; at most 9 are allowed"),
        ("title", {}, "red", "red " * 1_300_000, "a text of 5200000 characters; at most 500000 are allowed"),
    ],
)
def test_a_text_that_is_too_long_is_a_fault_of_its_row_alone(path, column, most, fits, too_much, reason):
    with case.client_of(path, ServerSettings(**most)) as client:
        start = time.monotonic()
        answer = client.post("/predict", json={"rows": [{column: too_much}, {column: fits}]})
        assert time.monotonic() - start < 5
        assert answer.status_code == 422 and answer.json()["predictions"][1]["prediction"] == "red"
        assert answer.json()["errors"] == [{"row": 0, "field": column, "reason": reason}]
        assert client.post("/explain", json={"row": {column: too_much}}).json()["errors"][0]["reason"] == reason


def test_a_row_that_is_looked_into_may_have_a_tenth(path):
    with case.client_of(path, ServerSettings(max_characters=100)) as client:
        for n, status in ((2, 200), (20, 422)):
            answer = client.post("/explain", json={"row": {"title": "red " * n}, "within": ["text"]})
            assert answer.status_code == status
        assert answer.json()["errors"][0]["field"] == "within" and "10%" in answer.json()["errors"][0]["reason"]
        assert client.post("/explain", json={"row": {"title": "red " * 20}}).status_code == 200


def slow_worker(log, seconds=0.05):
    """A worker whose batches take as long as their rows cost, and its model."""

    class Model:
        def predict(self, rows):
            log.append([row["name"] for row in rows])
            time.sleep(seconds * sum(row["cost"] for row in rows))
            return [{"answer": row["name"]} for row in rows]

    return Worker(Model, max_batch=4)


def queued(worker, loop, name, *costs):
    rows = [{"name": f"{name}{i}", "cost": cost} for i, cost in enumerate(costs)]
    job = Job(rows, loop.create_future(), list(costs))
    worker.submit(job)
    return job.future


def answered(*requests):
    """The batches in which a worker answers requests that wait from the beginning."""
    log: list = []

    async def ask():
        worker, loop = slow_worker(log), asyncio.get_running_loop()
        futures = [queued(worker, loop, *request) for request in requests]
        worker.start()
        told = await asyncio.gather(*futures)
        worker.close(10)
        return told

    told = asyncio.run(ask())
    for (name, *costs), answers in zip(requests, told, strict=True):
        assert [answer["answer"] for answer in answers] == [f"{name}{i}" for i in range(len(costs))]
    return log


def test_a_batch_costs_no_more_than_one_large_cell():
    assert answered(("a", 0.6, 0.6, 0.3, 1.0, 2.0, 0.2)) == [["a0"], ["a1", "a2"], ["a3"], ["a4"], ["a5"]]


def test_cheap_rows_do_not_wait_for_all_expensive_ones_before_them():
    large = [(name, 1.0, 1.0) for name in "abc"]
    log = answered(*large, *((f"s{i}", 0.0) for i in range(9)), ("many", *[0.01] * 9))
    assert log[0] == ["s00", "s10", "s20", "s30"]  # all at once, as far as a batch goes
    first_large = [i for i, batch in enumerate(log) if batch[0][0] in "abc"]
    assert first_large[0] == 4 and log[4] == ["a0"] and len(log) == 6 + 5
    # Of the large ones each has its turn before any has its second.
    assert [log[i] for i in first_large] == [["a0"], ["b0"], ["c0"], ["a1"], ["b1"], ["c1"]]


def test_a_long_request_lets_others_in_between():
    assert answered(("long", *[0.0] * 12), ("short", 0.0)) == [
        ["long0", "long1", "long2", "long3"],
        ["short0", "long4", "long5", "long6"],
        ["long7", "long8", "long9", "long10"],
        ["long11"],
    ]
