"""One thread that holds the model and answers waiting requests in batches."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ensemblefuse.serving._model import ServedModel

__all__ = ["Job", "Worker"]


@dataclass
class Job:
    """The work of the model for one request.

    Attributes
    ----------
    rows : list of dict
    future : asyncio.Future
        Belongs to the event loop of the request; gets the list of answers, or the result of `call`.
    call : callable, optional
        Called with the model instead of a prediction of the rows.
    abandoned : bool
        Set by the request if nobody waits for the result any more.
    """

    rows: list[dict[str, Any]]
    future: asyncio.Future
    call: Callable[[ServedModel], Any] | None = None
    abandoned: bool = False
    begun: int = 0
    answers: list[Any] = field(default_factory=list)

    def resolve(self, result: Any = None, error: BaseException | None = None) -> None:
        """Pass the result to the event loop of the request."""
        try:
            self.future.get_loop().call_soon_threadsafe(_settle, self.future, result, error)
        except RuntimeError:  # the event loop is closed, so nobody waits
            self.abandoned = True


def _settle(future: asyncio.Future, result: Any, error: BaseException | None) -> None:
    if not future.done():
        future.set_exception(error) if error is not None else future.set_result(result)


class Worker:
    """Thread that loads the model and then predicts.

    All rows that wait when the model becomes free are predicted together, up to `max_batch` rows; no request waits for
    a batch to fill. A request with more rows is answered in several batches; other requests wait until its last one.

    Parameters
    ----------
    load : callable
        Returns the ServedModel.
    max_batch : int
    on_loaded : callable
        Called in the thread after loading, with None or the exception of `load`.
    on_batch : callable
        Called with the number of rows before each batch.

    Attributes
    ----------
    model : ServedModel or None
        None until the model is loaded.
    """

    def __init__(
        self,
        load: Callable[[], ServedModel],
        max_batch: int,
        *,
        on_loaded: Callable[[BaseException | None], None] = lambda error: None,
        on_batch: Callable[[int], None] = lambda n_rows: None,
    ):
        self.model: ServedModel | None = None
        self._load, self._max_batch, self._on_loaded, self._on_batch = load, max_batch, on_loaded, on_batch
        self._jobs: deque[Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ensemblefuse-model", daemon=True)

    def start(self) -> None:
        """Start loading the model."""
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises
        ------
        RuntimeError
            If the worker is closing.
        """
        with self._wake:
            if self._closing:
                raise RuntimeError("the worker is closing")
            self._jobs.append(job)
            self._wake.notify()

    def close(self, timeout: float) -> None:
        """Answer the queued jobs, then end the thread. If the model is still being loaded, do not wait for it."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self.model is not None:
            self._thread.join(timeout)

    def n_waiting(self) -> int:
        """Return the number of requests that the model has not begun."""
        return len(self._jobs)

    def _run(self) -> None:
        try:
            self.model = self._load()
        except BaseException as error:  # a model file can raise anything, and the process ends then
            self._on_loaded(error)
            return
        self._on_loaded(None)
        while (batch := self._next()) is not None:
            self._answer(self.model, batch)

    def _next(self) -> list[tuple[Job, list[dict[str, Any]]]] | None:
        """Return the next jobs and their rows of the next batch; None if the thread may end."""
        with self._wake:
            while True:
                while self._jobs and self._jobs[0].abandoned:
                    self._jobs.popleft()
                if self._jobs:
                    return self._take()
                if self._closing:
                    return None
                self._wake.wait()

    def _take(self) -> list[tuple[Job, list[dict[str, Any]]]]:
        if self._jobs[0].call is not None:
            return [(self._jobs.popleft(), [])]
        batch, left = [], self._max_batch
        while self._jobs and left and self._jobs[0].call is None:
            job = self._jobs[0]
            if job.abandoned:
                self._jobs.popleft()
                continue
            rows = job.rows[job.begun : job.begun + left]
            job.begun, left = job.begun + len(rows), left - len(rows)
            batch.append((job, rows))
            if job.begun == len(job.rows):
                self._jobs.popleft()
        return batch

    def _answer(self, model: ServedModel, batch: list[tuple[Job, list[dict[str, Any]]]]) -> None:
        try:
            if batch[0][0].call is not None:
                batch[0][0].resolve(batch[0][0].call(model))
                return
            self._on_batch(sum(len(rows) for _, rows in batch))
            answers = iter(model.predict([row for _, rows in batch for row in rows]))
            for job, rows in batch:
                job.answers += [next(answers) for _ in rows]
                if len(job.answers) == len(job.rows):
                    job.resolve(job.answers)
        except Exception as error:
            for job, _ in batch:
                job.abandoned = True
                job.resolve(error=error)
