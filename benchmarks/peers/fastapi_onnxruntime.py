"""FastAPI + ONNX Runtime's LSTM with padded dynamic batching: the strongest of the peers.

A route that takes the `Request` and returns bytes, orjson both ways, uvloop, httptools, no access
log; batches are computed in a thread. The settings are the best of `benchmarks.sweep`. One process,
or as many of uvicorn's workers as `BENCH_PROCESSES` says.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.peers.batcher import Batcher, BatchSettings
from benchmarks.peers.common import (
    HEALTH_S,
    BadRequest,
    make_kernel,
    parse,
    print_answer,
    served_model,
)


def from_environment() -> BatchSettings:
    """The best settings, unless the sweep asks for others."""
    best = BatchSettings()
    given = os.environ.get
    return BatchSettings(
        max_batch=int(given("BENCH_MAX_BATCH", best.max_batch)),
        wait_s=float(given("BENCH_WAIT_S", best.wait_s)),
        workers=int(given("BENCH_WORKERS", best.workers)),
        bucket=float(given("BENCH_BUCKET", best.bucket)),
        min_rows=int(given("BENCH_MIN_ROWS", best.min_rows)),
    )


def create_app() -> FastAPI:
    """The application of one process; the model is loaded here."""
    interval = os.environ.get("BENCH_SWITCH_INTERVAL_S")
    if interval:
        sys.setswitchinterval(float(interval))
    model = served_model()
    kernel = make_kernel(model, "onnxruntime", threads=1)
    batchers: list[Batcher] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batchers.append(Batcher(kernel, from_environment()))
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        try:
            items = parse(await request.body(), model.units)
        except BadRequest as error:
            return Response(str(error), status_code=422)
        results = await batchers[0].run(items)
        return Response(print_answer(results, model), media_type="application/json")

    return app


def main() -> None:
    """Serves on `BENCH_PORT`."""
    uvicorn.run(
        "benchmarks.peers.fastapi_onnxruntime:create_app",
        factory=True,
        workers=int(os.environ.get("BENCH_PROCESSES", "1")),
        timeout_worker_healthcheck=HEALTH_S,
        port=int(os.environ["BENCH_PORT"]),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
