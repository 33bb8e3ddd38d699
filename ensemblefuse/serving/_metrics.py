"""Metrics of requests for Prometheus, in a separate registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ensemblefuse._optional import import_optional

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one app.

    Parameters
    ----------
    n_waiting : callable
        Returns the number of requests that wait for the model.
    """

    def __init__(self, n_waiting: Callable[[], int]):
        self._client = client = import_optional("prometheus_client", extra="serve", needed_by="the server")
        self._registry = registry = client.CollectorRegistry()
        self._requests = client.Counter(
            "ensemblefuse_requests", "Answered requests.", ["route", "status"], registry=registry
        )
        self._seconds = client.Histogram(
            "ensemblefuse_request_seconds", "Time to the answer.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._rows = client.Counter("ensemblefuse_rows", "Rows of requests.", registry=registry)
        self._batches = client.Histogram(
            "ensemblefuse_batch_rows", "Rows that the model saw at once.", buckets=_ROWS, registry=registry
        )
        self._missing = client.Counter(
            "ensemblefuse_missing_modalities",
            "Predicted rows that lacked a modality.",
            ["modality"],
            registry=registry,
        )
        waiting = client.Gauge("ensemblefuse_queue_requests", "Requests that wait for the model.", registry=registry)
        waiting.set_function(n_waiting)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def rows(self, n: int) -> None:
        """Count the rows of a request."""
        self._rows.inc(n)

    def batch(self, n: int) -> None:
        """Count a batch of n rows."""
        self._batches.observe(n)

    def missing(self, modalities: Iterable[str]) -> None:
        """Count the modalities that a row lacked."""
        for name in modalities:
            self._missing.labels(name).inc()

    def text(self) -> tuple[bytes, str]:
        """Return all metrics in the format of Prometheus, and the content type."""
        return self._client.generate_latest(self._registry), self._client.CONTENT_TYPE_LATEST
