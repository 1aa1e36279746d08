"""A real server and what can be sent to it: each mistake gets its own clear problem, and hurts only
its sender.
"""

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.exported_models import raw_sequence, to_json
from tests.support.real_server import Server, serve

MAX_BODY = 200_000
ROW = [55.0, 1018.0, 180.0, 12.0]
# The layers of the model `mixed`.
GOOD_STATE = [
    {"h": [0.0] * 17, "c": [0.0] * 17},
    {"h": [0.0] * 12},
    {"h": [0.0] * 9},
    {"h": [0.0] * 5, "c": [0.0] * 5},
]


def sequences(*rows: Any) -> bytes:
    return json.dumps({"sequences": [list(rows)]}).encode()


def with_state(state: Any) -> bytes:
    return json.dumps({"sequences": [[ROW]], "initial_states": [state]}).encode()


# name: body, status, a word of the answer, pointer of its first error.
BAD: dict[str, tuple[bytes, int, str, str]] = {
    "not JSON": (b"sequences=1", 400, "JSON", ""),
    "cut off": (b'{"sequences": [[[1,', 400, "end of data", ""),
    "empty body": (b"", 400, "empty", ""),
    "not an object": (b"[1]", 422, "object", ""),
    "no sequences": (b"{}", 422, "required", "/sequences"),
    "wrong type": (b'{"sequences": "x"}', 422, "array", "/sequences"),
    "a string": (sequences([55.0, 1018.0, "180", 12.0]), 422, "number", "/sequences/0/0/2"),
    "a bool": (sequences(ROW, [True, 1018.0, 180.0, 12.0]), 422, "number", "/sequences/0/1/0"),
    "null": (sequences([None, 1018.0, 180.0, 12.0]), 422, "null", "/sequences/0/0/0"),
    "NaN": (b'{"sequences": [[[NaN, 1, 2, 3]]]}', 400, "NaN", ""),
    "Infinity": (b'{"sequences": [[[Infinity, 1, 2, 3]]]}', 400, "Infinity", ""),
    "1e999": (b'{"sequences": [[[1e999, 1, 2, 3]]]}', 400, "infinity", ""),
    "1e39": (b'{"sequences": [[[1e39, 1, 2, 3]]]}', 422, "float32", "/sequences/0/0/0"),
    "empty list": (b'{"sequences": []}', 422, "at least one", "/sequences"),
    "empty sequence": (b'{"sequences": [[]]}', 422, "at least one", "/sequences/0"),
    "ragged row": (sequences(ROW, ROW[:3], ROW), 422, "4 features", "/sequences/0/1"),
    "too many features": (sequences([*ROW, 1.0]), 422, "4 features", "/sequences/0/0"),
    "too many sequences": (
        json.dumps({"sequences": [[ROW]] * 17}).encode(), 422, "limit is 16", "/sequences",
    ),
    "too long": (sequences(*[ROW] * 301), 422, "limit is 300", "/sequences/0"),
    "body too large": (b" " * (MAX_BODY + 1), 413, f"limit is {MAX_BODY}", ""),
    "nesting of 8,000": (b"[" * 8_000 + b"]" * 8_000, 400, "depth", ""),
    "nesting inside": (
        b'{"sequences": ' + b"[" * 900 + b"]" * 900 + b"}", 422, "4 features", "/sequences/0/0",
    ),
    "state of wrong shape": (
        with_state([{"h": [0.0] * 16, "c": [0.0] * 17}, *GOOD_STATE[1:]]),
        422, "17 numbers", "/initial_states/0/0/h",
    ),
    "state of the wrong cell": (
        with_state([*GOOD_STATE[:1], {"h": [0.0] * 12, "c": [0.0] * 12}, *GOOD_STATE[2:]]),
        422, "gru", "/initial_states/0/1",
    ),
    "state of too few layers": (with_state(GOOD_STATE[:3]), 422, "4 layers", "/initial_states/0"),
    "concatenated state of wrong size": (
        with_state([0.0] * 64), 422, "65 numbers", "/initial_states/0",
    ),
    "unknown field": (b'{"sequences": [[[1, 2, 3, 4]]], "sequence": 1}', 422, "Extra", "/sequence"),
    "unknown option": (
        b'{"sequences": [[[1, 2, 3, 4]]], "outputs": "first"}', 422, "'all'", "/outputs",
    ),
    "unknown model": (
        b'{"sequences": [[[1, 2, 3, 4]]], "model": "other"}', 404, "other", "/model",
    ),
    "unknown version": (
        b'{"sequences": [[[1, 2, 3, 4]]], "model": {"name": "mixed", "version": 7}}',
        404, "version 7", "/model/version",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(
        models_dir,
        "mixed",
        tmp_path_factory.mktemp("log") / "server.log",
        max_body_bytes=MAX_BODY,
        max_sequences=16,
        max_sequence_steps=300,
        body_timeout_s=2,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def good() -> bytes:
    random = np.random.default_rng(5)
    return json.dumps({"sequences": [to_json(raw_sequence(random, 40))]}).encode()


@pytest.fixture(scope="module")
def neighbour(server: Server, good: bytes) -> Iterator[list[bytes]]:
    """Somebody who asks the same good thing all the while; its answers."""
    answers: list[bytes] = []
    stop = threading.Event()

    def ask() -> None:
        with server.client() as client:
            while not stop.is_set():
                answer = client.post("/predict", content=good)
                answers.append(answer.content if answer.status_code == 200 else b"failed")

    thread = threading.Thread(target=ask)
    thread.start()
    yield answers
    stop.set()
    thread.join(60)


def assert_problem(answer: httpx.Response, status: int, word: str, pointer: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"]
    assert body["title"]
    assert word in body["detail"]
    assert body["errors"][0]["pointer"] == pointer
    assert 1 <= len(body["errors"]) <= 10
    assert len(answer.content) < 4000, "an error is short, whatever was sent"
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("name", BAD)
def test_bad_request_gets_its_own_problem(server: Server, neighbour, name: str) -> None:
    body, status, word, pointer = BAD[name]
    with server.client() as client:
        assert_problem(client.post("/predict", content=body), status, word, pointer)


def test_body_too_large_without_content_length(server: Server, neighbour) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 10_000

    with server.client() as client:
        assert_problem(client.post("/predict", content=parts()), 413, "limit", "")


def test_endless_body_is_cut_off(server: Server, neighbour) -> None:
    """A sender who never ends is read up to a multiple of the limit, not for ever."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    part = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    def send_on() -> None:
        for _ in range(200 * MAX_BODY // len(part)):
            connection.send(part)

    with pytest.raises(OSError, match="reset|pipe"):
        send_on()
    connection.close()


def test_slow_body_is_given_up(server: Server, neighbour) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sender:
        sender.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        head = sender.recv(65536)
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in head


def test_compressed_body_is_refused_by_name(server: Server) -> None:
    body = gzip.compress(sequences(ROW))
    with server.client() as client:
        answer = client.post("/predict", content=body, headers={"Content-Encoding": "gzip"})
    assert_problem(answer, 415, "gzip", "")


def test_wrong_path_and_method_are_problems(server: Server) -> None:
    with server.client() as client:
        for answer, status in (
            (client.get("/nothing"), 404),
            (client.post("/predict/", content=sequences(ROW)), 404),
            (client.get("/predict"), 405),
            (client.put("/predict", content=b"{}"), 405),
        ):
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status


def test_many_mistakes_show_at_most_ten_and_no_long_values(server: Server) -> None:
    body = sequences(*[["x" * 1000, 1018.0, {"a": 1}, 12.0]] * 50)
    with server.client() as client:
        answer = client.post("/predict", content=body)
    assert_problem(answer, 422, "number", "/sequences/0/0/0")
    assert len(answer.json()["errors"]) == 10
    assert "x" * 81 not in answer.text


def test_nobody_else_was_hurt(server: Server, neighbour: list[bytes]) -> None:
    """Runs after all of the above: the neighbour's answers were right all the while."""
    with server.client() as client:
        for body, *_ in BAD.values():
            client.post("/predict", content=body)
    assert len(neighbour) > 10
    assert b"failed" not in neighbour
    # Another batch may round in another way, so the bytes may differ, the numbers not.
    first = np.array(json.loads(neighbour[0])["outputs"][0])
    for answer in set(neighbour):
        np.testing.assert_allclose(json.loads(answer)["outputs"][0], first, rtol=1e-5, atol=1e-5)
    assert server.process.poll() is None
    assert "Traceback" not in server.log.read_text()


def test_state_of_an_answer_is_accepted_with_its_model(server: Server) -> None:
    with server.client() as client:
        first = client.post("/predict", content=sequences(ROW)).json()
        body = {
            "sequences": [[ROW]],
            "initial_states": first["states"],
            "model": first["model"],
            "outputs": "last",
            "states": "none",
        }
        second = client.post("/predict", json=body)
    assert second.status_code == 200
    assert second.json().keys() == {"model", "outputs"}
    assert len(second.json()["outputs"][0]) == 2
