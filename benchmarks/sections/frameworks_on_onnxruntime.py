"""The frameworks with ONNX Runtime as their kernel, beside Unroll."""

from pathlib import Path
from typing import Any

from benchmarks.report import result_tables as tables
from benchmarks.sections.closed import Cells, closed_loop
from benchmarks.sections.plan import Plan


def measure(plan: Plan, _: dict[str, Any]) -> Cells:
    """See `Section`."""
    clients = {"fixed": (64,), "mixed": (64,)}
    return closed_loop(plan, plan.frameworks, clients, plan.units, plan.seconds_of)


def write(cells: Cells, _: dict[str, Any], __: Path) -> str:
    """See `Section`."""
    return f"""## The frameworks with ONNX Runtime as their kernel

The frameworks of the closed loop, configured as told below; 64 clients.

{tables.by_workload(cells)}"""
