"""Unroll as it is where idle cores compute nothing, to measure what they give.

`python -m benchmarks.servers.one_thread` serves as `python -m app` does, each worker with the
kernel of a machine with one core.
"""

import sys

from fastapi import FastAPI

import app.__main__ as command
import app.workers.worker_app as worker


class OneThreadWorker(worker.Worker):
    """A worker on its own core. What it replaces, it replaces in the process that serves."""

    def __call__(self) -> FastAPI:
        """See `Worker`."""
        # Here, since the parent does without.
        import app.kernels.runners.onnxruntime as runner

        vars(runner)["available_cores"] = _one
        return super().__call__()


def _one() -> int:
    return 1


def main() -> int:
    """Serves as `python -m app` does."""
    vars(command)["Worker"] = OneThreadWorker
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
