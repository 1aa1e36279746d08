"""When the first outputs of a long sequence arrive, and when the last.

One caller, one connection, one sequence; as one JSON document and line by line (NDJSON) in turn.
"""

import http.client
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.load.workloads import SEED, sensor_rows
from benchmarks.models.ensure_model import ensure_model
from benchmarks.progress import say
from benchmarks.report.markdown import number, table
from benchmarks.sections.plan import Plan
from benchmarks.servers.interleaving import awake, running
from benchmarks.servers.kinds import KINDS, UNROLL

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


def measure(plan: Plan, _: dict[str, Any]) -> list[dict[str, Any]]:
    """See `Section`: a row for each length, medians in ms."""
    random, rows = np.random.default_rng(SEED), []
    with running([KINDS[UNROLL]], ensure_model(plan.units), []) as (server,), awake(server):
        caller = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for steps in TIME_STEPS:
            body = orjson.dumps(
                {"sequences": [sensor_rows(steps, random)]}, option=orjson.OPT_SERIALIZE_NUMPY
            )
            seen = [
                (ask(caller, body, LINES), ask(caller, body, "application/json"))
                for _ in range(ROUNDS)
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


def write(rows: Sequence[dict[str, Any]], _: dict[str, Any], __: Path) -> str:
    """See `Section`."""
    return f"""## Line by line

One caller, one long sequence with the outputs of every time step: when its first outputs arrive and
when its last, with `Accept: application/x-ndjson`, and when all of it does as one JSON document.
Medians of {ROUNDS} requests each.

{lines_table(rows)}"""


def lines_table(rows: Sequence[dict[str, Any]]) -> str:
    """When the first outputs of a sequence arrive."""
    return table(
        ["time steps", "first line ms", "last line ms", "first of last", "JSON ms"],
        [
            [
                f"{row['time_steps']:,}",
                number(row["first_ms"]),
                number(row["whole_ms"]),
                f"{row['first_ms'] / row['whole_ms']:.0%}",
                number(row["json_ms"]),
            ]
            for row in rows
        ],
    )
