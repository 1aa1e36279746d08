"""How a real server stops, and what it says when it cannot start."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.exported_models import export, raw_sequence, to_json
from tests.support.real_server import LIMIT_S, Server, serve, until

# A time step a chunk: 9,000 time steps take seconds, and a signal does not.
SLOW: dict[str, object] = {"runner": "onnxruntime", "max_chunk_steps": 1}
SEQUENCES = 2


def terminate(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)


def terminate_all(server: Server) -> None:
    """As systemd does: workers end by themselves, before their parent has told them."""
    os.killpg(server.process.pid, signal.SIGTERM)


def hang_up(server: Server) -> None:
    """As a terminal does that is closed: all of its processes are told."""
    os.killpg(server.process.pid, signal.SIGHUP)


def stop_while_busy(
    server: Server,
    callers: int,
    stop: Callable[[Server], None] = terminate,
    sequences: int = SEQUENCES,
    **options: object,
) -> list[httpx.Response]:
    """Stops it when so many long requests have come; their answers, once it has ended well."""
    sequence = to_json(raw_sequence(np.random.default_rng(0), 9000))
    body = json.dumps({"sequences": [sequence] * sequences, "outputs": "last", **options}).encode()
    answers: list[httpx.Response] = []

    def ask() -> None:
        with server.client() as client:
            answers.append(client.post("/predict", content=body))

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    # A piece that two workers compute at once is computed again by one of them, and counts twice.
    until(lambda: server.have_come() >= callers * sequences, "not all requests come")
    assert len(answers) < callers, "nobody was left to wait for when the signal came"
    stop(server)
    for thread in threads:
        thread.join(LIMIT_S)
    assert server.process.wait(60) == 0
    assert "Traceback" not in server.log.read_text()
    assert len(answers) == callers
    return answers


@pytest.mark.parametrize("runner", ["tensorflow", "onnxruntime"])
def test_sigterm_lets_running_requests_finish(
    models_dir: Path, tmp_path: Path, runner: str
) -> None:
    # TensorFlow is slower, and two workers would compile its call shapes twice.
    workers, sequences = (1, 1) if runner == "tensorflow" else (2, SEQUENCES)
    settings = {**SLOW, "runner": runner, "workers": workers}
    with serve(models_dir, "mixed", tmp_path / "log", **settings) as server:
        answers = stop_while_busy(server, callers=6, sequences=sequences)
    assert {answer.status_code for answer in answers} == {200}


def test_no_worker_is_replaced_while_all_stop(models_dir: Path, tmp_path: Path) -> None:
    with serve(models_dir, "mixed", tmp_path / "log", workers=2) as server:
        terminate_all(server)
        assert server.process.wait(60) == 0
        until(lambda: server.processes() == [], "a process is left")
    assert "replaced" not in server.log.read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_terminal_that_is_closed_lets_running_requests_finish(
    models_dir: Path, tmp_path: Path, workers: int
) -> None:
    with serve(models_dir, "mixed", tmp_path / "log", workers=workers, **SLOW) as server:
        answers = stop_while_busy(server, callers=6, stop=hang_up)
        until(lambda: server.processes() == [], "a process is left")
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("workers", [1, 2])
def test_nohup_lets_it_run_on(models_dir: Path, tmp_path: Path, workers: int) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with serve(models_dir, "mixed", tmp_path / "log", workers=workers, **SLOW) as server:
            for pid in server.workers() or [server.process.pid]:
                assert ignores_hang_ups(pid)
            assert ignores_hang_ups(server.process.pid)
            assert server.stop() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def ignores_hang_ups(pid: int) -> bool:
    (line,) = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("SigIgn:")
    ]
    return bool(int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


def test_sigterm_lets_the_pieces_of_a_session_finish_one_after_the_other(
    models_dir: Path, tmp_path: Path
) -> None:
    with serve(models_dir, "mixed", tmp_path / "log", workers=2, **SLOW) as server:
        session = {"id": "a", "must_exist": False}
        answers = stop_while_busy(server, callers=4, sequences=1, session=session)
    told = sorted(answer.json()["session"]["time_step"] for answer in answers)
    assert told == [9000, 18000, 27000, 36000]


def test_sigterm_tells_those_who_cannot_finish_in_time(models_dir: Path, tmp_path: Path) -> None:
    """One slot, so that they take long; the first may be answered before the last has come."""
    limits = {"stop_notice_s": 0.0, "drain_timeout_s": 0.01, "slots_per_lane": 1}
    with serve(models_dir, "mixed", tmp_path / "log", **limits, **SLOW) as server:
        answers = stop_while_busy(server, callers=6, sequences=4)
    told = [answer for answer in answers if answer.status_code != 200]
    assert len(told) >= 2
    for answer in told:
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert "stop" in answer.json()["detail"]


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_gives_notice_and_answers_all_who_come_meanwhile(
    models_dir: Path, tmp_path: Path, workers: int
) -> None:
    row = to_json(raw_sequence(np.random.default_rng(0), 1))
    body = json.dumps({"sequences": [row], "outputs": "last"}).encode()
    settings = {"runner": "onnxruntime", "workers": workers, "stop_notice_s": 1.5}
    with serve(models_dir, "mixed", tmp_path / "log", **settings) as server:
        with server.client() as one, server.client() as other:
            for client in (one, other):
                assert "connection" not in client.post("/predict", content=body).headers
            terminate(server)
            until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503, "it says nothing")
            for client in (one, other, one):
                answer = client.post("/predict", content=body)
                assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert httpx.get(f"{server.url}/healthz").status_code == 200
        assert server.process.wait(10) == 0
        assert "Traceback" not in server.log.read_text()


def test_a_second_service_takes_the_port_over(models_dir: Path, tmp_path: Path) -> None:
    """Both are given one listener; a caller who opens connections all the while loses none."""
    answers: list[int] = []
    settings: dict[str, object] = {"runner": "onnxruntime", "compare": False}
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def ask() -> None:
            while not over.is_set():
                answers.append(httpx.get(f"{url}/models", timeout=LIMIT_S).status_code)

        def start(workers: int) -> AbstractContextManager[Server]:
            log = tmp_path / f"log-{workers}"
            return serve(models_dir, "mixed", log, listener=listener, workers=workers, **settings)

        asking = threading.Thread(target=ask)
        with start(workers=2) as first, start(workers=1) as second:
            asking.start()
            until(lambda: "is ready" in second.log.read_text(), "it does not load")
            assert first.stop() == 0
            enough = len(answers) + 20
            until(lambda: len(answers) >= enough, "nobody took over")
            over.set()
            asking.join(LIMIT_S)
            assert second.stop() == 0
    assert set(answers) == {200}


def test_what_is_no_listener_is_told() -> None:
    command = f"LISTEN_FDS=1 LISTEN_PID=$$ exec {sys.executable} -m app 3</dev/null"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: LISTEN_FDS: file 3 is no socket")


def test_sigterm_while_loading_stops_at_once(models_dir: Path, tmp_path: Path) -> None:
    with serve(models_dir, "mixed", tmp_path / "log", ready=False, slots_per_lane=4096) as server:
        until(lambda: "loading" in httpx.get(f"{server.url}/models").text, "it never loads")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert "Traceback" not in server.log.read_text()


def test_not_ready_without_a_whole_model_says_why(tmp_path: Path) -> None:
    folder = export(tmp_path, ("rnn:3",))
    data = bytearray((folder / "saved_model.pb").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "saved_model.pb").write_bytes(data)
    with (
        serve(tmp_path, "tiny", tmp_path / "log", ready=False) as server,
        server.client() as client,
    ):
        deadline = time.monotonic() + 60
        while (found := client.get("/models").json()["models"]) == [] or (
            found[0]["state"] != "refused"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "saved_model.pb" in found[0]["reason"]
        assert "SHA-256" in found[0]["reason"]
        for answer in (client.get("/readyz"), client.post("/predict", content=b"{}")):
            assert answer.status_code == 503
            assert "saved_model.pb" in answer.json()["detail"]
        assert client.get("/healthz").status_code == 200
        assert server.stop() == 0


def test_a_temporary_folder_with_too_long_a_name_is_told(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder), "UNROLL_WORKERS": "2", "UNROLL_PORT": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "app"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: TMPDIR: '{folder}' must have at most 78 bytes, for ")
    assert ended.stderr.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_a_worker_that_cannot_start_ends_the_service_as_a_failure(tmp_path: Path) -> None:
    (tmp_path / "stats").touch()
    # What there is no such thing as cannot be served.
    script = f"""
import pathlib
from app.__main__ import serve
from app.workers.worker_server import WorkerConfig
home = pathlib.Path({str(tmp_path)!r})
config = WorkerConfig("nothing:here", home=home, stats=print, port=0, workers=2)
raise SystemExit(0 if serve(config, config.bind_socket()) else 7)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 7, ended.stderr
    assert "cannot start: the service ends" in ended.stderr
