"""The ASGI app: its routes, and the path of a request to the model and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from ensemblefuse._config import config_context
from ensemblefuse._optional import import_optional
from ensemblefuse._theme import page_css, switch_html
from ensemblefuse.cache import get_cache
from ensemblefuse.serving._body import GONE, Body, content_type, read_bytes, read_content
from ensemblefuse.serving._cells import RowReader
from ensemblefuse.serving._errors import Fault, Refused, Unreadable
from ensemblefuse.serving._example import example_row
from ensemblefuse.serving._guard import Guard, log
from ensemblefuse.serving._info import ModelInfo, read_info
from ensemblefuse.serving._json import dump_json
from ensemblefuse.serving._media import FileReader
from ensemblefuse.serving._metrics import Metrics
from ensemblefuse.serving._model import ServedModel, open_model
from ensemblefuse.serving._openapi import openapi_schema
from ensemblefuse.serving._settings import ServerSettings
from ensemblefuse.serving._worker import Job, Worker

__all__ = ["Service", "make_app"]

_NEEDED_BY = "the server"
_PAGE = Path(__file__).parent / "page"
_ROUTES = ("/", "/health", "/ready", "/metrics", "/openapi.json", "/model", "/example", "/predict", "/explain")
_AGAIN = {"retry-after": "1"}
# Cost of a row that may be explained inside its modalities, which encodes it a hundred times; 1 is the largest cell.
_INSIDE = 0.1


def make_app(model: Any, settings: ServerSettings | None = None) -> Any:
    """Return an ASGI app that predicts rows with a model.

    A separate thread loads the model when the app starts; until the model is loaded, ``/ready`` answers 503. `serve`
    runs the app; any other ASGI server can run it, too, with one process per model.

    Parameters
    ----------
    model : str, Path or fitted Pipeline
        A file of `save_model`, or a model of `make_fusion_pipeline`; its encoders are set to ``on_error="raise"``.
    settings : ServerSettings, optional

    Returns
    -------
    fastapi.FastAPI
        Its ``state.service`` is the `Service`.

    Raises
    ------
    PersistenceError
        If the file cannot be read, or the model has no named input columns.
    ImportError
        If the extra ``serve`` is not installed.

    Notes
    -----
    While the app runs, the embedding cache of the process is off unless ``settings.cache`` is set.

    Examples
    --------
    >>> from ensemblefuse.serving import ServerSettings, make_app
    >>> app = make_app("pets.fuse", ServerSettings(max_rows=16))  # doctest: +SKIP
    """
    fastapi = import_optional("fastapi", extra="serve", needed_by=_NEEDED_BY)
    routing = import_optional("starlette.routing", extra="serve", needed_by=_NEEDED_BY)
    middleware = import_optional("starlette.middleware", extra="serve", needed_by=_NEEDED_BY)
    exceptions = import_optional("starlette.exceptions", extra="serve", needed_by=_NEEDED_BY)
    settings = ServerSettings() if settings is None else settings
    service = Service(model, settings)
    routes = [
        *(routing.Route(path, answer, methods=["GET"]) for path, answer in service.reads().items()),
        *(routing.Route(path, answer, methods=["POST"]) for path, answer in service.asks().items()),
    ]
    guard = middleware.Middleware(
        Guard, settings=settings, on_request=service.metrics.request, routes=frozenset(_ROUTES)
    )
    app = fastapi.FastAPI(
        routes=routes,
        middleware=[guard],
        lifespan=service.running,
        redirect_slashes=False,
        exception_handlers={exceptions.HTTPException: _http_error},
        **{"openapi_url": None, "docs_url": None, "redoc_url": None},
    )
    app.openapi = lambda: service.openapi
    app.state.service = service
    return app


class Service:
    """A model with the routes that serve it.

    Parameters
    ----------
    model : str, Path or fitted Pipeline
    settings : ServerSettings

    Attributes
    ----------
    info : ModelInfo
    state : {"loading", "ready", "failed", "draining"}
    error : BaseException or None
        Why the model could not be loaded.
    on_failure : callable
        Called if the model could not be loaded.
    """

    def __init__(self, model: Any, settings: ServerSettings):
        self.settings = settings
        self.info: ModelInfo = read_info(model)
        self.openapi = openapi_schema(self.info, settings)
        self.state = "loading"
        self.error: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.worker = Worker(
            lambda: self._open(model),
            settings.max_batch,
            on_loaded=self._loaded,
            on_batch=lambda n_rows: self.metrics.batch(n_rows),
        )
        self.metrics = Metrics(self.worker.n_waiting)
        self._reader: RowReader | None = None
        self._n_running = 0
        self._example: dict[str, Any] = {}
        self._files = {f"/page/{p.name}": p.read_bytes() for p in sorted(_PAGE.iterdir()) if p.is_file()}
        self._files["/page/theme.css"] = page_css().encode()
        start = self._files["/page/index.html"]
        self._files["/page/index.html"] = start.replace(b"<!-- theme -->", switch_html().encode())

    @contextlib.asynccontextmanager
    async def running(self, app: Any) -> AsyncIterator[None]:
        """Load the model in the background; at the end, answer the queued requests."""
        cache = get_cache()
        folder = cache.folder if self.settings.cache and cache is not None else None
        with config_context(cache=folder, progress=False):
            self.worker.start()
            try:
                yield
            finally:
                self.drain()
                await asyncio.to_thread(self.worker.close, self.settings.timeout)

    def drain(self) -> None:
        """Stop accepting requests."""
        if self.state != "failed":
            self.state = "draining"

    def _open(self, model: Any) -> ServedModel:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", UserWarning)
            served = open_model(model, self.info, self.settings.trusted)
        for text in sorted({str(warning.message) for warning in told if issubclass(warning.category, UserWarning)}):
            log.warning(json.dumps({"event": "warning", "text": text}))
        return served

    def _loaded(self, error: BaseException | None) -> None:
        if error is not None:
            self.error, self.state = error, "failed"
            self.on_failure()
            return
        model = self.worker.model
        assert model is not None
        self._reader = RowReader(self.info.columns, self.settings, model.path_columns)
        self._example = example_row(model.example, self.info.columns, self._reader, self.settings)
        if self.state == "loading":
            self.state = "ready"
        log.info(json.dumps({"event": "ready"}))

    # ------------------------------------------------------------------ routes

    def reads(self) -> dict[str, Callable[..., Any]]:
        """Return the handler of each GET route."""

        async def health(request: Any) -> Any:
            return _json({"status": "alive"})

        async def ready(request: Any) -> Any:
            self._check_ready()
            return _json({"status": "ready"})

        async def describe(request: Any) -> Any:
            return _json(self.info.as_json(self.settings))

        async def example(request: Any) -> Any:
            self._check_ready()
            return _json({"row": self._example})

        async def metrics(request: Any) -> Any:
            return _response(*self.metrics.text())

        async def schema(request: Any) -> Any:
            return _json(self.openapi)

        async def page(request: Any) -> Any:
            name = "/page/index.html" if request.url.path == "/" else request.url.path
            if name not in self._files:
                return _json({"error": "this page does not exist"}, 404)
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            return _response(self._files[name], f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)

        return {
            **{"/health": health, "/ready": ready, "/model": describe, "/example": example, "/metrics": metrics},
            **{"/openapi.json": schema, "/": page, "/page/{name}": page},
        }

    def asks(self) -> dict[str, Callable[..., Any]]:
        """Return the handler of each POST route."""

        async def predict(request: Any) -> Any:
            return await self._within_limits(request, self._predict, ("rows",))

        async def explain(request: Any) -> Any:
            return await self._within_limits(request, self._explain, ("row", "within", "target"))

        return {"/predict": predict, "/explain": explain}

    async def _within_limits(self, request: Any, answer: Callable[..., Any], wanted: tuple[str, ...]) -> Any:
        """Read the body of a request and answer it, within the limits of requests and time."""
        kind = content_type(request.headers)
        self._check_ready()
        if self._n_running >= self.settings.max_queue:
            raise Refused(503, f"{self._n_running} requests are being answered; try again", _AGAIN)
        self._n_running += 1
        try:
            async with asyncio.timeout(self.settings.timeout):
                content = await read_bytes(request, self.settings.max_body, self.settings.header_timeout)
                request.scope["ensemblefuse.shape"]["bytes"] = len(content)
                header = request.headers["content-type"]
                body = await asyncio.to_thread(read_content, content, kind, header, wanted)
                return await answer(request, body)
        except TimeoutError as error:
            raise Refused(504, f"the answer took more than {self.settings.timeout:g} seconds") from error
        except Unreadable as error:
            return _json({"predictions": [], "errors": [fault._asdict() for fault in error.faults]}, 422)
        finally:
            self._n_running -= 1

    def _check_ready(self) -> None:
        if self.state != "ready":
            reasons = {"loading": "the model is being loaded", "draining": "the server is shutting down"}
            raise Refused(503, reasons.get(self.state, "the model could not be loaded"), _AGAIN)

    # ------------------------------------------------------------------ predictions and explanations

    async def _predict(self, request: Any, body: Body) -> Any:
        rows, faults, costs = await asyncio.to_thread(self._read, body.fields["rows"], body)
        request.scope["ensemblefuse.shape"]["rows"] = len(rows)
        self.metrics.rows(len(rows))
        usable = [row for row in rows if row is not None]
        costs = [cost for row, cost in zip(rows, costs, strict=True) if row is not None]
        answers = iter(await self._ask(request, Job(usable, _future(), costs)) if usable else [])
        predictions: list[dict[str, Any] | None] = []
        for i, row in enumerate(rows):
            answer = None if row is None else next(answers)
            if isinstance(answer, dict):
                self.metrics.missing(answer["missing"])
                predictions.append({"row": i, **answer})
            else:
                faults += [fault._replace(row=i) for fault in answer or ()]
                predictions.append(None)
        faults.sort(key=lambda fault: -1 if fault.row is None else fault.row)
        errors = [fault._asdict() for fault in faults]
        return _json({"predictions": predictions, "errors": errors}, 422 if errors else 200)

    async def _explain(self, request: Any, body: Body) -> Any:
        rows, faults, costs = await asyncio.to_thread(self._read, [body.fields["row"]], body)
        if faults or rows[0] is None:
            raise Unreadable(*faults)
        row, request.scope["ensemblefuse.shape"]["rows"] = rows[0], 1
        within, target = body.fields.get("within", False), body.fields.get("target")
        if within and costs[0] > _INSIDE:
            reason = f"the row is too large to look inside: its cells may have at most {_INSIDE:.0%} of what is allowed"
            raise Unreadable(Fault(0, "within", reason))

        def call(model: ServedModel) -> Any:
            try:
                return model.explain(row, within, target)
            except Unreadable as error:
                return error

        told = await self._ask(request, Job([], _future(), call=call))
        if isinstance(told, Unreadable):
            raise told
        return _json(told)

    def _read(self, rows: Any, body: Body) -> tuple[list[dict[str, Any] | None], list[Fault], list[float]]:
        """Return the rows, their faults and their costs."""
        assert self._reader is not None
        folder = None if self.settings.files is None else Path(self.settings.files)
        files = FileReader(body.uploads, folder, self.settings.max_body)
        read, faults = self._reader.read(rows, files)
        unused = sorted(set(body.uploads or ()) - files.used)
        if unused and not faults:
            faults.append(Fault(None, unused[0][:100], "no cell names this part of the form"))
        return read, faults, files.costs

    async def _ask(self, request: Any, job: Job) -> Any:
        """Wait for the model, or until the client has disconnected."""
        try:
            self.worker.submit(job)
        except RuntimeError as error:
            raise Refused(503, "the server is shutting down", _AGAIN) from error
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({job.future, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not job.future.done():
                raise Refused(GONE, "the client has disconnected")
            return job.future.result()
        finally:
            job.abandoned = True
            gone.cancel()
            job.future.cancel()  # otherwise asyncio would print what the model raises after nobody waits


async def _disconnected(request: Any) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _future() -> asyncio.Future:
    return asyncio.get_running_loop().create_future()


async def _http_error(request: Any, error: Any) -> Any:
    """Answer requests for unknown paths and methods."""
    return _json({"error": str(error.detail)}, error.status_code, error.headers)


def _json(value: Any, status: int = 200, headers: Any = None) -> Any:
    return _response(dump_json(value), "application/json", status, headers)


def _response(content: bytes, kind: str, status: int = 200, headers: Any = None) -> Any:
    responses = import_optional("starlette.responses", extra="serve", needed_by=_NEEDED_BY)
    return responses.Response(content, status_code=status, headers={**(headers or {}), "content-type": kind})
