"""A layer's weights as cuDNN takes them.

The layout is that of cudnnGetRNNWeightParams: for one layer in one direction first the matrices of
the inputs, gate by gate, each `[H, I]` row by row, then those of the state, `[H, H]`, then the
biases of the inputs, then those of the state.
"""

import numpy as np

from app.errors import ModelRefused
from app.manifest import Layer

# Our gates in cuDNN's order. LSTM: i, f, g, o stands the same. GRU: z, r, n -> r, z, n.
GATES = {"rnn": (0,), "gru": (1, 0, 2), "lstm": (0, 1, 2, 3)}
# By cell and activation, as `rnn_mode` has it.
MODES = {
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
    cell: str, kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """The weights, flat.

    Args:
        cell: `lstm`, `gru` or `rnn`.
        kernel: float32 `[I, G*H]`.
        recurrent_kernel: float32 `[H, G*H]`.
        bias: float32 `[G*H]`, which goes to the inputs'; or `[2, G*H]`, of inputs and of state.

    Returns:
        float32 `[G*H*(I + H + 2)]`.
    """
    gates = GATES[cell]
    both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
    matrices = [
        np.split(matrix, len(gates), axis=1)[gate].T
        for matrix in (kernel, recurrent_kernel)
        for gate in gates
    ]
    biases = [np.split(part, len(gates))[gate] for part in both for gate in gates]
    packed: np.ndarray = np.concatenate([part.ravel() for part in [*matrices, *biases]])
    return packed
