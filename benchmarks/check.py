"""Compares a server's answers with the model's own: who answers wrong is not measured."""

from typing import Any

import numpy as np
import orjson

from benchmarks.processes import ServerFailed
from benchmarks.reference import SAMPLE, Answers
from benchmarks.servers import Server
from benchmarks.workloads import Workload


def check(server: Server, workload: Workload, expected: Answers) -> None:
    """Sends the sample of a workload.

    Args:
        server: to be judged.
        workload: whose sample is sent.
        expected: from `reference.expected`.

    Raises:
        ServerFailed: an answer is wrong; the text names the server.
    """
    try:
        if workload.streams:
            _check_stream(server, workload, expected)
        else:
            for i, body in enumerate(workload.bodies[: SAMPLE[workload.name]]):
                document = _document(server, body)
                count = len(workload.requests[i])
                compare(document, expected, f"{workload.name}/{i}", count, server.kind.tolerance)
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ServerFailed(
            f"{server.kind.name} answers {workload.name} wrong: {type(error).__name__}: {error}"
        ) from error


def _document(server: Server, body: bytes) -> dict[str, Any]:
    """The answer to a body; one that was sent as a batch of one is answered as such."""
    document = orjson.loads(server.answer(body))
    if isinstance(document, list):
        (document,) = document
    found: dict[str, Any] = document
    return found


def _check_stream(server: Server, workload: Workload, expected: Answers) -> None:
    """Piece by piece with the states of the piece before: as the whole at once."""
    outputs: list[Any] = []
    states = None
    for body in workload.bodies[: SAMPLE["stream"]]:
        request = orjson.loads(body)
        if states is not None:
            request["initial_states"] = states
        document = _document(server, orjson.dumps(request))
        outputs += document["outputs"][0]
        states = document["states"]
    whole = {"outputs": [outputs], "states": states}
    compare(whole, expected, "stream/0", 1, server.kind.tolerance)


def compare(
    document: dict[str, Any], expected: Answers, key: str, count: int, tolerance: float
) -> None:
    """Compares a parsed answer with the expected one.

    Raises:
        ValueError: a number is off, or there are too many or too few.
    """
    if not len(document["outputs"]) == len(document["states"]) == count:
        raise ValueError(f"{key}: not {count} sequences")
    for j, (outputs, state) in enumerate(zip(document["outputs"], document["states"], strict=True)):
        flat = np.concatenate([layer[part] for layer in state for part in ("h", "c")])
        for name, found in (("outputs", np.array(outputs)), ("states", flat)):
            wanted = expected[f"{key}/{j}/{name}"]
            if found.shape != wanted.shape:
                raise ValueError(f"{key}/{j}: {name} have shape {found.shape}, not {wanted.shape}")
            if not np.allclose(found, wanted, tolerance, tolerance):
                worst = float(np.abs(found - wanted).max())
                raise ValueError(f"{key}/{j}: {name} are off by up to {worst:.2g}")
