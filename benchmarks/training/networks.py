"""Unroll's models and batches of a case. Imports TensorFlow."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from collections.abc import Sequence

import numpy as np

from benchmarks.models.network import plain_network
from benchmarks.training.case import Case
from model.layers.implementations import Form
from model.network.sequence_model import SequenceModel
from model.network_config import LayerConfig, RNNConfig
from model.placement.plan import Placement
from model.train_config import Recipe
from model.training.optimizer import make_optimizer
from model.training.trainer import masked_error

# Of the learning rate's schedule: more than any side trains.
BATCHES = 100_000
CONFIG = Recipe(updates=BATCHES, batch_size=128, window_steps=72, average_momentum=0.98)

Batch = tuple[dict[str, np.ndarray], np.ndarray]


def network_of(case: Case, keep: float) -> RNNConfig:
    """The stack; `keep` is the chance to keep each output of a layer, the same at every step."""
    layer = LayerConfig(cell="lstm", units=case.units, output_keep_prob=keep)
    return RNNConfig(
        layers=(layer,) * case.layers,
        num_inputs=case.inputs,
        num_outputs=case.outputs,
        variational_dropout=True,
    )


def make_model(
    case: Case,
    keep: float,
    form: Form = "fastest",
    placements: Sequence[Placement] = (),
    chunk_steps: int | None = None,
    averages: bool = False,
) -> SequenceModel:
    """A model that is ready to train; the same weights each time.

    Args:
        case, keep: see `network_of`.
        form, placements, chunk_steps: see `SequenceModel`.
        averages: whether a running average of the weights is kept. Other libraries keep none.
    """
    model = plain_network(network_of(case, keep), placements, chunk_steps, form)
    loss = masked_error(np.ones(case.outputs, np.float32))
    config = CONFIG if averages else CONFIG.model_copy(update={"average_momentum": 0.0})
    model.compile(make_optimizer(config), loss=loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def make_batch(case: Case, seed: int = 0) -> Batch:
    """Inputs and targets: float32 `[B, T, I]` of full length, and `[B, T, O]`."""
    random = np.random.default_rng(seed)
    sequences = random.normal(size=(case.rows, case.steps, case.inputs)).astype(np.float32)
    # Something that can be learnt: the mean of the inputs so far.
    steps = np.arange(1, case.steps + 1, dtype=np.float32)[:, np.newaxis]
    means = np.cumsum(sequences, axis=1)[..., : case.outputs] / np.sqrt(steps)
    lengths = np.full(case.rows, case.steps, np.int32)
    return {"sequences": sequences, "lengths": lengths}, means
