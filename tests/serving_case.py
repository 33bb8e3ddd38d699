"""A small model of pictures, texts and numbers, and servers of it, for the tests of serving."""

import base64
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ensemblefuse import DecisionFusionClassifier, ImageEncoder, make_fusion_pipeline, save_model

COLORS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
TOKEN = "a-token-for-tests-0123456789"
LOCAL = "http://127.0.0.1"


def picture(color, *, size=(16, 16), shade=0):
    """Bytes of a PNG."""
    red, green, blue = COLORS.get(color, color)
    buffer = io.BytesIO()
    Image.new("RGB", size, (max(0, red - shade), green, blue)).save(buffer, "PNG")
    return buffer.getvalue()


def in_base64(content):
    """A file object of JSON."""
    return {"base64": base64.b64encode(content).decode()}


def table(n=60):
    """Rows of which each modality tells the color."""
    rng = np.random.default_rng(0)
    names = [list(COLORS)[i % 3] for i in range(n)]
    cells = np.empty(n, dtype=object)
    cells[:] = [picture(name, shade=int(rng.integers(30))) for name in names]
    titles = [f"a {name} thing" if rng.random() < 0.8 else "some thing" for name in names]
    sizes = [list(COLORS).index(name) + rng.normal(scale=0.5) for name in names]
    frame = pd.DataFrame({"photo": cells, "title": titles, "size": sizes, "weight": rng.normal(size=n)})
    return frame, names


def fit(labels=None, fusion=None):
    """A fitted pipeline, and the table that it was fitted on."""
    X, y = table()
    modalities = [
        ("image", ImageEncoder(features="color"), "photo"),
        ("text", TfidfVectorizer(), "title"),
        ("tabular", StandardScaler(), ["size", "weight"]),
    ]
    fusion = DecisionFusionClassifier(LogisticRegression(), cv=3, joint=False) if fusion is None else fusion
    y = y if labels is None else [labels[list(COLORS).index(name)] for name in y]
    return make_fusion_pipeline(modalities, fusion).fit(X, y), X


def save(path, **changes):
    """A model file."""
    model, X = fit(**changes)
    return save_model(model, path, example=X.head(3))


def row(color="red", **cells):
    """A row of JSON."""
    size = float(list(COLORS).index(color))
    whole = {"photo": in_base64(picture(color)), "title": f"a {color} thing", "size": size, "weight": 0.5}
    return {**whole, **cells}


@contextlib.contextmanager
def client_of(model, settings=None, *, token=None):
    """A client of an app in this process, ready."""
    from starlette.testclient import TestClient

    from ensemblefuse.serving import ServerSettings, make_app

    app = make_app(model, ServerSettings() if settings is None else settings)
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    with TestClient(app, base_url=LOCAL, headers=headers) as client:
        wait_until(lambda: app.state.service.state != "loading")
        assert app.state.service.state == "ready", app.state.service.error
        yield client


def wait_until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class RunningServer:
    """``ensemblefuse serve`` as a process of its own.

    Attributes
    ----------
    url : str
    process : subprocess.Popen
    lines : list of str
        What it has written to standard error so far.
    """

    def __init__(self, process):
        self.process, self.lines, self.url = process, [], None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: self.url is not None or process.poll() is not None)
        assert self.url, self.lines

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            found = re.match(r"serving .* on (http://\S+)", line)
            self.url = found[1] if found else self.url

    def wait_until_ready(self):
        wait_until(lambda: self.process.poll() is not None or self.get("/ready").status_code == 200)
        assert self.process.poll() is None, self.lines

    def get(self, path, **options):
        return httpx.get(self.url + path, timeout=60, **options)

    def post(self, path, **options):
        return httpx.post(self.url + path, timeout=60, **options)

    def stop(self, by=signal.SIGTERM):
        """The exit code after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(by)
        code = self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        return code


def start_process(path, *options, token=None):
    """``ensemblefuse serve`` on a free port of this machine."""
    environment = {**os.environ, "ENSEMBLEFUSE_TOKEN": token} if token else dict(os.environ)
    command = [sys.executable, "-m", "ensemblefuse", "serve", str(path), "--port", "0", *map(str, options)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


@contextlib.contextmanager
def start_server(path, *options, token=None, ready=True):
    """A server process; gives a RunningServer, which is stopped at the end."""
    process = start_process(path, *options, token=token)
    try:
        server = RunningServer(process)
        if ready:
            server.wait_until_ready()
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=60)


@contextlib.contextmanager
def start_in_thread(model, settings):
    """A real server in a thread of this process, so that a test can reach into it; gives its URL and its Service."""
    import uvicorn

    from ensemblefuse.serving import make_app

    app = make_app(model, settings)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=settings.port, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started and app.state.service.state != "loading")
        assert app.state.service.state == "ready", app.state.service.error
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", app.state.service
    finally:
        server.should_exit = True
        thread.join(60)
