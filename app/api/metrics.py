"""`GET /metrics`: what the workers count, in the Prometheus format, read when somebody asks."""

from collections.abc import Iterator
from itertools import accumulate
from time import perf_counter_ns

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.registry.registry import Registry
from app.stats.answer_counts import BOUNDS_S, NOT_GIVEN, AnswerCounts, route_of

BOUNDS = (*map(floatToGoString, BOUNDS_S), "+Inf")


class StatsCollector(Collector):
    """Reads the counters of all workers."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yields one family a counter."""
        stats = self._registry.stats.shared
        for name, text, value in (
            ("unroll_ready", "1 when a model answers", int(self._registry.ready)),
            ("unroll_workers", "Processes that live, ready or not", len(stats.living())),
            ("unroll_workers_configured", "Workers of the service when whole", stats.workers),
            ("unroll_workers_ready", "Workers that answer", stats.workers_ready),
            ("unroll_workers_failing", "Workers that will not answer", stats.workers_failing),
        ):
            yield GaugeMetricFamily(name, text, value)
        yield self._model()
        yield from _of_answers(stats.answers())
        for name, column, text in (
            ("chunks", "chunks", "Chunks computed"),
            ("chunk_rows", "rows", "Sequences in all chunks; over chunks: the mean batch"),
            ("time_steps", "time_steps", "Time steps computed"),
            ("padding_steps", "padding", "Time steps computed in vain beside longer rows"),
            ("sequences_completed", "completed", "Sequences that reached their end"),
            ("sequences_failed", "failed", "Sequences that ended before"),
            ("compilations", "compilations", "Call shapes compiled since the start"),
        ):
            yield CounterMetricFamily(f"unroll_{name}", text, stats.total(column))
        for name, text in (
            ("waiting", "Sequences that wait for a slot"),
            ("running", "Sequences in slots"),
        ):
            yield GaugeMetricFamily(f"unroll_sequences_{name}", text, stats.total(name))

    def _model(self) -> Metric:
        labels = ("name", "version", "kernel")
        family = GaugeMetricFamily("unroll_model_info", "The model that answers", labels=labels)
        for model in self._registry.models:
            if model.state == "ready" and model.engine is not None:
                kernel = model.engine.runner.kernel
                family.add_metric((model.name, str(model.version), kernel), 1)
        return family


def _of_answers(answers: AnswerCounts) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "unroll_requests", "Requests answered, refused ones too", labels=("route", "status")
    )
    for route, status, count in answers.counts():
        requests.add_metric((route, status), count)
    yield requests
    seconds = HistogramMetricFamily(
        "unroll_request_seconds", "From a request to its answer, any status", labels=("route",)
    )
    for route, buckets, total_s in answers.times():
        seconds.add_metric((route,), list(zip(BOUNDS, accumulate(buckets), strict=True)), total_s)
    yield seconds


class CountAnswers:
    """Counts what an ASGI application answers. The server's protocol counts what it answers itself.

    Args:
        app: answers.
        answers: of the worker.
    """

    def __init__(self, app: ASGIApp, answers: AnswerCounts) -> None:
        self._app = app
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_ns, route = perf_counter_ns(), route_of(scope["method"], scope["path"])
        status, counted = NOT_GIVEN, False

        def count(as_status: int) -> None:
            nonlocal counted
            if not counted:
                self._answers.count(route, as_status, began_ns)
            counted = True

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body", False):
                count(status)
            await send(message)

        try:
            await self._app(scope, receive, counting)
        except BaseException:
            # The layer around this one answers so.
            count(500)
            raise
        # The caller went before the answer was over.
        count(NOT_GIVEN)


def install(app: FastAPI, registry: Registry) -> None:
    """Adds the route, with a collector of this application's own, and counts its answers."""
    collectors = CollectorRegistry()
    collectors.register(StatsCollector(registry))
    router = APIRouter(include_in_schema=False)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(collectors), media_type=CONTENT_TYPE_LATEST)

    app.include_router(router)
    app.add_middleware(CountAnswers, answers=registry.stats.answers)
