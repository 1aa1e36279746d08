"""BentoML: adaptive batching in two workers, one a core.

A batchable API takes a list and gives a list: requests come as `{"requests": [...]}`. The
dispatcher learns batch size and wait by itself, within `max_batch_size` and `max_latency_ms`.
Access logs and metrics are off. A second service in front would take the native JSON as it is; that
was half as fast, and its client breaks connections under load (BentoML issue 4971).
"""

import os
import sys
from typing import Any

import bentoml

from benchmarks.peers.common import (
    answer,
    make_kernel,
    parse_document,
    run_requests,
    served_model,
    to_lists,
)

WORKERS, MAX_BATCH, MAX_LATENCY_MS = 2, 64, 60_000


@bentoml.service(
    workers=WORKERS, logging={"access": {"enabled": False}}, metrics={"enabled": False}
)
class Lstm:
    """The only service."""

    def __init__(self) -> None:
        self.served = served_model()
        self.kernel = make_kernel(self.served)

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS)
    def predict(self, requests: list[Any]) -> list[Any]:
        """One answer a request; a batch holds all sequences of its requests."""
        parsed = [parse_document(request, self.served.units) for request in requests]
        found = run_requests(self.kernel, parsed)
        return [to_lists(answer(results, self.served)) for results in found]


def main() -> None:
    """Becomes `bentoml serve` on `BENCH_PORT`."""
    command = [sys.executable, "-m", "bentoml", "serve", f"{__spec__.name}:Lstm"]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", os.environ["BENCH_PORT"]])


if __name__ == "__main__":
    main()
