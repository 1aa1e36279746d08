"""`GET /metrics`: the engine's counters in the Prometheus format, read when somebody asks."""

from collections.abc import Iterator

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from app.registry import Registry


class EngineCollector(Collector):
    """Reads the counters of the engine that runs now."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yields one family a counter."""
        yield GaugeMetricFamily("unroll_ready", "1 when a model answers", int(self._registry.ready))
        engine = self._registry.engine
        if engine is None:
            return
        counters, load = engine.counters, engine.load()
        for name, text, value in (
            ("chunks", "Chunks computed", counters.chunks),
            ("chunk_rows", "Sequences in all chunks; over chunks: the mean batch", counters.rows),
            ("time_steps", "Time steps computed", counters.time_steps),
            ("padding_steps", "Time steps computed in vain beside longer rows", counters.padding),
            ("sequences_completed", "Sequences that reached their end", counters.completed),
            ("sequences_failed", "Sequences that ended before", counters.failed),
            ("compilations", "Call shapes compiled since the start", engine.runner.compilations),
        ):
            yield CounterMetricFamily(f"unroll_{name}", text, value)
        yield GaugeMetricFamily("unroll_sequences_waiting", "Sequences in line", load.waiting)
        yield GaugeMetricFamily("unroll_sequences_running", "Sequences in slots", load.running)


def install(app: FastAPI, registry: Registry) -> None:
    """Adds the route; each application has a collector of its own."""
    collectors = CollectorRegistry()
    collectors.register(EngineCollector(registry))
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(collectors), media_type=CONTENT_TYPE_LATEST)

    app.include_router(router)
