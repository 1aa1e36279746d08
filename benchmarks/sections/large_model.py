"""The model of 512 units."""

from pathlib import Path
from typing import Any

from benchmarks.sections.closed import Cells, closed_loop, rates_and_latencies
from benchmarks.sections.plan import Plan

UNITS = 512


def measure(plan: Plan, _: dict[str, Any]) -> Cells:
    """See `Section`."""
    clients = {"mixed": plan.large_clients}
    return closed_loop(plan, plan.large_servers, clients, UNITS, lambda *_: plan.large_seconds)


def write(cells: Cells, _: dict[str, Any], __: Path) -> str:
    """See `Section`."""
    # Which numbers the servers compute with, if not all with the same.
    precision = ""
    if any(cell["server"] == "unroll_bfloat16" for cell in cells):
        precision = " All compute in float32 but `unroll_bfloat16`."
    return f"""## Three LSTM layers of {UNITS}

`mixed`.{precision}

{rates_and_latencies(cells)}"""
