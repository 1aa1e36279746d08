"""The unroll: a padded batch = each row alone, cell by cell; pieces = whole; dropout; gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.network.deep_rnn import DeepRNN
from model.network_config import LayerConfig, RNNConfig
from tests.model.cell_step import step
from tests.support.reference_model import assert_close

# One call shape for the laws, so that each way to run it is compiled once.
BATCH, STEPS, INPUTS, OUTPUTS = 4, 6, 3, 2
LAYERS = ("lstm:5", "gru:4", "rnn:3:relu", "lstm:2")


def make_rnn(
    layers: tuple[str, ...],
    dropout: dict[str, float] | None = None,
    chunk_steps: int | None = None,
    **config: Any,
) -> DeepRNN:
    stack = tuple(LayerConfig.parse(text).model_copy(update=dropout or {}) for text in layers)
    network = RNNConfig(layers=stack, num_inputs=INPUTS, num_outputs=OUTPUTS, **config)
    rnn = DeepRNN(network, chunk_steps=chunk_steps)
    rnn.build()
    random = np.random.default_rng(0)
    for weight in rnn.trainable_weights:
        # Biases around 1/2, so that the units of a relu layer are mostly awake.
        mean = 0.5 if "bias" in weight.path else 0.0
        weight.assign(random.normal(mean, 0.6, weight.shape))
    return rnn


@pytest.fixture(scope="module")
def rnn() -> DeepRNN:
    return make_rnn(LAYERS)


@pytest.fixture(scope="module", params=["eager", "graph", "xla"])
def unroll(request: pytest.FixtureRequest, rnn: DeepRNN) -> Callable[..., Any]:
    if request.param == "eager":
        return rnn.unroll
    return tf.function(rnn.unroll, autograph=False, jit_compile=request.param == "xla")


def random_inputs(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(BATCH, STEPS, INPUTS)).astype(np.float32)


def random_state(rnn: DeepRNN, seed: int = 1) -> Any:
    random = np.random.default_rng(seed)
    return tuple(
        tuple(
            tf.constant(random.normal(size=(BATCH, cell.units)), tf.float32)
            for _ in cell.spec.states
        )
        for cell in rnn.cells
    )


def row_of(state: Any, row: int) -> Any:
    return tf.nest.map_structure(lambda tensor: tensor[row : row + 1], state)


def cell_by_cell(rnn: DeepRNN, sequence: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    """One row alone, one time step after the other: outputs `[T, O]` and the final state."""
    outputs = []
    for inputs in sequence:
        top, state = one_time_step(rnn, tf.constant(inputs[np.newaxis]), state)
        outputs.append(rnn.head.forward(top, rnn.head.read())[0].numpy())
    return np.array(outputs).reshape(len(sequence), OUTPUTS), state


def one_time_step(rnn: DeepRNN, inputs: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
    """Every layer by its cell alone."""
    after = []
    for cell, entry in zip(rnn.cells, state, strict=True):
        inputs, entry = step(cell, inputs, entry)
        after.append(entry)
    return inputs, tuple(after)


def assert_states_close(found: Any, expected: Any, message: str) -> None:
    tf.nest.map_structure(lambda a, b: assert_close(a, b, message), found, expected)


@settings(max_examples=8)  # each example goes through up to 24 time steps of 4 cells
@given(
    lengths=st.lists(st.integers(0, STEPS), min_size=BATCH, max_size=BATCH),
    padding=st.sampled_from([0.0, 1e30, float("nan")]),
)
def test_a_padded_batch_equals_each_row_alone_cell_by_cell(
    rnn: DeepRNN, unroll: Callable[..., Any], lengths: list[int], padding: float
) -> None:
    """With each row's final state taken at its own last time step; at length 0, as it began."""
    inputs, initial = random_inputs(), random_state(rnn)
    for row, length in enumerate(lengths):
        inputs[row, length:] = padding
    outputs, final = unroll(tf.constant(inputs), initial, tf.constant(lengths))
    assert outputs.shape == (BATCH, STEPS, OUTPUTS)
    for row, length in enumerate(lengths):
        expected, state = cell_by_cell(rnn, inputs[row, :length], row_of(initial, row))
        assert_close(outputs[row, :length], expected, f"outputs of length {length}")
        assert_states_close(row_of(final, row), state, f"final state of length {length}")


@pytest.mark.parametrize("cut", range(1, STEPS))
def test_two_pieces_with_the_state_handed_over_equal_the_whole(rnn: DeepRNN, cut: int) -> None:
    inputs, initial = tf.constant(random_inputs()), random_state(rnn)
    lengths = np.array([STEPS, 1, 3, 5])
    whole, final = rnn.unroll(inputs, initial, tf.constant(lengths, tf.int32))
    first, state = rnn.unroll(
        inputs[:, :cut], initial, tf.constant(np.minimum(lengths, cut), tf.int32)
    )
    second, state = rnn.unroll(
        inputs[:, cut:], state, tf.constant(np.maximum(lengths - cut, 0), tf.int32)
    )
    pieces = np.concatenate([first, second], axis=1)
    for row, length in enumerate(lengths):
        assert_close(pieces[row, :length], whole[row, :length], f"cut at {cut}")
    assert_states_close(state, final, f"cut at {cut}")


def test_without_a_state_and_lengths_it_begins_at_zero_and_goes_to_the_end(rnn: DeepRNN) -> None:
    inputs = random_inputs()
    outputs, final = rnn.unroll(tf.constant(inputs))
    zero = tf.nest.map_structure(tf.zeros_like, random_state(rnn))
    for row in range(BATCH):
        expected, state = cell_by_cell(rnn, inputs[row], row_of(zero, row))
        assert_close(outputs[row], expected)
        assert_states_close(row_of(final, row), state, f"row {row}")


def test_the_loop_of_a_chunk_ends_with_the_longest_row() -> None:
    """Padding costs nothing: what is beyond the longest row is never computed."""
    rnn = make_rnn(LAYERS, chunk_steps=STEPS)
    inputs = random_inputs()
    inputs[:, 2:] = np.nan
    outputs, _ = rnn.unroll(tf.constant(inputs), None, tf.constant([2, 1, 2, 0]))
    beyond = rnn.head.read().bias
    np.testing.assert_array_equal(outputs[:, 2:], np.broadcast_to(beyond, (BATCH, 4, OUTPUTS)))


KEEP = {"input_keep_prob": 0.5, "output_keep_prob": 0.5, "state_keep_prob": 0.5}


@pytest.mark.parametrize("config", [{"dropout": KEEP}, {"input_noise": 0.5}])
def test_training_runs_differ_and_inference_runs_do_not(config: dict[str, Any]) -> None:
    rnn = make_rnn(LAYERS, **config)
    plain = make_rnn(LAYERS)
    inputs = tf.constant(random_inputs())
    first, _ = rnn.unroll(inputs, training=True)
    second, _ = rnn.unroll(inputs, training=True)
    assert np.any(first.numpy() != second.numpy())
    for _ in range(2):
        np.testing.assert_array_equal(rnn.unroll(inputs)[0], plain.unroll(inputs)[0])


def test_without_dropout_and_noise_training_computes_what_inference_does(rnn: DeepRNN) -> None:
    inputs = tf.constant(random_inputs())
    np.testing.assert_array_equal(rnn.unroll(inputs, training=True)[0], rnn.unroll(inputs)[0])


def transparent_rnn(units: int = 12, **config: Any) -> DeepRNN:
    """Puts out what goes in, as long as it is not negative: masks show as they are."""
    layer = LayerConfig.parse(f"rnn:{units}:relu")
    layer = layer.model_copy(update=config.pop("layer", {}))
    rnn = DeepRNN(RNNConfig(layers=(layer,), num_inputs=units, num_outputs=units, **config))
    rnn.build()
    cell = rnn.cells[0]
    for weight in rnn.trainable_weights:
        weight.assign(np.zeros(weight.shape))
    cell.kernel.assign(np.eye(units))
    rnn.head.kernel.assign(np.eye(units))
    return rnn


@pytest.mark.parametrize("field", ["input_keep_prob", "output_keep_prob"])
def test_a_time_step_drops_units_of_its_own(field: str) -> None:
    rnn = transparent_rnn(layer={field: 0.5})
    outputs = rnn.unroll(tf.ones([2, 8, 12]), training=True)[0].numpy()
    assert set(np.unique(outputs)) == {0.0, 2.0}
    # 8 masks of 2 x 12 coin tosses each: that two are equal has a chance of 28 in 2**24.
    assert len(np.unique(outputs.transpose(1, 0, 2).reshape(8, -1), axis=0)) == 8


@pytest.mark.parametrize("field", ["input_keep_prob", "output_keep_prob"])
def test_variational_dropout_drops_the_same_units_at_every_time_step(field: str) -> None:
    rnn = transparent_rnn(layer={field: 0.5}, variational_dropout=True)
    outputs = rnn.unroll(tf.ones([2, 8, 12]), training=True)[0].numpy()
    assert set(np.unique(outputs)) == {0.0, 2.0}
    np.testing.assert_array_equal(outputs, np.broadcast_to(outputs[:, :1], outputs.shape))
    assert np.any(outputs[0] != outputs[1]), "each row has a mask of its own"
    again = rnn.unroll(tf.ones([2, 8, 12]), training=True)[0].numpy()
    assert np.any(again != outputs), "each run draws a new one"


def test_layers_draw_masks_of_their_own() -> None:
    """With one mask for both, as many units survive two layers as one: half and not a quarter."""
    rnn = transparent_rnn(units=100, layer={"input_keep_prob": 0.5})
    rnn.cells.append(rnn.cells[0])
    outputs = rnn.unroll(tf.ones([10, 10, 100]), training=True)[0].numpy()
    # Of 10,000: a spread of sqrt(0.25 * 0.75 / 10,000) = 0.0043; five are allowed.
    assert np.mean(outputs != 0) == pytest.approx(0.25, abs=0.022)


def test_input_noise_is_gaussian_of_the_spread_given_and_new_at_every_number() -> None:
    rnn = transparent_rnn(units=100, input_noise=0.5)
    outputs = rnn.unroll(tf.fill([10, 10, 100], 10.0), training=True)[0].numpy()
    noise = outputs - 10.0
    # Of 10,000: spreads of 0.5 / sqrt(10,000) = 0.005 and 0.5 / sqrt(20,000); five are allowed.
    assert noise.mean() == pytest.approx(0.0, abs=0.025)
    assert noise.std() == pytest.approx(0.5, abs=0.018)
    # A number close to 10 has steps of 1e-6 in float32: a few of 10,000 may fall together.
    assert len(np.unique(noise)) > 9_900


def plain_gradient(
    rnn: DeepRNN, inputs: np.ndarray, lengths: list[int], weights: np.ndarray
) -> list[tf.Tensor]:
    """TensorFlow's own, of the cells alone, of a sum of weighted outputs."""
    variables = [variable.value for variable in rnn.trainable_weights]
    with tf.GradientTape() as tape:
        loss = 0.0
        for row, length in enumerate(lengths):
            state = row_of(rnn.initial_state(tf.constant(BATCH)), row)
            for time in range(length):
                top, state = one_time_step(rnn, tf.constant(inputs[row : row + 1, time]), state)
                output = rnn.head.forward(top, rnn.head.read())
                loss += tf.reduce_sum(output * weights[row, time])
    gradient: list[tf.Tensor] = tape.gradient(loss, variables)
    return gradient


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("chunk_steps", [1, 4, STEPS, None])
@pytest.mark.parametrize("layers", [LAYERS, ("rnn:4",), ("gru:3", "gru:4"), ("lstm:3", "lstm:4")])
def test_the_gradient_is_that_of_the_cells_alone(
    layers: tuple[str, ...], chunk_steps: int | None, compiled: bool
) -> None:
    """Wherever time is cut, and whatever finite numbers the padding holds."""
    rnn = make_rnn(layers, chunk_steps=chunk_steps)
    inputs, lengths = random_inputs(), [6, 1, 3, 0]
    weights = np.random.default_rng(2).normal(size=(BATCH, STEPS, OUTPUTS)).astype(np.float32)
    expected = plain_gradient(rnn, inputs, lengths, weights)
    assert all(np.abs(part).max() > 0.001 for part in expected), "every weight takes part"
    for row, length in enumerate(lengths):
        inputs[row, length:], weights[row, length:] = 50.0, 0.0

    def gradient() -> list[tf.Tensor]:
        run = rnn.run(
            tf.constant(inputs),
            None,
            tf.constant(lengths),
            keep=True,
            form="compiled" if compiled else "plain",
        )
        return rnn.gradients(run, tf.constant(weights))

    found = tf.function(gradient, autograph=False)() if compiled else gradient()
    names = [weight.path for weight in rnn.trainable_weights]
    for name, ours, theirs in zip(names, found, expected, strict=True):
        assert_close(ours, theirs, name)


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("text", ["rnn:5", "lstm:5", "gru:5"])
def test_the_gradient_goes_through_dropout(text: str, variational: bool) -> None:
    """Beside the slope of the loss along each weight: a central difference, in float32."""
    rnn = make_rnn((text, text), KEEP, variational_dropout=variational, chunk_steps=4)
    inputs = tf.constant(random_inputs())
    weights = tf.constant(np.random.default_rng(2).normal(size=(BATCH, STEPS, OUTPUTS)), tf.float32)
    seed = rnn.seeds.state.numpy()

    def forward() -> Any:
        # The same masks each time.
        rnn.seeds.state.assign(seed)
        return rnn.run(inputs, training=True, keep=True)

    found = rnn.gradients(forward(), weights)
    random = np.random.default_rng(3)
    for variable, gradient in zip(rnn.trainable_weights, found, strict=True):
        direction = random.normal(size=variable.shape)
        direction /= np.linalg.norm(direction)
        before, step = variable.numpy(), 1e-2
        sums = []
        for sign in (1, -1):
            variable.assign(before + sign * step * direction)
            sums.append(float(tf.reduce_sum(forward().outputs * weights)))
        variable.assign(before)
        slope = (sums[0] - sums[1]) / (2 * step)
        # Third derivatives times the step squared, and rounding by 1e-6 over the step.
        assert np.sum(gradient * direction) == pytest.approx(slope, rel=0.01, abs=0.01)
