"""Compares a server's answers with the model's own: who answers wrong is not measured.

One request at a time, and many at once: who puts requests into batches may mix up callers.
"""

import http.client
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson

from benchmarks.load.workloads import Workload
from benchmarks.models.expected_answers import SAMPLE, Answers
from benchmarks.servers.server import Server, ServerFailed

# Requests at once.
CALLERS = 32
# Sequences that are sent many at once, in all: about 2 s of a server that computes 60 a second.
TOGETHER = 128
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class _Question:
    """A request whose answer is known.

    Attributes:
        body: native JSON.
        key: of the answers.
        count: of its sequences.
        answers: with `<key>/<sequence>/outputs` and `.../states`.
    """

    body: bytes
    key: str
    count: int
    answers: Answers


def check(server: Server, workload: Workload, expected: Answers, together: bool = False) -> None:
    """Sends the sample of a workload, one request at a time.

    Args:
        server: to be judged.
        workload: whose sample is sent.
        expected: from `reference.expected`.
        together: whether to send it from many callers at once, too. A server that learns how long
            to wait for a batch learns from that, so it comes after measurements.

    Raises:
        ServerFailed: an answer is wrong; the text names the server.
    """
    how = ""
    try:
        if workload.streams:
            questions = _check_stream(server, workload, expected)
        else:
            questions = [
                _Question(body, f"{workload.name}/{i}", len(workload.requests[i]), expected)
                for i, body in enumerate(workload.bodies[: SAMPLE[workload.name]])
            ]
            for question in questions:
                _compare(server, question, server.answer(question.body))
        if together:
            how = " to many callers at once"
            _check_together(server, questions)
    except (
        OSError,
        http.client.HTTPException,
        KeyError,
        TypeError,
        ValueError,
        IndexError,
    ) as error:
        raise ServerFailed(
            f"{server.kind.name} answers {workload.name}{how} wrong: "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_together(server: Server, questions: Sequence[_Question]) -> None:
    """Sends from all callers before it reads any answer, several times.

    Callers of the same moment send different requests. They need no threads: those would take turns
    in sending, and a fast server would see few requests at once.
    """
    requests = TOGETHER // questions[0].count
    callers = min(CALLERS, requests)
    headers = {"Content-Type": "application/json"}
    with ExitStack() as stack:
        connections = [
            stack.enter_context(
                closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S))
            )
            for _ in range(callers)
        ]
        for connection in connections:
            connection.connect()
        for turn in range(requests // callers):
            asked = [questions[(turn + i) % len(questions)] for i in range(callers)]
            for connection, question in zip(connections, asked, strict=True):
                body = server.kind.wrap.around(question.body)
                connection.request("POST", "/predict", body, headers)
            for connection, question in zip(connections, asked, strict=True):
                response = connection.getresponse()
                answer = response.read()
                if response.status != HTTPStatus.OK:
                    raise ValueError(f"{question.key}: status {response.status}: {answer[:200]!r}")
                _compare(server, question, answer)


def _compare(server: Server, question: _Question, answer: bytes) -> None:
    """Raises as `compare`."""
    document = _document(answer)
    compare(document, question.answers, question.key, question.count, server.kind.tolerance)


def _document(answer: bytes) -> dict[str, Any]:
    """A parsed answer; to what was sent as a batch of one it is one, too."""
    document = orjson.loads(answer)
    if isinstance(document, list):
        (document,) = document
    found: dict[str, Any] = document
    return found


def _check_stream(server: Server, workload: Workload, expected: Answers) -> list[_Question]:
    """Piece by piece with the states of the piece before: as the whole at once.

    Returns:
        The pieces, each with the states that it was sent with. That the states of its own answer
        are right is known from the pieces after it.
    """
    outputs: list[Any] = []
    states = None
    pieces = []
    for i, body in enumerate(workload.bodies[: SAMPLE["stream"]]):
        request = orjson.loads(body)
        if states is not None:
            request["initial_states"] = states
        sent = orjson.dumps(request)
        document = _document(server.answer(sent))
        outputs += document["outputs"][0]
        states = document["states"]
        key = f"piece/{i}"
        answers = {
            f"{key}/0/outputs": np.array(document["outputs"][0]),
            f"{key}/0/states": _flat(states[0]),
        }
        pieces.append(_Question(sent, key, 1, answers))
    whole = {"outputs": [outputs], "states": states}
    compare(whole, expected, "stream/0", 1, server.kind.tolerance)
    return pieces


def _flat(state: Sequence[dict[str, Any]]) -> np.ndarray:
    """h and c of each layer in order, `[6 H]`."""
    return np.concatenate([layer[part] for layer in state for part in ("h", "c")])


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
        for name, found in (("outputs", np.array(outputs)), ("states", _flat(state))):
            wanted = expected[f"{key}/{j}/{name}"]
            if found.shape != wanted.shape:
                raise ValueError(f"{key}/{j}: {name} have shape {found.shape}, not {wanted.shape}")
            if not np.allclose(found, wanted, tolerance, tolerance):
                worst = float(np.abs(found - wanted).max())
                raise ValueError(f"{key}/{j}: {name} are off by up to {worst:.2g}")
