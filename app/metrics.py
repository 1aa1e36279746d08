"""`GET /metrics`: the engines' counters in the Prometheus format, read when somebody asks."""

from collections.abc import Iterator

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from app.registry import Registry


class BoardCollector(Collector):
    """Reads the counters of all workers."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yields one family a counter."""
        board = self._registry.place.board
        yield GaugeMetricFamily("unroll_ready", "1 when a model answers", int(self._registry.ready))
        yield GaugeMetricFamily("unroll_workers", "Processes that answer", len(board.living()))
        for name, column, text in (
            ("chunks", "chunks", "Chunks computed"),
            ("chunk_rows", "rows", "Sequences in all chunks; over chunks: the mean batch"),
            ("time_steps", "time_steps", "Time steps computed"),
            ("padding_steps", "padding", "Time steps computed in vain beside longer rows"),
            ("sequences_completed", "completed", "Sequences that reached their end"),
            ("sequences_failed", "failed", "Sequences that ended before"),
            ("compilations", "compilations", "Call shapes compiled since the start"),
        ):
            yield CounterMetricFamily(f"unroll_{name}", text, board.total(column))
        for name, text in (("waiting", "Sequences in line"), ("running", "Sequences in slots")):
            yield GaugeMetricFamily(f"unroll_sequences_{name}", text, board.total(name))


def install(app: FastAPI, registry: Registry) -> None:
    """Adds the route; each application has a collector of its own."""
    collectors = CollectorRegistry()
    collectors.register(BoardCollector(registry))
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(collectors), media_type=CONTENT_TYPE_LATEST)

    app.include_router(router)
