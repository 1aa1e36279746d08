"""What is said once of each kind of cell, and that training and service say the same."""

from typing import get_args

import pytest

import app.manifest
from model.cell_spec import CELL_SPECS, CellKind
from model.layers.cells import CELLS


def test_every_kind_has_a_spec_and_its_mathematics() -> None:
    assert set(get_args(CellKind)) == set(CELL_SPECS) == set(CELLS)


@pytest.mark.parametrize(
    ("kind", "states", "kept", "bias"),
    [
        # Kept of a time step: the sums, the state and the output.
        ("rnn", ("h",), 1 + 1 + 1, (5,)),
        ("lstm", ("h", "c"), 4 + 2 + 1, (20,)),
        ("gru", ("h",), 4 + 1 + 1, (2, 15)),
    ],
)
def test_what_a_cell_has(
    kind: CellKind, states: tuple[str, ...], kept: int, bias: tuple[int, ...]
) -> None:
    spec = CELL_SPECS[kind]
    assert spec.states == states
    assert spec.num_kept == kept
    assert spec.bias_shape(5) == bias
    assert spec.num_columns(5) == bias[-1]


def test_gates_of_another_order_are_found_among_ours() -> None:
    assert CELL_SPECS["gru"].places(("reset", "update", "new")) == (1, 0, 2)
    assert CELL_SPECS["lstm"].places(("input", "output", "forget", "new")) == (0, 3, 1, 2)


def test_training_and_service_say_the_same_of_each_cell() -> None:
    trained = {kind: (spec.gates, spec.states) for kind, spec in CELL_SPECS.items()}
    served = {k: (spec.gates, spec.states) for k, spec in app.manifest.CELL_SPECS.items()}
    assert trained == served
