"""A layer's weights as cuDNN takes them.

The layout is that of cudnnGetRNNWeightParams: for one layer in one direction first the matrices of
the inputs, gate by gate, each `[H, I]` row by row, then those of the state, `[H, H]`, then the
biases of the inputs, then those of the state.
"""

from collections.abc import Mapping

import numpy as np

from app.errors import ModelRefused
from app.manifest import CellKind, Layer

# The gates of each cell in cuDNN's order.
GATES: Mapping[CellKind, tuple[str, ...]] = {
    "rnn": ("new",),
    "lstm": ("input", "forget", "new", "output"),
    "gru": ("reset", "update", "new"),
}
# By cell and activation, as `rnn_mode` has it.
MODES: Mapping[tuple[CellKind, str], str] = {
    ("lstm", "tanh"): "lstm",
    ("gru", "tanh"): "gru",
    ("rnn", "tanh"): "rnn_tanh",
    ("rnn", "relu"): "rnn_relu",
}


def mode_of(layer: Layer) -> str:
    """The `rnn_mode` of a layer.

    Raises:
        ModelRefused: cuDNN has no such cell.
    """
    mode = MODES.get((layer.cell, layer.activation))
    if mode is None:
        raise ModelRefused(f"cuDNN has no {layer.cell} with the activation {layer.activation!r}")
    return mode


def pack_params(
    layer: Layer, kernel: np.ndarray, recurrent_kernel: np.ndarray, biases: np.ndarray
) -> np.ndarray:
    """The weights, flat.

    Args:
        layer: one that has a mode.
        kernel: float32 `[I, G*H]`.
        recurrent_kernel: float32 `[H, G*H]`.
        biases: float32 `[2, G*H]`, of inputs and of state.

    Returns:
        float32 `[G*H*(I + H + 2)]`.
    """
    places = layer.spec.places(GATES[layer.cell])
    matrices = [
        np.split(matrix, len(places), axis=1)[place].T
        for matrix in (kernel, recurrent_kernel)
        for place in places
    ]
    parts = [np.split(bias, len(places))[place] for bias in biases for place in places]
    packed: np.ndarray = np.concatenate([part.ravel() for part in [*matrices, *parts]])
    return packed
