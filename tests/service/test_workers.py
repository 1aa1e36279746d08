"""A service of two workers is one service, whoever of them answers or dies."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.exported_models import export, raw_sequence, to_json
from tests.support.real_server import LIMIT_S, Server, serve, until
from tests.support.reference_model import assert_close


@pytest.fixture
def server(models_dir: Path, tmp_path: Path) -> Iterator[Server]:
    settings = {"workers": 2, "runner": "onnxruntime", "max_chunk_steps": 8}
    with serve(models_dir, "mixed", tmp_path / "log", **settings) as running:
        yield running


def body_of(steps: int = 5, seed: int = 0) -> bytes:
    sequence = to_json(raw_sequence(np.random.default_rng(seed), steps))
    return json.dumps({"sequences": [sequence], "outputs": "last"}).encode()


def connections_of(pid: int, port: int) -> int:
    """Callers that a process holds a connection with."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    local = f":{port:04X}"
    return sum(line[1].endswith(local) and line[3] == "01" and line[9] in inodes for line in lines)


def is_ready(server: Server) -> bool:
    """Whether it is, with all of its workers."""
    told = httpx.get(f"{server.url}/readyz", timeout=10.0).json()
    return bool(told.get("workers_ready") == 2)


def is_replaced(server: Server, victim: int) -> bool:
    workers = server.workers()
    return victim not in workers and len(workers) == 2


def test_connections_are_spread_evenly_and_all_are_answered_alike(server: Server) -> None:
    workers = server.workers()
    assert len(workers) == 2
    assert server.counter("unroll_workers") == 2
    before = server.counter("unroll_sequences_completed_total")
    clients = [server.client() for _ in range(8)]
    try:
        answers = [client.post("/predict", content=body_of()) for client in clients]
        assert {answer.status_code for answer in answers} == {200}
        # Alone in its chunk each time, so it is the same computation.
        assert len({answer.content for answer in answers}) == 1
        until(
            lambda: [connections_of(pid, server.port) for pid in workers] == [4, 4],
            "connections are not spread evenly",
        )
        # Whoever is asked tells what all have done.
        for client in clients:
            lines = client.get("/metrics").text.splitlines()
            name = "unroll_sequences_completed_total "
            (found,) = [float(line.split()[1]) for line in lines if line.startswith(name)]
            assert found == before + 8
    finally:
        for client in clients:
            client.close()


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_forgotten(server: Server) -> None:
    for _ in range(6):
        assert httpx.post(f"{server.url}/predict", content=body_of()).status_code == 200
    completed = server.counter("unroll_sequences_completed_total")
    assert completed >= 6
    victim, other = server.workers()
    os.kill(victim, signal.SIGKILL)
    answered = 0
    # The rest of the service goes on all the while.
    while victim in server.workers() or len(server.workers()) < 2 or not is_ready(server):
        answer = httpx.post(f"{server.url}/predict", content=body_of(), timeout=LIMIT_S)
        assert answer.status_code == 200
        answered += 1
        found = server.counter("unroll_sequences_completed_total")
        assert found >= completed + answered
        assert answered < 100_000
    assert other in server.workers()
    until(lambda: server.counter("unroll_workers") == 2, "the worker is not replaced")
    # The new one has its share.
    clients = [server.client() for _ in range(6)]
    try:
        for client in clients:
            assert client.post("/predict", content=body_of()).status_code == 200
        for pid in server.workers():
            assert connections_of(pid, server.port) == 3
    finally:
        for client in clients:
            client.close()
    total = server.counter("unroll_sequences_completed_total")
    assert total == completed + answered + 6
    assert server.stop() == 0


def test_nobody_is_left_when_the_parent_is_killed(server: Server) -> None:
    assert len(server.processes()) >= 3
    server.process.kill()
    server.process.wait(30)
    until(lambda: server.processes() == [], "a process is left behind")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=10)


def test_sigterm_lets_the_requests_of_both_finish(models_dir: Path, tmp_path: Path) -> None:
    callers, count = 6, 8
    sequence = to_json(raw_sequence(np.random.default_rng(0), 9000))
    body = json.dumps({"sequences": [sequence] * count, "outputs": "last"}).encode()
    answers: list[httpx.Response] = []

    def ask(server: Server) -> None:
        with server.client() as client:
            answers.append(client.post("/predict", content=body))

    # A time step a chunk, so that they take their time.
    settings = {"workers": 2, "runner": "onnxruntime", "max_chunk_steps": 1}
    with serve(models_dir, "mixed", tmp_path / "log", **settings) as server:
        threads = [threading.Thread(target=ask, args=(server,)) for _ in range(callers)]
        for thread in threads:
            thread.start()
        until(lambda: server.have_come() == callers * count, "they do not all come")
        assert len(answers) < callers, "nobody was left to wait for when the signal came"
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(LIMIT_S)
        assert server.process.wait(60) == 0
        assert [answer.status_code for answer in answers] == [200] * callers
        # What multiprocessing itself starts ends a moment later.
        until(lambda: server.processes() == [], "a process is left")
        assert "Traceback" not in server.log.read_text()


def test_a_killed_worker_takes_no_session_along(server: Server) -> None:
    """The file that workers share outlives any of them."""
    sequence = raw_sequence(np.random.default_rng(1), 30)
    session: dict[str, object] = {"id": "a", "time_step": 0}
    outputs = []
    for start in range(0, 30, 10):
        body = {"sequences": [to_json(sequence[start : start + 10])], "session": session}
        answer = httpx.post(f"{server.url}/predict", json=body, timeout=LIMIT_S).json()
        outputs += answer["outputs"][0]
        session = answer["session"]
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in server.workers(), "it lives on")  # noqa: B023
        until(lambda: is_ready(server), "nobody took its place")
    whole = {"sequences": [to_json(sequence)]}
    expected = httpx.post(f"{server.url}/predict", json=whole, timeout=LIMIT_S).json()
    assert_close(outputs, np.array(expected["outputs"][0]))


def test_a_worker_that_is_replaced_serves_what_the_others_do(tmp_path: Path) -> None:
    """Though a newer version has been trained by then."""
    export(tmp_path, ("rnn:3",), seed=1)
    settings = {"workers": 2, "runner": "onnxruntime", "max_chunk_steps": 8}
    with serve(tmp_path, "tiny", tmp_path / "log", **settings) as server:
        expected = httpx.post(f"{server.url}/predict", content=body_of(), timeout=LIMIT_S).content
        export(tmp_path, ("rnn:3",), seed=2)
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: is_replaced(server, victim), "nobody took its place")
        until(lambda: is_ready(server), "its successor is not ready")
        clients = [server.client() for _ in range(4)]
        try:
            # Each worker has two of them.
            answers = {client.post("/predict", content=body_of()).content for client in clients}
            models = [client.get("/models").json()["models"] for client in clients]
        finally:
            for client in clients:
                client.close()
        assert json.loads(expected)["model"] == {"name": "tiny", "version": 1}
        assert answers == {expected}
        for found in models:
            assert {model["version"]: model["state"] for model in found}[1] == "ready"


def test_a_worker_that_hangs_keeps_its_parent_from_nothing(
    models_dir: Path, tmp_path: Path
) -> None:
    settings = {"workers": 2, "runner": "onnxruntime", "max_chunk_steps": 8, "drain_timeout_s": 1}
    with serve(models_dir, "mixed", tmp_path / "log", **settings) as server:
        hanging, victim = server.workers()
        os.kill(hanging, signal.SIGSTOP)
        os.kill(victim, signal.SIGKILL)
        until(lambda: is_replaced(server, victim), "nobody took its place")
        assert hanging in server.workers(), "its parent has waited for it all the while"
        assert server.stop() == 0
        until(lambda: server.processes() == [], "a process is left")
        assert "does not end: it is killed" in server.log.read_text()


def test_it_is_ready_while_a_worker_answers_and_tells_of_one_that_cannot_come_back(
    tmp_path: Path,
) -> None:
    folder = export(tmp_path, ("rnn:3",))
    settings = {"workers": 2, "runner": "onnxruntime", "max_chunk_steps": 8}
    with serve(tmp_path, "tiny", tmp_path / "log", **settings) as server:
        folder.rename(tmp_path / "gone")
        victim, other = server.workers()
        os.kill(victim, signal.SIGKILL)
        told: list[dict[str, object]] = []

        def is_told() -> bool:
            answer = httpx.get(f"{server.url}/readyz", timeout=10.0)
            assert answer.status_code == 200
            told.append(answer.json())
            return told[-1]["workers_failing"] == 1

        until(is_told, "it does not tell")
        assert told[-1]["workers_ready"] == 1
        assert told[-1]["detail"] == "1 of the service's workers cannot load the model"
        assert server.counter("unroll_workers_failing") == 1
        assert "its folder is gone" in server.log.read_text()
        for _ in range(5):
            assert httpx.post(f"{server.url}/predict", content=body_of()).status_code == 200
        (tmp_path / "gone").rename(folder)
        until(lambda: is_ready(server), "it does not come back")
        assert other in server.workers()
