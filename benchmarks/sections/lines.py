"""`python -m benchmarks.sections.lines`: when the first outputs of a long sequence arrive, when the last.

One caller, one connection, one sequence; as one JSON document and line by line (NDJSON) in turn.
"""

import argparse
import http.client
import statistics
import sys
import time
from typing import Any

import numpy as np
import orjson

from benchmarks.load.workloads import SEED, sensor_rows
from benchmarks.models.prepare import ensure_model
from benchmarks.servers.kinds import KINDS, UNROLL
from benchmarks.servers.rounds import awake, running, say

TIME_STEPS = (500, 5000, 10_000)
ROUNDS = 15
LINES = "application/x-ndjson"


def ask(connection: http.client.HTTPConnection, body: bytes, accept: str) -> tuple[float, float]:
    """Seconds until the first line with outputs has arrived, and until all has.

    Args:
        connection: to the server; stays open.
        body: of the request.
        accept: media type of the answer; one that is not in lines is all there at once.
    """
    since = time.monotonic()
    connection.request("POST", "/predict", body, {"Accept": accept})
    answer = connection.getresponse()
    assert answer.status == http.client.OK, answer.read()
    if accept != LINES:
        answer.read()
        whole = time.monotonic() - since
        return whole, whole
    assert b'"model"' in answer.readline()
    assert b'"outputs"' in answer.readline()
    first = time.monotonic() - since
    assert b'"states"' in answer.read().splitlines()[-1]
    return first, time.monotonic() - since


def measure(units: int, lengths: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """A row for each length: medians in ms."""
    random, rows = np.random.default_rng(SEED), []
    with running([KINDS[UNROLL]], ensure_model(units), []) as (server,), awake(server):
        caller = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for steps in lengths:
            body = orjson.dumps(
                {"sequences": [sensor_rows(steps, random)]}, option=orjson.OPT_SERIALIZE_NUMPY
            )
            seen = [
                (ask(caller, body, LINES), ask(caller, body, "application/json"))
                for _ in range(rounds)
            ]
            row = {
                "time_steps": steps,
                "first_ms": 1e3 * statistics.median(lines[0] for lines, _ in seen),
                "whole_ms": 1e3 * statistics.median(lines[1] for lines, _ in seen),
                "json_ms": 1e3 * statistics.median(json[1] for _, json in seen),
            }
            rows.append(row)
            say(f"lines {row}")
        caller.close()
    return rows


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sections.lines", description=__doc__
    )
    parser.add_argument("--time-steps", type=int, nargs="+", default=list(TIME_STEPS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--model", type=int, default=100, help="units of each layer")
    given = parser.parse_args()
    measure(given.model, tuple(given.time_steps), given.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
