"""`SessionCaller`: pieces of a session, each sent again until it is answered."""

import asyncio
import json
import random
from typing import Any

from benchmarks.robustness.callers import Connection, Lost, request_of

PIECE_STEPS, MAX_STEPS = 5, 2000
RETRY_S = 0.05


class SessionCaller:
    """One session.

    Args:
        port: of the service.
        body: that its model takes.
        number: of the caller.

    Attributes:
        rows: sent and answered.
        outputs: of them.
        pieces: answered.
        again: pieces that were sent again.
    """

    def __init__(self, port: int, body: dict[str, Any], number: int) -> None:
        self._port = port
        self._features = len(body["sequences"][0][0])
        self._random = random.Random(number)
        self._id = f"caller-{number}-{random.random()}"
        self._connection: Connection | None = None
        self.rows: list[list[float]] = []
        self.outputs: list[list[float]] = []
        self.pieces = self.again = 0

    async def run(self, until: asyncio.Event) -> None:
        """Sends pieces until it is told to end."""
        while not until.is_set() and len(self.rows) < MAX_STEPS:
            rows = [
                [self._random.random() for _ in range(self._features)] for _ in range(PIECE_STEPS)
            ]
            session = {"id": self._id, "time_step": len(self.rows)}
            answer = await self._insist(request_of({"sequences": [rows], "session": session}))
            self.outputs += answer["outputs"][0]
            self.rows += rows
            self.pieces += 1
            await asyncio.sleep(0.02 * random.random())

    async def _insist(self, data: bytes) -> dict[str, Any]:
        while True:
            try:
                if self._connection is None or self._connection.is_ended:
                    self._connection = await Connection.open(self._port)
                answer = await self._connection.ask(data)
            except (Lost, OSError):
                answer = None
            if answer is not None and answer.status == 200:
                told: dict[str, Any] = json.loads(answer.body)
                return told
            assert answer is None or answer.status == 503, answer
            self.again += 1
            await asyncio.sleep(RETRY_S)


async def disagreement(port: int, caller: SessionCaller) -> float:
    """The largest difference to the same rows sent at once: relative above 1, else absolute."""
    connection = await Connection.open(port)
    answer = await connection.ask(request_of({"sequences": [caller.rows]}))
    connection.close()
    (whole,) = json.loads(answer.body)["outputs"]
    assert len(whole) == len(caller.outputs)
    return max(
        float(abs(a - b) / max(1.0, abs(b)))
        for one, other in zip(caller.outputs, whole, strict=True)
        for a, b in zip(one, other, strict=True)
    )
