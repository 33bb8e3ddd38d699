"""Who may ask: the token, names of this machine, and what a page of another origin gets."""

import pytest
import serving_case as case

from ensemblefuse.cli import main
from ensemblefuse.serving import ServerSettings

OPEN = ["/", "/health", "/ready", "/page/index.html"]
CLOSED = ["/model", "/example", "/metrics", "/openapi.json", "/nothing"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return case.save(tmp_path_factory.mktemp("served") / "colors.fuse")


@pytest.fixture(scope="module")
def guarded(path):
    with case.client_of(path, ServerSettings(token=case.TOKEN, host="0.0.0.0")) as client:
        yield client


@pytest.fixture(scope="module")
def local(path):
    with case.client_of(path) as client:
        yield client


def bearer(token):
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("route", CLOSED)
def test_all_but_the_page_and_the_probes_need_the_token(guarded, route):
    wrong = [{}, bearer(""), bearer(case.TOKEN[:-1]), bearer(case.TOKEN + "x"), {"authorization": case.TOKEN}]
    wrong += [{"authorization": f"Basic {case.TOKEN}"}, bearer("\xff" * 16)]
    for headers in wrong:
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = guarded.get(route, headers=raw)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert set(answer.json()) == {"error"} and case.TOKEN not in answer.text
    assert guarded.get(route, headers=bearer(case.TOKEN)).status_code == (404 if route == "/nothing" else 200)


@pytest.mark.parametrize("route", OPEN)
def test_the_page_and_the_probes_need_none(guarded, route):
    assert guarded.get(route).status_code == 200


def test_posts_need_the_token_before_anything_is_read(guarded):
    for route in ("/predict", "/explain"):
        assert guarded.post(route, content=b"x", headers={"content-type": "text/plain"}).status_code == 401
    good = {"json": {"rows": [case.row()]}}
    assert guarded.post("/predict", **good).status_code == 401
    assert guarded.post("/predict", **good, headers=bearer(case.TOKEN)).status_code == 200
    assert guarded.post("/predict", **good, headers={"authorization": f"bEARER {case.TOKEN}"}).status_code == 200


def test_two_authorization_headers_are_no_token(guarded):
    headers = [("authorization", f"Bearer {case.TOKEN}"), ("authorization", "Bearer other")]
    assert guarded.get("/model", headers=headers).status_code == 401


def test_with_a_token_the_host_may_be_any(guarded):
    headers = {"host": "models.example.org", "origin": "https://example.org", **bearer(case.TOKEN)}
    assert guarded.get("/model", headers=headers).status_code == 200


def test_the_schema_says_that_a_token_is_needed(guarded):
    document = guarded.get("/openapi.json", headers=bearer(case.TOKEN)).json()
    assert document["security"] == [{"token": []}] and document["paths"]["/health"]["get"]["security"] == []
    assert "401" in document["paths"]["/predict"]["post"]["responses"]
    assert case.TOKEN not in str(document)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:8000", "127.8.8.8"])
def test_without_a_token_names_of_this_machine_are_taken(local, host):
    assert local.get("/model", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost.evil:80", "[::2]"]
)
@pytest.mark.parametrize("route", ["/model", "/health", "/"])
def test_without_a_token_other_names_are_not(local, host, route):
    """A name of a stranger's domain may lead to this machine (DNS rebinding)."""
    assert local.get(route, headers={"host": host}).status_code == 403


def test_without_a_token_pages_of_other_origins_are_refused(local):
    """A form of any page can be sent to this machine; that the page cannot read the answer saves no work."""
    send = lambda origin: local.post("/predict", json={"rows": [case.row()]}, headers={"origin": origin}).status_code
    assert send("http://127.0.0.1") == 200
    assert [send(origin) for origin in ("https://evil.example", "null", "http://127.0.0.1:99")] == [403, 403, 403]


def test_no_other_origin_may_read_answers(local):
    for method in ("GET", "OPTIONS"):
        headers = {"origin": "http://127.0.0.1", "access-control-request-method": "POST"}
        answer = local.request(method, "/model", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_has_the_headers_of_safety(local):
    for answer in (local.get("/"), local.get("/model"), local.get("/nothing"), local.post("/predict")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer" and answer.headers["cache-control"] == "no-store"
        assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("token", ["short", "x" * 15, "with a space " * 3, "é" * 20, "line\n" * 5])
def test_tokens_that_are_refused_are_not_shown(token):
    with pytest.raises(ValueError, match="the token must") as refusal:
        ServerSettings(token=token)
    assert token not in str(refusal.value)


def test_settings_do_not_show_the_token():
    assert case.TOKEN not in repr(ServerSettings(token=case.TOKEN))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_other_machines_need_a_token(host, path, capsys, monkeypatch):
    monkeypatch.delenv("ENSEMBLEFUSE_TOKEN", raising=False)
    with pytest.raises(ValueError, match="can be reached from other machines, so it needs a token"):
        ServerSettings(host=host)
    assert main(["serve", str(path), "--host", host]) == 2
    assert "--token-file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, value", [("max_rows", 0), ("max_body", 1.5), ("timeout", 0), ("port", 70000), ("max_batch", True)]
)
def test_settings_out_of_their_range(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        ServerSettings(**{name: value})


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="files must be a folder"):
        ServerSettings(files=tmp_path / "nothing")


def test_the_token_comes_from_a_file_or_the_environment_only(path, tmp_path, capsys, monkeypatch):
    file = tmp_path / "token"
    assert main(["serve", str(path), "--token-file", str(file)]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err
    file.write_text("secret")
    assert main(["serve", str(path), "--token-file", str(file)]) == 2
    told = capsys.readouterr().err
    assert "at least 16 characters; got 6" in told and "secret" not in told.replace("import secrets; print(secrets", "")
    monkeypatch.setenv("ENSEMBLEFUSE_TOKEN", "")  # set and empty is no way to be without one
    assert main(["serve", str(path)]) == 2
    assert main(["serve", str(path), "--token", "x" * 20]) == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_without_the_extra_the_message_says_what_to_install(path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    assert main(["serve", str(path), "--port", "0"]) == 1
    assert 'pip install "ensemblefuse[serve]"' in capsys.readouterr().err
