"""BentoML: adaptive batching in a service of its own behind a service that takes the requests.

A batchable API takes one list; its documentation wraps it in a second service for anything else.
The dispatcher learns batch size and wait by itself, within `max_batch_size` and `max_latency_ms`.
Access logs and metrics are off.
"""

import os
import sys
from typing import Any

import bentoml
import orjson
from starlette.responses import Response

from benchmarks.peers.common import (
    BadRequest,
    Item,
    Result,
    make_kernel,
    parse_document,
    print_answer,
    served_model,
)

MAX_BATCH = int(os.environ.get("BENCH_MAX_BATCH", "64"))
MAX_LATENCY_MS = int(os.environ.get("BENCH_MAX_LATENCY_MS", "60000"))
QUIET: dict[str, Any] = {"logging": {"access": {"enabled": False}}, "metrics": {"enabled": False}}

# What goes between the services: pickled tuples of arrays. BentoML turns dataclasses into dicts.
Arrays = tuple[Any, Any]


@bentoml.service(name="kernel", workers=int(os.environ.get("BENCH_WORKERS", "1")), **QUIET)
class KernelService:
    """Computes batches."""

    def __init__(self) -> None:
        self.kernel = make_kernel(served_model())

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS)
    def compute(self, items: list[Any]) -> list[Any]:
        """One result an item."""
        results = self.kernel.run([Item(*item) for item in items])
        return [(result.outputs, result.states) for result in results]


@bentoml.service(name="predict", workers=1, **QUIET)
class PredictService:
    """Takes the native JSON."""

    kernel = bentoml.depends(KernelService)

    def __init__(self) -> None:
        self.served = served_model()
        # Its client starts a new session each 100 requests and breaks those under way: answers of
        # 500 under load (BentoML issue 4971 and others).
        self.kernel.to_async._session_manager.max_requests = sys.maxsize

    @bentoml.api(route="/predict")
    async def predict(
        self, sequences: list[list[list[float]]], initial_states: list[Any] | None = None
    ) -> Any:
        """Answers bytes: its own encoder is slower."""
        document = {"sequences": sequences, "initial_states": initial_states}
        try:
            items = parse_document(document, self.served.units)
        except BadRequest as error:
            return Response(orjson.dumps({"detail": str(error)}), status_code=422)
        sent: list[Arrays] = [(item.inputs, item.states) for item in items]
        computed: list[Arrays] = await self.kernel.to_async.compute(sent)
        results = [Result(*arrays) for arrays in computed]
        return Response(print_answer(results, self.served), media_type="application/json")


def main() -> None:
    """Becomes `bentoml serve` on `BENCH_PORT`."""
    command = [sys.executable, "-m", "bentoml", "serve", f"{__spec__.name}:PredictService"]
    os.execv(sys.executable, [*command, "--host", "127.0.0.1", "--port", os.environ["BENCH_PORT"]])


if __name__ == "__main__":
    main()
