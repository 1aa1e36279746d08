import copy
from typing import Any

import numpy as np
import orjson
import pytest

from benchmarks.load.workloads import WORKLOADS, Workload, make
from benchmarks.models.expected_answers import Answers, sample
from benchmarks.servers.check import check, compare
from benchmarks.servers.kinds import KINDS, TOLERANCE
from benchmarks.servers.server import ServerFailed
from tests.benchmarks.servers.mixing import added_up, adding_server

KEY = "mixed/3"
EXPECTED = {
    f"{KEY}/0/outputs": np.array([[0.5], [0.25]], np.float32),
    f"{KEY}/0/states": np.array([1, 2, 3, 4, 5, 6], np.float32),
}
ANSWER: dict[str, Any] = {
    "outputs": [[[0.5], [0.25]]],
    "states": [[{"h": [1], "c": [2]}, {"h": [3], "c": [4]}, {"h": [5], "c": [6]}]],
}


def test_a_right_answer_is_right() -> None:
    compare(ANSWER, EXPECTED, KEY, 1, TOLERANCE)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("outputs", 0, 1, 0), 0.2503, "outputs are off by up to 0.0003"),
        (("states", 0, 2, "c"), [6.1], "states are off"),
        (("outputs", 0), [[0.5]], r"outputs have shape \(1, 1\), not \(2, 1\)"),
        (("states",), [], "not 1 sequences"),
    ],
)
def test_a_wrong_answer_is_told(path: tuple[Any, ...], value: Any, message: str) -> None:
    document = copy.deepcopy(ANSWER)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        compare(document, EXPECTED, KEY, 1, TOLERANCE)


class FakeServer:
    """Answers the same to everybody."""

    kind = KINDS["bentoml"]

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def answer(self, body: bytes) -> bytes:
        return self._answer


@pytest.mark.parametrize("answer", [b"not json", b"{}", b"[1, 2]", orjson.dumps(ANSWER)])
def test_a_server_that_answers_wrong_is_named(answer: bytes) -> None:
    expected = {
        f"fixed/{i}/0/{name}": value
        for i in range(8)
        for name, value in (("outputs", np.zeros((50, 1))), ("states", np.zeros(6)))
    }
    with pytest.raises(ServerFailed, match="bentoml answers fixed wrong"):
        check(FakeServer(answer), make("fixed"), expected)  # type: ignore[arg-type]


def sums_of(workload: Workload) -> Answers:
    expected = {}
    for i, request in enumerate(sample(workload)):
        for j, rows in enumerate(request):
            key = f"{workload.name}/{i}/{j}"
            expected[f"{key}/outputs"], expected[f"{key}/states"] = added_up(rows)
    return expected


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_server_that_mixes_up_callers_is_told(name: str) -> None:
    workload = make(name)
    with (
        adding_server(mixes=True) as server,
        pytest.raises(ServerFailed, match=f"litserve answers {name} to many callers at once wrong"),
    ):
        check(server, workload, sums_of(workload), together=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WORKLOADS)
def test_many_callers_are_answered_right_and_do_not_take_long(name: str) -> None:
    workload = make(name)
    with adding_server(mixes=False) as server:
        check(server, workload, sums_of(workload), together=True)  # type: ignore[arg-type]
    assert server.largest > 1
    # Those of a server that answers 60 sequences a second take 3 s.
    assert server.requests * len(workload.requests[0]) <= 3 * 60
