"""`python -m benchmarks.models.reference 100`: the model's own answers to a sample of each workload.

From the plain `serving_default` of the exported SavedModel, a sequence at a time. Run as a process
of its own, since whoever measures needs no TensorFlow.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.models.files import BenchModel
from benchmarks.load.workloads import STREAM_PIECES, WORKLOADS, Workload, make

# Requests of each workload; of `stream` the pieces of one sequence.
SAMPLE = {"fixed": 8, "mixed": 24, "many": 2, "stream": STREAM_PIECES}

Answers = dict[str, np.ndarray]


def sample(workload: Workload) -> list[list[np.ndarray]]:
    """The sequences that are checked, request by request; those of `stream` joined into one."""
    chosen = [list(request) for request in workload.requests[: SAMPLE[workload.name]]]
    if workload.streams:
        return [[np.concatenate([request[0] for request in chosen])]]
    return chosen


def expected(model: BenchModel) -> Answers:
    """The answers, computed if they are not there yet.

    Returns:
        `<workload>/<request>/<sequence>/outputs` float32 `[T, 1]`, and `.../states` `[6 H]`: h and
        c of each layer in order.
    """
    digest = hashlib.sha256()
    for name in WORKLOADS:
        for body in make(name).bodies[: SAMPLE[name]]:
            digest.update(body)
    path = model.home / f"expected-{digest.hexdigest()[:12]}.npz"
    if not path.is_file():
        command = [sys.executable, "-m", "benchmarks.models.reference", str(model.units), str(path)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    with np.load(path) as stored:
        return dict(stored)


def _write(model: BenchModel, path: Path) -> None:
    import tensorflow as tf

    serve = tf.saved_model.load(str(model.folder)).signatures["serving_default"]
    names = [f"state_{i}_{part}" for i in range(3) for part in ("h", "c")]
    found: Answers = {}
    for workload in map(make, WORKLOADS):
        for i, request in enumerate(sample(workload)):
            for j, rows in enumerate(request):
                made = serve(
                    sequences=tf.constant(rows[np.newaxis]), lengths=tf.constant([len(rows)])
                )
                key = f"{workload.name}/{i}/{j}"
                found[f"{key}/outputs"] = made["outputs"].numpy()[0]
                found[f"{key}/states"] = np.concatenate([made[name].numpy()[0] for name in names])
    hidden = path.with_name(f".{path.name}")
    np.savez(hidden, allow_pickle=False, **found)
    hidden.rename(path)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from benchmarks.models.make import ensure

    _write(ensure(int(sys.argv[1])), Path(sys.argv[2]))
