"""What two workers of a real service count is what their callers got."""

import http.client
import json
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

from tests.support.exported_models import raw_sequence, to_json
from tests.support.metrics_page import Scrape
from tests.support.real_server import LIMIT_S, Server, serve

MAX_BODY = 4_000_000
SEQUENCES = 4
ROW = [55.0, 1018.0, 180.0, 12.0]
TENSOR = {"name": "sequences", "shape": [1, 1, 4], "datatype": "FP32", "data": [[ROW]]}
GOOD = json.dumps({"sequences": [[ROW]]}).encode()
INFER = json.dumps({"inputs": [TENSOR]}).encode()
INSTANCES = json.dumps({"instances": [[ROW]]}).encode()
TIMED = ("predict", "v1", "v2")

# Route, path, body, status.
CASES = [
    ("predict", "/predict", GOOD, 200),
    ("predict", "/predict", b"{}", 422),
    ("predict", "/predict", b" " * (MAX_BODY + 1), 413),
    ("predict", "/predict", b'{"model": "other", "sequences": [[[1, 2, 3, 4]]]}', 404),
    ("v1", "/v1/models/mixed:predict", INSTANCES, 200),
    ("v1", "/v1/models/mixed:predict", b"{}", 400),
    ("v2", "/v2/models/mixed/infer", INFER, 200),
    ("v2", "/v2/models/other/infer", INFER, 404),
    ("sessions", "/sessions/none", b"", 404),
]


def scrape(server: Server) -> Scrape:
    """From a connection of its own, so from either worker."""
    return Scrape(httpx.get(f"{server.url}/metrics", timeout=LIMIT_S).text)


def ask(server: Server, path: str, body: bytes, in_pieces: bool = False) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_S)
    method = "GET" if path.startswith("/sessions/") else "POST"
    connection.putrequest(method, path)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(None if in_pieces else body)
    if in_pieces:
        # Most likely it has been read by then; whether or not, it is one answer.
        time.sleep(0.02)
        connection.send(body)
    status = connection.getresponse().status
    connection.close()
    return status


def test_every_answer_of_two_workers_is_counted_once(models_dir: Path, tmp_path: Path) -> None:
    settings = {
        "workers": 2,
        "runner": "onnxruntime",
        "max_body_bytes": MAX_BODY,
        "max_sequences": SEQUENCES,
        "max_waiting_sequences": SEQUENCES,
        # A time step a chunk, so that long sequences take their time.
        "max_chunk_steps": 1,
    }
    got: Counter[tuple[str, str]] = Counter()
    with serve(models_dir, "mixed", tmp_path / "log", **settings) as server:
        for in_pieces in (False, True) * 3:
            for route, path, body, status in CASES:
                assert ask(server, path, body, in_pieces) == status
                got[route, str(status)] += 1
        assert scrape(server).requests(*TIMED, "sessions") == got

        _fill(server, got)
        found = scrape(server)
        assert got["predict", "503"] > 0
        assert got["v1", "429"] > 0
        assert found.requests(*TIMED, "sessions") == got
        for route in TIMED:
            assert found.timed(route) == sum(n for (of, _), n in got.items() if of == route)
        assert found.labels("unroll_model_info") == [
            {"name": "mixed", "version": "1", "kernel": "onnxruntime"}
        ]


def _fill(server: Server, got: Counter[tuple[str, str]]) -> None:
    """Callers with all that a worker takes, and others meanwhile, until some are refused."""
    sequence = to_json(raw_sequence(np.random.default_rng(0), 9000))
    long = json.dumps({"sequences": [sequence] * SEQUENCES, "outputs": "last"}).encode()
    asked: list[tuple[str, str]] = []

    def ask_much() -> None:
        asked.append(("predict", str(ask(server, "/predict", long))))

    deadline = time.monotonic() + LIMIT_S
    while not (got["predict", "503"] and got["v1", "429"]):
        assert time.monotonic() < deadline, "nobody is refused"
        threads = [threading.Thread(target=ask_much) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            got["predict", str(ask(server, "/predict", GOOD))] += 1
            got["v1", str(ask(server, "/v1/models/mixed:predict", INSTANCES))] += 1
        for thread in threads:
            thread.join(LIMIT_S)
        got.update(asked)
        asked.clear()
