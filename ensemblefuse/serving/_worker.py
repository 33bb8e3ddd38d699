"""One thread that holds the model and answers waiting requests in batches."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ensemblefuse.serving._model import ServedModel

__all__ = ["Job", "Worker"]


# Rows of at most this cost are light; 1 is a cell of the largest size.
_LIGHT = 0.1
# A batch costs at most one cell of the largest size; a single row may cost more, if several of its cells are large.
_BATCH = 1.0
# So many batches of light rows come before one of others.
_LIGHT_FIRST = 4


@dataclass
class Job:
    """The work of the model for one request.

    Attributes
    ----------
    rows : list of dict
    future : asyncio.Future
        Belongs to the event loop of the request; gets the list of answers, or the result of `call`.
    costs : list of float
        The cost of each row, as a share of a cell of the largest size.
    call : callable, optional
        Called with the model instead of a prediction of the rows.
    abandoned : bool
        Set by the request if nobody waits for the result any more.
    """

    rows: list[dict[str, Any]]
    future: asyncio.Future
    costs: list[float] = field(default_factory=list)
    call: Callable[[ServedModel], Any] | None = None
    abandoned: bool = False
    begun: int = 0
    answers: list[Any] = field(default_factory=list)

    @property
    def is_light(self) -> bool:
        """Whether its rows are all cheap."""
        return self.call is None and max(self.costs, default=0.0) <= _LIGHT

    def next_rows(self, n_most: int, cost: float) -> list[dict[str, Any]]:
        """Return the next rows, at most `n_most`, that cost at most `cost`; they count as begun."""
        rows: list[dict[str, Any]] = []
        while self.begun < len(self.rows) and len(rows) < n_most:
            cost -= self.costs[self.begun] if self.costs else 0.0
            if cost < 0:
                break
            rows.append(self.rows[self.begun])
            self.begun += 1
        return rows

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

    All rows that wait when the model becomes free are predicted together, up to `max_batch` rows and to the cost of one
    cell of the largest size; no request waits for a batch to fill. A request with more rows is answered in several
    batches, and other requests have their turn in between. Requests whose rows are all cheap go first, but for one
    batch in five. So a cheap request waits for the batch that is running, for the cheap ones before it, and for one
    expensive batch after every four; never for all expensive ones before it.

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
        self._light: deque[Job] = deque()
        self._heavy: deque[Job] = deque()
        self._n_light = 0  # batches of light rows since the last other one
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
            self._queue(job).append(job)
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
        with self._wake:
            return sum(not job.begun for job in (*self._light, *self._heavy))

    def _queue(self, job: Job) -> deque[Job]:
        return self._light if job.is_light else self._heavy

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
                for jobs in (self._light, self._heavy):
                    while jobs and jobs[0].abandoned:
                        jobs.popleft()
                if self._light or self._heavy:
                    return self._take()
                if self._closing:
                    return None
                self._wake.wait()

    def _take(self) -> list[tuple[Job, list[dict[str, Any]]]]:
        """Return the jobs of the next batch, each with its rows in it. A job of which rows remain goes to the end."""
        is_light = bool(self._light) and (not self._heavy or self._n_light < _LIGHT_FIRST)
        self._n_light = self._n_light + 1 if is_light else 0
        jobs = self._light if is_light else self._heavy
        if jobs[0].call is not None:
            return [(jobs.popleft(), [])]
        batch: list[tuple[Job, list[dict[str, Any]]]] = []
        n_left, cost = self._max_batch, _BATCH
        for _ in range(len(jobs)):
            job = jobs[0]
            if not job.abandoned:
                if job.call is not None:
                    break
                begun = job.begun
                rows = job.next_rows(n_left, cost)
                if not rows and not batch:  # one row that costs more than a batch may
                    rows = job.next_rows(1, math.inf)
                if not rows:
                    break
                batch.append((job, rows))
                n_left, cost = n_left - len(rows), cost - sum(job.costs[begun : job.begun])
            jobs.popleft()
            if not job.abandoned and job.begun < len(job.rows):
                jobs.append(job)
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
