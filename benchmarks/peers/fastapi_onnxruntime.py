"""FastAPI + ONNX Runtime's LSTM with padded dynamic batching.

A route that takes the `Request` and returns bytes, orjson both ways, uvloop, httptools, no access
log; batches are computed in a thread. One process, or as many of uvicorn's workers as
`BENCH_PROCESSES` says.

The settings are the best of 14, measured with 64 clients on 2 cores with AVX-512, one process:

    requests/s                                      fixed  mixed
    1 worker, batch 64                              3,528  1,473
    1 worker, 2 threads                             3,107  1,893
    1 worker, 2 threads that do not spin            3,146  2,012
    2 workers                                       2,763  1,551
    wait 1 ms                                       2,689  1,023
    batch 128                                       3,356  1,205
    batch 32                                        3,663  1,507
    2 workers, batch 32                             3,500  2,184  taken
    2 workers, batch 16                             3,569  2,419
    2 workers, batch 32, switch interval 0.5 ms     3,828  2,285
    2 workers, batch 32, buckets of 0.7 and 8 rows  3,659  2,925  taken for the buckets
    2 workers, batch 64, buckets of 0.7 and 8 rows  2,806  2,809
    2 workers, batch 64, buckets of 0.7 and 4 rows  2,858  2,854
    2 workers, batch 64, buckets of 0.5 and 8 rows  2,866  2,978
"""

import os
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
    """How this one of the variants batches."""
    return BatchSettings(
        workers=int(os.environ.get("BENCH_WORKERS", "2")),
        bucket=float(os.environ.get("BENCH_BUCKET", "0")),
    )


def create_app() -> FastAPI:
    """The application of one process; the model is loaded here."""
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
