"""Networks whose columns are taken as they are. Imports TensorFlow."""

from collections.abc import Sequence

import keras

from model.layers.implementations import Form
from model.network.sequence_model import SequenceModel
from model.network_config import RNNConfig
from model.placement.plan import Placement
from model.transforms import Feature, Output, Standardize

SEED = 20131225


def plain_network(
    config: RNNConfig,
    placements: Sequence[Placement] = (),
    chunk_steps: int | None = None,
    form: Form = "fastest",
) -> SequenceModel:
    """A network with the same random weights each time; see `SequenceModel`."""
    keras.utils.set_random_seed(SEED)
    unchanged = Standardize(mean=0.0, std=1.0)
    return SequenceModel(
        config,
        tuple(
            Feature(name=f"sensor_{i}", unit="1", transform=unchanged)
            for i in range(config.num_inputs)
        ),
        tuple(
            Output(name=f"forecast_{i}", unit="1", transform=unchanged)
            for i in range(config.num_outputs)
        ),
        placements,
        chunk_steps,
        form=form,
    )
