"""granian (RSGI) + ONNX Runtime's LSTM: little between the socket and the kernel, a process a core.

Each worker computes on its event loop, which so has nothing to hand over; granian reads and writes
in a thread of its own meanwhile. What comes while a batch is computed waits for the next one.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from benchmarks.peers.common import (
    BadRequest,
    Item,
    Kernel,
    Result,
    make_kernel,
    parse,
    print_answer,
    served_model,
)

MAX_BATCH = 16
HEADERS = [("content-type", "application/json")]


class Batcher:
    """Batches of the oldest sequence that waits and those nearest to it in length.

    Args:
        kernel: computes them.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []

    async def run(self, items: Sequence[Item]) -> list[Result]:
        """The results of a request's items, in order."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        if not self._waiting:
            loop.call_soon(self._compute)
        self._waiting += zip(items, futures, strict=True)
        return [await future for future in futures]

    def _compute(self) -> None:
        lengths = [len(item.inputs) for item, _ in self._waiting]
        order = sorted(range(len(lengths)), key=lambda i: abs(lengths[i] - lengths[0]))
        batch = [self._waiting[i] for i in order[:MAX_BATCH]]
        self._waiting = [self._waiting[i] for i in sorted(order[MAX_BATCH:])]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._compute)
        try:
            results = self._kernel.run([item for item, _ in batch])
        except Exception as error:
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)


class Application:
    """What granian calls, in a worker."""

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._model = served_model()
        self._batcher = Batcher(make_kernel(self._model, "onnxruntime", threads=1))

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        try:
            items = parse(await protocol(), self._model.units)
        except BadRequest as error:
            protocol.response_str(422, [], str(error))
            return
        results = await self._batcher.run(items)
        protocol.response_bytes(200, HEADERS, print_answer(results, self._model))


application = Application()


def main() -> None:
    """Serves on `BENCH_PORT`."""
    # Tests of the batches have no granian.
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.log import LogLevels

    Granian(
        f"{__spec__.name}:application",
        port=int(os.environ["BENCH_PORT"]),
        interface=Interfaces.RSGI,
        workers=int(os.environ["BENCH_PROCESSES"]),
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.warning,
    ).serve()


if __name__ == "__main__":
    main()
