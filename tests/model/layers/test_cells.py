"""Each cell at one time step against plain NumPy and numbers worked out by hand; and dropout."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.layers.cells import CELLS, Cell, State
from model.layers.dropout import draw_masks
from model.layers.dropout import drop as behind
from model.layers.recurrence import Recurrence
from model.network_config import LayerConfig
from tests.model.cell_step import step
from tests.support.reference_model import Reference, assert_close

LN3 = float(np.log(3.0))  # sigmoid(ln 3) = 3/4 and sigmoid(-ln 3) = 1/4


def make_cell(text: str, num_inputs: int, seed: int = 0, **dropout: float) -> Cell:
    """A built cell whose weights are all random, biases too."""
    config = LayerConfig.parse(text).model_copy(update=dropout)
    cell = CELLS[config.cell](config)
    cell.build((None, num_inputs))
    random = np.random.default_rng(seed)
    for weight in (cell.kernel, cell.recurrent_kernel, cell.bias):
        weight.assign(random.normal(size=weight.shape, scale=0.7))
    return cell


def set_weights(cell: Cell, kernel: Any, recurrent_kernel: Any, bias: Any) -> None:
    cell.kernel.assign(kernel)
    cell.recurrent_kernel.assign(recurrent_kernel)
    cell.bias.assign(bias)


def one(value: float) -> tf.Tensor:
    return tf.constant([[value]], tf.float32)


@settings(max_examples=25)  # each example builds a cell
@given(
    text=st.sampled_from(["rnn:{}", "rnn:{}:relu", "lstm:{}", "gru:{}"]),
    units=st.integers(1, 6),
    num_inputs=st.integers(1, 6),
    batch=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_one_time_step_equals_plain_numpy(
    text: str, units: int, num_inputs: int, batch: int, seed: int
) -> None:
    cell = make_cell(text.format(units), num_inputs, seed)
    random = np.random.default_rng(seed + 1)
    inputs = random.normal(size=(batch, num_inputs)).astype(np.float32)
    state = [random.normal(size=(batch, units)).astype(np.float32) for _ in cell.spec.states]
    output, next_state = step(cell, tf.constant(inputs), tuple(map(tf.constant, state)))
    weights = [
        w.numpy().astype(np.float64) for w in (cell.kernel, cell.recurrent_kernel, cell.bias)
    ]
    for row in range(batch):
        before = {
            n: s[row].astype(np.float64) for n, s in zip(cell.spec.states, state, strict=True)
        }
        x = inputs[row].astype(np.float64)
        expected, after = Reference._cell(
            x, before, cell.config.cell, cell.config.activation, *weights
        )
        assert_close(output[row], expected)
        for name, found in zip(cell.spec.states, next_state, strict=True):
            assert_close(found[row], after[name], name)


@pytest.mark.parametrize(
    ("text", "bias", "expected"),
    [
        ("rnn:1", -0.5, 0.46211716),  # tanh(0.5)
        ("rnn:1:relu", -0.5, 0.5),
        ("rnn:1:relu", -1.5, 0.0),
        ("rnn:1", -1.5, -0.46211716),
    ],
)
def test_rnn_by_hand(text: str, bias: float, expected: float) -> None:
    """x W + h U + b = 1 * 0.5 + 2 * 0.25 + b."""
    cell = make_cell(text, 1)
    set_weights(cell, [[0.5]], [[0.25]], [bias])
    output, (h,) = step(cell, one(1.0), (one(2.0),))
    assert_close(output, [[expected]])
    assert_close(h, [[expected]])


def test_lstm_by_hand() -> None:
    """Input gate 1/2, forget gate 3/4, new memory 0.6, output gate 1/4.

    c' = 0.75 * 0.8 + 0.5 * 0.6 = 0.9, and h' = 0.25 * tanh(0.9) = 0.25 * 0.71629787.
    """
    cell = make_cell("lstm:1", 1)
    # The gates' sums are of all three parts: x = 1, h = 2, bias.
    half = np.array([0.0, LN3, np.arctanh(0.6), -LN3]) / 2
    set_weights(cell, [half / 2], [half / 4], half)
    output, (h, c) = step(cell, one(1.0), (one(2.0), one(0.8)))
    assert_close(c, [[0.9]])
    assert_close(h, [[0.17907447]])
    assert_close(output, [[0.17907447]])


def test_gru_by_hand() -> None:
    """Update gate 3/4, reset gate 1/2; the reset gate acts after the product and its bias.

    n = tanh(0.2 + 0.5 * (0.4 * 1 + 0.6)) = tanh(0.7) = 0.60436778, and
    h' = 0.75 * 0.4 + 0.25 * 0.60436778. Reset before the product would give tanh(1.0).
    """
    cell = make_cell("gru:1", 1)
    set_weights(cell, [[LN3, 0.0, 0.1]], [[0.0, 0.0, 1.0]], [[0.0, 0.0, 0.1], [0.0, 0.0, 0.6]])
    output, (h,) = step(cell, one(1.0), (one(0.4),))
    assert_close(h, [[0.45109194]])
    assert_close(output, [[0.45109194]])


def test_lstm_begins_with_a_forget_bias_of_one_and_no_other() -> None:
    cell = CELLS["lstm"](LayerConfig.parse("lstm:3"))
    cell.build((None, 2))
    i, f, g, o = np.split(cell.bias.numpy(), 4)
    np.testing.assert_array_equal(f, np.ones(3))
    np.testing.assert_array_equal([i, g, o], np.zeros((3, 3)))


@pytest.mark.parametrize(("kind", "shape"), [("rnn", (3,)), ("gru", (2, 9))])
def test_other_cells_begin_without_bias(kind: str, shape: tuple[int, ...]) -> None:
    cell = CELLS[kind](LayerConfig.parse(f"{kind}:3"))
    cell.build((None, 2))
    np.testing.assert_array_equal(cell.bias.numpy(), np.zeros(shape))


# Dropout. A relu cell with the identity as its kernel and no recurrence shows masks as they are.


def identity_cell(units: int, **keep: float) -> Cell:
    cell = make_cell(f"rnn:{units}:relu", units, **keep)
    set_weights(cell, np.eye(units), np.zeros((units, units)), np.zeros(units))
    return cell


def step_with_dropout(
    cell: Cell, seed: tuple[int, int], inputs: tf.Tensor, state: State
) -> tuple[tf.Tensor, State]:
    """One time step as the pipeline computes it."""
    count, width = inputs.shape
    masks = draw_masks(cell.config, width, 1, count, tf.constant(seed))
    rows = behind(inputs[tf.newaxis], masks.inputs)
    outputs, state, _ = Recurrence(cell, compiled=False).forward(
        rows, cell.read(), state, tf.ones([count], tf.int32), masks.state
    )
    return behind(outputs, masks.outputs)[0], state


def drop(
    cell: Cell, inputs: np.ndarray, seed: tuple[int, int] = (1, 2)
) -> tuple[np.ndarray, np.ndarray]:
    """Output and next h of one time step with dropout, from a zero state."""
    zero = tf.zeros([len(inputs), cell.units])
    output, (h,) = step_with_dropout(cell, seed, tf.constant(inputs), (zero,))
    return output.numpy(), h.numpy()


@pytest.mark.parametrize("text", ["rnn:3", "lstm:3", "gru:3"])
def test_keep_probs_of_one_are_the_cell_alone(text: str) -> None:
    cell = make_cell(text, 2)
    random = np.random.default_rng(0)
    inputs = tf.constant(random.normal(size=(4, 2)), tf.float32)
    state = tuple(tf.constant(random.normal(size=(4, 3)), tf.float32) for _ in cell.spec.states)
    expected = tf.nest.flatten(step(cell, inputs, state))
    found = tf.nest.flatten(step_with_dropout(cell, (1, 2), inputs, state))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=25)
@given(keep=st.floats(0.01, 0.99), seed=st.tuples(st.integers(0, 9999), st.integers(0, 9999)))
def test_survivors_are_scaled_by_one_over_keep_and_the_others_are_zero(
    keep: float, seed: tuple[int, int]
) -> None:
    inputs = np.arange(1.0, 161.0, dtype=np.float32).reshape(8, 20)
    output, _ = drop(identity_cell(20, input_keep_prob=keep), inputs, seed)
    survived = output != 0.0
    # A division and a product with exact ones and zeros: a few last places of float32.
    np.testing.assert_allclose(output[survived], inputs[survived] / keep, rtol=1e-6)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("field", ["input_keep_prob", "output_keep_prob", "state_keep_prob"])
def test_the_mean_is_kept(field: str, keep: float) -> None:
    """Of n = 40,000 ones the mean has a spread of sqrt((1 - keep) / keep / n); five are allowed."""
    output, h = drop(identity_cell(100, **{field: keep}), np.ones((400, 100), np.float32))
    dropped = h if field == "state_keep_prob" else output
    assert abs(dropped.mean() - 1.0) < 5 * np.sqrt((1 - keep) / keep / 40_000)
    rows, columns = (dropped != 0).any(axis=1), (dropped != 0).any(axis=0)
    assert rows.all()
    assert columns.all(), "each number has a chance of its own"


def test_output_dropout_leaves_the_state_alone() -> None:
    inputs = np.ones((8, 20), np.float32)
    output, h = drop(identity_cell(20, output_keep_prob=0.5), inputs)
    np.testing.assert_array_equal(h, inputs)
    assert set(np.unique(output)) == {0.0, 2.0}


def test_state_dropout_leaves_the_output_of_its_time_step_alone() -> None:
    inputs = np.ones((8, 20), np.float32)
    output, h = drop(identity_cell(20, state_keep_prob=0.5), inputs)
    np.testing.assert_array_equal(output, inputs)
    assert set(np.unique(h)) == {0.0, 2.0}


def test_state_dropout_never_touches_the_memory_of_an_lstm() -> None:
    cell = make_cell("lstm:20", 3, state_keep_prob=0.5)
    random = np.random.default_rng(0)
    inputs = tf.constant(random.normal(size=(8, 3)), tf.float32)
    state = tuple(tf.constant(random.normal(size=(8, 20)), tf.float32) for _ in "hc")
    output, (h, c) = step_with_dropout(cell, (1, 2), inputs, state)
    alone, (whole_h, whole_c) = step(cell, inputs, state)
    np.testing.assert_array_equal(c, whole_c)
    np.testing.assert_array_equal(output, alone)
    assert 0.3 < np.mean(h.numpy() == 0.0) < 0.7, "while h is dropped"
    assert not np.any(whole_h.numpy() == 0.0)


@pytest.mark.parametrize("field", ["input_keep_prob", "output_keep_prob", "state_keep_prob"])
def test_equal_seeds_draw_equal_masks_and_others_other_masks(field: str) -> None:
    cell, inputs = identity_cell(20, **{field: 0.5}), np.ones((8, 20), np.float32)
    first = np.stack(drop(cell, inputs, seed=(1, 2)))
    np.testing.assert_array_equal(np.stack(drop(cell, inputs, seed=(1, 2))), first)
    assert np.any(np.stack(drop(cell, inputs, seed=(1, 3))) != first)


def test_inputs_outputs_and_state_draw_masks_of_their_own() -> None:
    """With one mask for all three, a keep prob of 1/2 each would keep half and not a quarter."""
    inputs = np.ones((100, 100), np.float32)
    names = ("input_keep_prob", "output_keep_prob", "state_keep_prob")
    output, h = drop(identity_cell(100, **dict.fromkeys(names, 0.5)), inputs)
    # Of 10,000: a spread of sqrt(0.25 * 0.75 / 10,000) = 0.0043; five are allowed.
    assert np.mean(output != 0) == pytest.approx(0.25, abs=0.022)
    assert np.mean(h != 0) == pytest.approx(0.25, abs=0.022)
    assert np.mean((output != 0) & (h != 0)) == pytest.approx(0.125, abs=0.017)
