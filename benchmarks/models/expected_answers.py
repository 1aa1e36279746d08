"""The model's own answers to a sample of each workload.

From the plain `serving_default` of the exported SavedModel, a sequence at a time; they are stored
with the model, since whoever measures needs no TensorFlow.
"""

import numpy as np

from benchmarks.load.workloads import STREAM_PIECES, WORKLOADS, Workload, make
from benchmarks.model_files import NUM_LAYERS, BenchModel

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
    """The stored answers.

    Returns:
        `<workload>/<request>/<sequence>/outputs` float32 `[T, 1]`, and `.../states` `[6 H]`: h and
        c of each layer in order.
    """
    with np.load(model.answers) as stored:
        return dict(stored)


def compute(model: BenchModel) -> Answers:
    """The answers that `expected` reads."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(model.folder)).signatures["serving_default"]
    names = [f"state_{i}_{part}" for i in range(NUM_LAYERS) for part in ("h", "c")]
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
    return found
