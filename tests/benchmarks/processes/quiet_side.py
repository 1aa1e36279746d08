"""A side that computes nothing, for tests of the pipes."""

import os
import sys
import time

from benchmarks.processes.side import answer


def fail() -> dict[str, float]:
    raise ValueError("two\n  lines")


def leave() -> dict[str, float]:
    print("the last word", file=sys.stderr)
    os._exit(3)


def wait() -> dict[str, float]:
    time.sleep(60)
    return {}


def double(value: float) -> dict[str, float]:
    print("a library's own print")
    return {"value": 2 * value}


if __name__ == "__main__":
    if sys.argv[1:] == ["absent"]:
        raise ModuleNotFoundError("No module named 'torch'")
    answer({"version": 1}, {"fail": fail, "leave": leave, "wait": wait, "double": double})
