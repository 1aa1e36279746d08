"""A server of a model that adds up, which computes what comes within a moment as one batch."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson

from benchmarks.servers.kinds import KINDS, ServerKind
from tests.benchmarks.load.echo import JsonServer, serving

# For the other requests of a batch.
WAIT_S = 0.02


def added_up(rows: np.ndarray, before: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Outputs `[T, 1]`: the sum of all features so far; and states `[6]`, each the last output."""
    outputs = before + np.cumsum(rows.sum(axis=1))
    return outputs[:, None], np.full(6, outputs[-1])


def answer_to(body: bytes) -> bytes:
    """Of the model."""
    request = orjson.loads(body)
    outputs, states = [], []
    before = request.get("initial_states", [[{"h": [0.0]}]] * len(request["sequences"]))
    for sequence, state in zip(request["sequences"], before, strict=True):
        each, _ = added_up(np.array(sequence), state[-1]["h"][0])
        last = float(each[-1, 0])
        outputs.append(each.tolist())
        states.append([{"h": [last], "c": [last]}] * 3)
    document: dict[str, Any] = {"outputs": outputs, "states": states}
    return orjson.dumps(document)


class AddingServer(JsonServer):
    """Stands for a `Server`, as far as answers are checked.

    Attributes:
        requests: so far.
        largest: batch so far.
    """

    request_queue_size = 128
    kind: ServerKind = KINDS["litserve"]

    def __init__(self, mixes: bool) -> None:
        super().__init__()
        self.port = int(self.server_address[1])
        self.requests = 0
        self.largest = 0
        self._mixes = mixes
        self._lock = threading.Lock()
        self._batch: list[bytes] = []

    def answer(self, body: bytes) -> bytes:
        """Waits for others; if it mixes them up, each gets the answer of the next of the batch."""
        with self._lock:
            batch = self._batch
            place = len(batch)
            batch.append(body)
            self.requests += 1
        time.sleep(WAIT_S)
        with self._lock:
            if self._batch is batch:
                self._batch = []
            self.largest = max(self.largest, len(batch))
        return answer_to(batch[(place + self._mixes) % len(batch)])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: who was answered wrong leaves before the others' answers are sent."""


@contextmanager
def adding_server(mixes: bool) -> Iterator[AddingServer]:
    """Runs it in threads."""
    server = AddingServer(mixes)
    with serving(server):
        yield server
