"""Ray Serve: `@serve.batch`, with its documented throughput options.

Uvicorn's proxy is replaced by HAProxy and a replica runs user code on its own loop
(`RAY_SERVE_THROUGHPUT_OPTIMIZED`); batches are computed in a thread. There is no access log.
"""

import asyncio
import os
import signal
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers.common import (
    BadRequest,
    Item,
    Result,
    make_kernel,
    parse,
    print_answer,
    run_requests,
    served_model,
)
from benchmarks.processes.process import free_port

MAX_BATCH = 32
WAIT_S = float(os.environ["BENCH_WAIT_S"])
REPLICAS = int(os.environ["BENCH_REPLICAS"])


def count_sequences(requests: list[list[Item]]) -> int:
    """How large a batch is."""
    return sum(map(len, requests))


@serve.deployment(
    max_ongoing_requests=512, num_replicas=REPLICAS, ray_actor_options={"num_cpus": 1}
)
class Lstm:
    """The only deployment."""

    def __init__(self) -> None:
        self.served = served_model()
        self.kernel = make_kernel(self.served)

    @serve.batch(
        max_batch_size=MAX_BATCH,
        batch_wait_timeout_s=WAIT_S,
        batch_size_fn=count_sequences,
    )
    async def compute(self, requests: list[list[Item]]) -> list[list[Result]]:
        """Computes all sequences of the batched requests together."""
        return await asyncio.to_thread(run_requests, self.kernel, requests)

    async def __call__(self, request: Request) -> Response:
        """Takes the native JSON."""
        try:
            items = parse(await request.body(), self.served.units)
        except BadRequest as error:
            return Response(str(error), status_code=422)
        results: Any = await self.compute(items)
        return Response(print_answer(results, self.served), media_type="application/json")


def main() -> None:
    """Serves on `BENCH_PORT` until SIGTERM."""
    # Its default lowers the replica's priority below the load generator's.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    # HAProxy's own two are fixed ports by default, which another program may hold.
    os.environ.setdefault("RAY_SERVE_HAPROXY_METRICS_PORT", str(free_port()))
    os.environ.setdefault("RAY_SERVE_HAPROXY_STATS_PORT", str(free_port()))
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])},
        logging_config={"enable_access_log": False},
    )
    deployment: Any = Lstm
    serve.run(deployment.bind(), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
