"""Runs sections, each in a process that is ended when its time is over.

What a section has measured until then is kept; what went wrong is told in one line; the next one
begins with nothing left of it.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.plan import Plan, dump
from benchmarks.models.ensure_model import MAKE, ON_PROCESSOR
from benchmarks.paths import BUILD
from benchmarks.processes.process import Process
from benchmarks.progress import say

# For what a section does between its last measurement and its end.
GRACE_S = 5.0
# Those that need the models, and how long they wait for them.
SERVING = ("chunks", "service")
MODELS_S = 60.0


def run(plan: Plan, results: dict[str, Any], keep: Callable[[], None]) -> None:
    """Runs all sections of a plan.

    Args:
        plan: what to measure.
        results: gets `sections`: of each `result`, `error` (None if all went well), `seconds`.
        keep: called after each section.
    """
    # While others measure: with the lowest priority.
    make = ["nice", "-n", "19", *MAKE, *map(str, plan.models())]
    models = Process(make, ON_PROCESSOR, BUILD / "logs" / "gpu-models.log")
    error: str | None = None
    waits = True
    try:
        for name, part in plan.sections().items():
            if name in SERVING and waits:
                error, waits = models.wait(MODELS_S), False
            if name in SERVING and error:
                say(f"{name}: the models: {error}")
                found = {"result": {}, "error": f"the models: {error}", "seconds": 0.0}
            else:
                found = run_section(name, part)
            results["sections"][name] = found
            keep()
    finally:
        models.kill()


def run_section(name: str, part: Any) -> dict[str, Any]:
    """One section, by its name and its plan."""
    say(f"== {name}, at most {part.limit_s:.0f} s")
    file = BUILD / "gpu" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    started = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.gpu.{name}", str(file), dump(part)]
    error = Process(command, {}, BUILD / "logs" / f"gpu-{name}.log").wait(part.limit_s + GRACE_S)
    seconds = time.monotonic() - started
    if error:
        say(f"{name}: {error}")
    say(f"== {name} took {seconds:.0f} s")
    result = json.loads(file.read_text()) if file.is_file() else {}
    return {"result": result, "error": error, "seconds": seconds}
