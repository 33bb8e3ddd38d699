"""``ensemblefuse serve`` as a process: it starts, answers over a socket, and ends as it is told."""

import json
import signal
import socket
import threading
import zipfile

import httpx
import joblib
import pytest
import serving_case as case

import ensemblefuse
from ensemblefuse import serving
from ensemblefuse.cli import main


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return case.save(tmp_path_factory.mktemp("served") / "colors.fuse")


@pytest.fixture
def cache_of_its_own(tmp_path, monkeypatch):
    """The process is told where its cache would be, and leaves it alone."""
    monkeypatch.setenv("ENSEMBLEFUSE_CACHE", str(tmp_path / "never"))
    return tmp_path / "never"


def test_it_serves_until_it_is_told_to_end(path, cache_of_its_own):
    with case.start_server(path, "--max-rows", 4, "--max-body", "100kB", ready=False) as server:
        assert server.get("/health").status_code == 200  # at once
        server.wait_until_ready()
        rows = [case.row("red"), case.row("blue", photo=None)]
        said = server.post("/predict", json={"rows": rows}).json()["predictions"]
        assert [p["prediction"] for p in said] == ["red", "blue"]
        files = {"a": ("a.png", case.picture("green"))}
        form = server.post("/predict", data={"rows": json.dumps([{"photo": {"upload": "a"}}])}, files=files)
        assert form.json()["predictions"][0]["prediction"] == "green"
        assert server.post("/predict", json={"rows": [{}] * 5}).status_code == 422
        assert server.post("/predict", content=b"x" * 10**6, headers={"content-type": "application/json"}).status_code
        told = server.post("/explain", json={"row": case.row("red"), "within": ["text"]}).json()
        assert told["target"] == "red" and told["parts"]["text"]["effects"]
        assert server.stop() == 0
    assert "serving colors on http://127.0.0.1:" in server.lines[0]
    asked = [json.loads(line) for line in server.lines[1:]]
    assert [line["status"] for line in asked if line.get("route") == "/predict"] == [200, 200, 422, 413]
    assert "thing" not in "".join(server.lines) and not cache_of_its_own.exists()


@pytest.mark.slow
def test_what_is_under_way_is_answered_before_it_ends(path):
    """On a signal: requests whose bytes are all there get their answer, new connections are refused."""
    with case.start_server(path, "--max-batch", 1) as server:
        answers: list = []
        rows = [case.row("red", photo=case.in_base64(case.picture("red", size=(800, 800)))) for _ in range(20)]
        send = lambda: answers.append(server.post("/predict", json={"rows": rows}))
        thread = threading.Thread(target=send)
        thread.start()
        case.wait_until(lambda: "ensemblefuse_batch_rows_count 0.0" not in server.get("/metrics").text)
        assert server.stop(signal.SIGINT) == 0
        thread.join(60)
        assert [p["prediction"] for p in answers[0].json()["predictions"]] == ["red"] * 20
        with pytest.raises(httpx.ConnectError):
            server.get("/health")


@pytest.mark.slow
def test_a_token_from_the_environment_and_from_a_file(path, tmp_path):
    (tmp_path / "token").write_text(f"{case.TOKEN}\n")
    for start in ({"token": case.TOKEN}, {"options": ("--token-file", tmp_path / "token")}):
        with case.start_server(path, *start.pop("options", ()), "--host", "0.0.0.0", **start) as server:
            url = server.url.replace("0.0.0.0", "127.0.0.1")
            assert httpx.get(f"{url}/model").status_code == 401
            assert httpx.get(f"{url}/model", headers={"authorization": f"Bearer {case.TOKEN}"}).status_code == 200
        assert case.TOKEN not in "".join(server.lines)


def failure(path, *options):
    process = case.start_process(path, *options)
    _, told = process.communicate(timeout=120)
    return process.returncode, told.splitlines()


@pytest.mark.slow
def test_it_ends_at_once_while_the_model_is_being_loaded(path):
    with case.start_server(path, ready=False) as server:
        assert server.stop() == 0


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_the_process(path, tmp_path):
    """Found in the background, when the port is open already: its types, and what it predicts."""
    code, lines = failure(_with_changed_example(path, tmp_path / "changed.fuse"))
    assert code == 1 and lines[-1].startswith("error: ") and "gives other values for the example" in lines[-1]
    assert len(lines) == 2 and lines[0].startswith("serving changed on")


def _with_changed_example(path, target):
    """A sealed file whose model does not predict what the file says that it did."""
    from ensemblefuse.persistence.archive import MANIFEST, write_archive

    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read(MANIFEST))
        members = {name: archive.read(name) for name in manifest.pop("members")}
    said = manifest["example"]["predictions"]["predict_proba"]
    manifest["example"]["predictions"]["predict_proba"] = [row[::-1] for row in said]
    write_archive(target, manifest, members)
    return target


@pytest.mark.slow
def test_files_that_are_no_models_and_ports_that_are_taken(path, tmp_path):
    (tmp_path / "no.fuse").write_bytes(b"PK\x03\x04 and no more")
    code, lines = failure(tmp_path / "no.fuse")
    assert code == 1 and len(lines) == 1 and "is damaged or incomplete" in lines[0]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, lines = failure(path, "--port", taken.getsockname()[1])
    assert code == 1 and len(lines) == 1 and lines[0].endswith("in use. Choose another port with --port.")
    assert lines[0].count("127.0.0.1") == 1


def test_ctrl_c_before_the_address_is_bound_ends_it_as_later(path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "serve", interrupted)
    assert main(["serve", str(path)]) == 0 and capsys.readouterr().err == ""


def test_the_page_is_part_of_the_package():
    """As `hatch` builds the wheel: every file under the package that git does not ignore."""
    from importlib import resources

    page = resources.files(ensemblefuse) / "serving" / "page"
    assert (page / "index.html").is_file()


def test_a_served_model_is_the_same_after_serving():
    """Requests change nothing in the model that is held."""
    model, _ = case.fit()
    with case.client_of(model) as client:
        before = joblib.hash(model)
        for color in case.COLORS:
            client.post("/predict", json={"rows": [case.row(color), case.row(photo="x"), {}]})
            client.post("/explain", json={"row": case.row(color), "within": True})
        assert joblib.hash(model) == before
