"""A cell at one time step, by itself: what the loops over time are judged by."""

import tensorflow as tf

from model.layers.cells import Cell, State


def step(cell: Cell, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
    """Output `[B, H]` and next state, for inputs `[B, I]`."""
    weights = cell.read()
    sums = cell.join(cell.x_gates(inputs, weights), cell.h_gates(state[0], weights))
    state = cell.activate(sums, state)
    return state[0], state
