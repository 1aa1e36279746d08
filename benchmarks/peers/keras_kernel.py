"""The Keras SavedModel on a padded batch."""

import os
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from benchmarks.model_files import STATES, BenchModel
from benchmarks.peers.common import Item, Result, pad


class KerasKernel:
    """See `Kernel`.

    Args:
        model: to load.
        threads: of a call; 0 for TensorFlow's default.
    """

    def __init__(self, model: BenchModel, threads: int) -> None:
        self._units = model.units
        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        self._loaded = tf.saved_model.load(str(model.keras))
        self._plain = self._loaded.signatures["plain"]
        self._masked = self._loaded.signatures["masked"]

    def run(self, items: Sequence[Item]) -> list[Result]:
        """See `Kernel.run`. Rows of one length need no mask, which costs Keras time."""
        batch = pad(items, self._units)
        fed = {name: tf.constant(value) for name, value in batch.states.items()}
        fed["sequences"] = tf.constant(batch.sequences)
        if np.all(batch.lengths == batch.lengths[0]):
            found = self._plain(**fed)
        else:
            found = self._masked(lengths=tf.constant(batch.lengths), **fed)
        states = [found[f"next_{name}"].numpy() for name in STATES]
        return batch.split(found["outputs"].numpy(), states)
