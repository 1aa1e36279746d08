"""Weights lie where cuDNN has them: against a statement of its documentation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ModelRefused
from app.kernels.cudnn_params import GATES, mode_of, pack_params
from app.manifest import CELL_SPECS, CellKind, Layer, StatePart
from tests.support import cudnn_in_numpy

sizes = st.integers(1, 7)


def layer(cell: CellKind, activation: str = "tanh") -> Layer:
    states = tuple(
        StatePart(name=name, tensor=f"state_0_{name}") for name in CELL_SPECS[cell].states
    )
    return Layer(cell=cell, units=1, activation=activation, states=states)


@given(st.sampled_from(sorted(GATES)), sizes, sizes, st.integers(0, 2**32 - 1))
def test_every_weight_has_its_place(cell: CellKind, num_inputs: int, units: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    width = len(GATES[cell]) * units
    kernel, recurrent, biases = (
        random.normal(size=shape).astype(np.float32)
        for shape in ((num_inputs, width), (units, width), (2, width))
    )
    if cell != "gru":
        biases[1] = 0.0
    packed = pack_params(layer(cell), kernel, recurrent, biases)
    assert packed.dtype == np.float32
    weights = (kernel, recurrent, biases if cell == "gru" else biases[0])
    np.testing.assert_array_equal(packed, cudnn_in_numpy.pack_params(cell, *weights))
    unpacked = cudnn_in_numpy.unpack_params(cell, packed, num_inputs, units)
    for ours, theirs in zip(weights, unpacked, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("cell", "activation", "mode"),
    [
        ("lstm", "tanh", "lstm"),
        ("gru", "tanh", "gru"),
        ("rnn", "tanh", "rnn_tanh"),
        ("rnn", "relu", "rnn_relu"),
    ],
)
def test_cudnn_has_every_cell_of_the_vocabulary(cell: CellKind, activation: str, mode: str) -> None:
    assert mode_of(layer(cell, activation)) == mode


@pytest.mark.parametrize(("cell", "activation"), [("lstm", "relu"), ("rnn", "gelu")])
def test_a_cell_that_cudnn_has_not_is_refused(cell: CellKind, activation: str) -> None:
    with pytest.raises(ModelRefused, match=f"cuDNN has no {cell} with the activation"):
        mode_of(layer(cell, activation))
