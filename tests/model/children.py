"""Processes that have TensorFlow imported from the start, for tests that kill them or need one.

A server imports it once and forks a child in milliseconds. It never *runs* TensorFlow, so it has
none of its threads: forking a process in which TensorFlow has run may hang.
"""

import contextlib
import io
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.support.exported_models", "model.train"])


def pool(workers: int) -> ProcessPoolExecutor:
    """Runs each task in a process of its own, so many at a time."""
    return ProcessPoolExecutor(workers, CONTEXT, max_tasks_per_child=1)


def run_command(main: Callable[[], int], arguments: list[str]) -> tuple[int, str, str]:
    """Calls `main` as a command would; returns exit status, standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["command", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main()
    return status, out.getvalue(), err.getvalue()
