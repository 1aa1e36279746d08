"""Processes that are asked over pipes: one a library or set-up, so that sides can take turns.

TensorFlow and PyTorch, or two set-ups of TensorFlow, cannot be in one process. A question and its
answer are a line of JSON each.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.paths import ROOT
from benchmarks.processes.failure_line import last_line, one_line

TIMEOUT_S = 60.0

Answer = dict[str, Any]


class SideFailed(Exception):
    """A side did not start, ended, or could not answer; the text is one line."""


class Side:
    """A running side. It starts in the background: `wait` for it.

    Args:
        module: run with `python -m`, calls `answer`.
        arguments: of it.
        environment: beside this process's own.
        log: takes its errors.
        python: the interpreter; this one if it is not named.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        python: str = sys.executable,
    ) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [python, "-m", module, *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
            )
        assert self._process.stdin
        assert self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout

    def wait(self, timeout_s: float = TIMEOUT_S) -> Answer:
        """Until it is ready; returns what it says of itself.

        Raises:
            SideFailed: it ended, or takes too long.
        """
        return self._answer(timeout_s)

    def ask(self, question: str, timeout_s: float = TIMEOUT_S, **details: Any) -> Answer:
        """The answer to a question.

        Raises:
            SideFailed: there is none; the text says why.
        """
        try:
            self._to.write(json.dumps({"question": question, **details}).encode() + b"\n")
            self._to.flush()
        except OSError as error:
            raise SideFailed(last_line(self._log)) from error
        return self._answer(timeout_s)

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._from.close()
        with suppress(BrokenPipeError):
            self._to.close()

    def _answer(self, timeout_s: float) -> Answer:
        # There is one answer a question: nothing is left over in the pipe's buffer.
        ready, _, _ = select.select([self._from], [], [], timeout_s)
        if not ready:
            self._process.kill()
            raise SideFailed(f"no answer within {timeout_s:.0f} s")
        line = self._from.readline()
        if not line:
            raise SideFailed(last_line(self._log))
        found: Answer = json.loads(line)
        if "error" in found:
            raise SideFailed(found["error"])
        return found


def answer(about: Answer, questions: Mapping[str, Callable[..., Answer]]) -> None:
    """A side's own part: answers questions until there are no more.

    Args:
        about: what `Side.wait` gets.
        questions: what is called for each, with its details.
    """
    # Libraries print: what they do goes to the log.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        print(json.dumps(about), file=out, flush=True)
        for line in sys.stdin:
            details = json.loads(line)
            try:
                found = questions[details.pop("question")](**details)
            except Exception as error:
                found = {"error": one_line(error)}
            print(json.dumps(found), file=out, flush=True)
