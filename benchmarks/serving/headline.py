"""README's table, from the results of a full run: it stands between two comments there."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.kernels.table import ERROR_SAMPLE
from benchmarks.report.markdown import rounded_up, times
from benchmarks.servers.kinds import (
    FASTAPI,
    FASTAPI_BUCKETS,
    FASTAPI_PROCESSES,
    GRANIAN,
    KERAS,
    KERAS_PROCESSES,
    UNROLL,
)

Row = dict[str, Any]

BEGIN, END = "<!-- headline -->", "<!-- /headline -->"
CLIENTS = 64
WORKLOADS = ("fixed", "mixed")
# Of the results, that it is made of.
SECTIONS = {"closed", "large", "kernel"}
SIDES = {
    UNROLL: "**Unroll**, a process per core",
    "unroll_tensorflow": "Unroll with TensorFlow's kernel, a process per core",
    FASTAPI: "FastAPI + ONNX Runtime, padded dynamic batching, one process",
    FASTAPI_BUCKETS: "the same, batches cut by length",
    FASTAPI_PROCESSES: "the same, cut by length, with a process per core",
    GRANIAN: "granian (RSGI) + ONNX Runtime, batches of like lengths, a process per core",
    "ray_serve": "Ray Serve (Keras SavedModel), a replica per core",
    "litserve": "LitServe (Keras SavedModel), 2 workers",
    "bentoml": "BentoML (Keras SavedModel), 2 workers",
    KERAS: "FastAPI + Keras SavedModel, no batching, one process",
    KERAS_PROCESSES: "the same with a process per core",
}


def place(page: str, results: Row) -> str:
    """A page with the headline of these results between its comments.

    Raises:
        ValueError: it has no such place.
    """
    between = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    placed, count = between.subn(lambda found: found[1] + headline(results) + found[2], page)
    if count != 1:
        raise ValueError(f"the page has {count} places for a headline, not one")
    return placed


def headline(results: Row) -> str:
    """Requests/s, p99 and ratios at 64 clients, and the large model's."""
    machine = results["measured"]["closed"]["machine"]
    rounds = _rounds(results["closed"])
    lines = [
        f"Requests/s and 99th percentile of latency at {CLIENTS} clients, 3 x LSTM 100, "
        f"{machine['cores']} cores ({machine['cpu']}),\nwhich wrk shares; "
        f"{_about_rounds(rounds)}:",
        "",
        "| | 50 time steps | mixed lengths (1 to 330, median 22) |",
        "|---|---|---|",
    ]
    for server, count in rounds.items():
        cells = [_text(results["closed"], server, workload) for workload in WORKLOADS]
        few = f", {_counted(count)}" if count < max(rounds.values()) else ""
        lines.append(f"| {SIDES[server]}{few} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _large(results), ""])


def _rounds(cells: Sequence[Row]) -> dict[str, int]:
    """How many rounds each row's server had, in the order of the rows, without those not there."""
    counts = {cell["server"]: len(cell["rounds"]) for cell in cells}
    return {server: counts[server] for server in SIDES if server in counts}


def _about_rounds(rounds: Mapping[str, int]) -> str:
    """What the numbers are of; the rows of slow servers say how few rounds they had."""
    most = max(rounds.values())
    if most == 1:
        return "one round"
    text = f"medians of {most} interleaved rounds"
    if min(rounds.values()) < most:
        text += ", or as few as a row says, as long as those of another together"
    return text


def _counted(rounds: int) -> str:
    return f"{rounds} round{'s' * (rounds > 1)}"


def _text(cells: Sequence[Row], server: str, workload: str) -> str:
    cell, ours = (_found(cells, name, workload, CLIENTS) for name in (server, UNROLL))
    text = f"{cell['per_second']:,.0f}/s, {cell['p99_ms']:.0f} ms"
    return text if server == UNROLL else f"{text}: Unroll **{_ratio(ours, cell)}**"


def _large(results: Row) -> str:
    """The large model beside the best of its peers."""
    cells = results["large"]

    def best(clients: int) -> Row:
        peers = [c for c in cells if not c["server"].startswith(UNROLL) and c["clients"] == clients]
        return max(peers, key=lambda cell: float(cell["per_second"]))

    def text(server: str, clients: int) -> tuple[str, str]:
        cell = _found(cells, server, "mixed", clients)
        return f"{cell['per_second']:,.0f}/s", _ratio(cell, best(clients))

    (many, ratio), (rounded, more) = text(UNROLL, CLIENTS), text("unroll_bfloat16", CLIENTS)
    error = next(each["bfloat16_error"] for each in results["kernel"] if each["units"] == 512)
    return (
        f"3 x LSTM 512, mixed lengths, {CLIENTS} clients: {many}, {ratio} the best of the rows "
        f"with ONNX Runtime. With\n`UNROLL_RUNNER=bfloat16`, {rounded}, {more}: its outputs are "
        f"off by up to {rounded_up(error, 2)} of their standard deviation in a\nsample "
        f"({ERROR_SAMPLE}), while peers compute in float32. Without it a lone client gets\n"
        f"{text(UNROLL, 1)[1]} as many answers as from the best of them."
    )


def _found(cells: Sequence[Row], server: str, workload: str, clients: int) -> Row:
    wanted = (server, workload, clients)
    return next(c for c in cells if (c["server"], c["workload"], c["clients"]) == wanted)


def _ratio(cell: Row, other: Row) -> str:
    return times(cell["per_second"] / other["per_second"])
