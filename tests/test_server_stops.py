"""How a real server stops, and what it says when it cannot start."""

import json
import signal
import threading
import time
from pathlib import Path

import httpx
import numpy as np

from tests.exports import export, raw_sequence, to_json
from tests.server import LIMIT_S, Server, serve, until

# The slower kernel with the shortest chunks: 9,000 time steps take seconds, and a signal does not.
SLOW: dict[str, object] = {"runner": "tensorflow", "max_chunk_steps": 1}


def stop_while_busy(server: Server, callers: int, **options: object) -> list[httpx.Response]:
    """Sends SIGTERM when so many long requests have come; their answers, once it has ended well."""
    sequence = to_json(raw_sequence(np.random.default_rng(0), 9000))
    body = json.dumps({"sequences": [sequence], "outputs": "last", **options}).encode()
    answers: list[httpx.Response] = []

    def ask() -> None:
        with server.client() as client:
            answers.append(client.post("/predict", content=body))

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    until(lambda: server.have_come() == callers, "not all requests come")
    assert len(answers) < callers, "nobody was left to wait for when the signal came"
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(LIMIT_S)
    assert server.process.wait(60) == 0
    assert "Traceback" not in server.log.read_text()
    assert len(answers) == callers
    return answers


def test_sigterm_lets_running_requests_finish(models_dir: Path, tmp_path: Path) -> None:
    with serve(models_dir, "mixed", tmp_path / "log", **SLOW) as server:
        answers = stop_while_busy(server, callers=6)
    assert {answer.status_code for answer in answers} == {200}


def test_sigterm_lets_the_pieces_of_a_session_finish_one_after_the_other(
    models_dir: Path, tmp_path: Path
) -> None:
    settings = {"runner": "tensorflow", "max_chunk_steps": 8, "workers": 2}
    with serve(models_dir, "mixed", tmp_path / "log", **settings) as server:
        answers = stop_while_busy(server, callers=4, session="a")
    told = sorted(answer.json()["session"]["time_step"] for answer in answers)
    assert told == [9000, 18000, 27000, 36000]


def test_sigterm_tells_those_who_cannot_finish_in_time(models_dir: Path, tmp_path: Path) -> None:
    with serve(models_dir, "mixed", tmp_path / "log", drain_timeout_s=0.01, **SLOW) as server:
        answers = stop_while_busy(server, callers=6)
    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert "stop" in answer.json()["detail"]


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
