"""The form for GPUs: all of it but cuDNN's two calls, which `fake_cudnn.py` stands for."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.cell_spec import CELL_SPECS
from model.layers import implementations
from model.layers.cells import CELLS, Weights
from model.layers.cudnn import CudnnRecurrence, pack, unpack
from model.layers.implementations import layer_over_time, takes_cudnn
from model.layers.recurrence import Recurrence
from model.network_config import LayerConfig
from tests.model import on_devices
from tests.model.children import pool
from tests.model.fake_cudnn import fake_cudnn
from tests.support.cudnn_in_numpy import pack_params, unpack_params
from tests.support.reference_model import assert_close

KINDS = ("lstm:5", "gru:4", "rnn:3", "rnn:6:relu")
BATCH, STEPS, INPUTS = 4, 6, 3
BATCHES = 5
KEEP = {"input_keep_prob": 0.9, "output_keep_prob": 0.7}
# Rounding apart, the form changes nothing; an update divides by the root of a square, which makes
# of the rounding of a small gradient that of a weight.
CLOSE = 1e-5


def random_weights(layer: LayerConfig, num_inputs: int, seed: int = 0) -> Weights:
    random = np.random.default_rng(seed)
    width = layer.spec.num_columns(layer.units)
    shapes = ((num_inputs, width), (layer.units, width), layer.spec.bias_shape(layer.units))
    return Weights(*(tf.constant(random.normal(0.2, 0.6, shape), tf.float32) for shape in shapes))


def built(text: str, **dropout: float) -> Any:
    layer = LayerConfig.parse(text).model_copy(update=dropout)
    cell = CELLS[layer.cell](layer)
    cell.build((None, INPUTS))
    return cell


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["lstm", "gru", "rnn"]),
    units=st.integers(1, 9),
    num_inputs=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_weights_are_packed_as_cudnn_wants_them_and_come_back(
    kind: str, units: int, num_inputs: int, seed: int
) -> None:
    """Copies: not one bit differs. An LSTM's one bias comes back from that of its inputs."""
    layer = LayerConfig(cell=kind, units=units)
    weights = random_weights(layer, num_inputs, seed)
    params = pack(layer, weights)
    np.testing.assert_array_equal(params, pack_params(kind, *(w.numpy() for w in weights)))
    for found, given_ in zip(unpack(layer, params, num_inputs), weights, strict=True):
        np.testing.assert_array_equal(found, given_)
    theirs = unpack_params(kind, params.numpy(), num_inputs, units)
    for found, given_ in zip(theirs, weights, strict=True):
        np.testing.assert_array_equal(found, given_)


@settings(max_examples=12)  # each computes up to 7 time steps twice, in single operations
@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(-3, STEPS + 3), min_size=BATCH, max_size=BATCH),
    seed=st.integers(0, 99),
)
def test_a_chunk_and_its_gradient_are_those_of_the_loops(
    kind: str, lengths: list[int], seed: int
) -> None:
    """For rows of any length: those that ended before, and those that go on behind the chunk."""
    cell = built(kind)
    random = np.random.default_rng(seed)

    def numbers(*shape: int) -> tf.Tensor:
        return tf.constant(random.normal(size=shape), tf.float32)

    weights = random_weights(cell.config, INPUTS, seed)
    inputs, given_lengths = numbers(STEPS, BATCH, INPUTS), tf.constant(lengths)
    state = tuple(numbers(BATCH, cell.units) for _ in cell.spec.states)
    inside = np.arange(STEPS)[:, np.newaxis] < np.array(lengths)
    d_outputs = tf.where(inside[..., np.newaxis], numbers(STEPS, BATCH, cell.units), 0.0)
    d_state = tuple(numbers(BATCH, cell.units) for _ in cell.spec.states)

    def everything(layer: Recurrence | CudnnRecurrence) -> list[np.ndarray]:
        prepared: Any = layer.prepare(weights)
        outputs, final, kept = layer.forward(inputs, prepared, state, given_lengths, keep=True)
        assert kept is not None
        d_inputs, d_before, gradient = layer.backward(
            kept, prepared, given_lengths, None, d_outputs, d_state
        )
        outputs = tf.where(inside[..., np.newaxis], outputs, 0.0)
        found = [outputs, *final, d_inputs, *d_before, *layer.restore(gradient)]
        return [tensor.numpy() for tensor in found]

    with fake_cudnn():
        ours = everything(CudnnRecurrence(cell))
    for found, expected in zip(ours, everything(Recurrence(cell, compiled=False)), strict=True):
        assert found.shape == expected.shape
        assert_close(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_tensorflow_takes_the_calls_as_they_are_made(kind: str) -> None:
    """Their shapes are checked when the graph is made, for which no GPU is needed."""
    cell = built(kind)
    layer = CudnnRecurrence(cell)
    state = [tf.TensorSpec([None, cell.units])] * len(CELL_SPECS[cell.config.cell].states)

    def chunk(inputs: tf.Tensor, lengths: tf.Tensor, *before: tf.Tensor) -> Any:
        weights = layer.prepare(cell.read())
        outputs, after, kept = layer.forward(inputs, weights, before, lengths, keep=True)
        assert kept is not None
        back = layer.backward(kept, weights, lengths, None, outputs, after)
        return outputs, after, back[0], back[1], layer.restore(back[2])

    rows = tf.TensorSpec([STEPS, None, INPUTS]), tf.TensorSpec([None], tf.int32)
    graph = tf.function(chunk, autograph=False).get_concrete_function(*rows, *state)
    outputs, after, d_inputs, d_before, gradient = graph.structured_outputs
    assert outputs.shape.as_list() == [STEPS, None, cell.units]
    assert d_inputs.shape.as_list() == [STEPS, None, INPUTS]
    states = [part.shape.as_list() for part in (*after, *d_before)]
    assert states == [[None, cell.units]] * (2 * len(state))
    assert [part.shape for part in gradient] == [part.shape for part in cell.read()]


@pytest.mark.parametrize("kind", ["lstm:8", "gru:8", "rnn:8", "rnn:8:relu"])
@pytest.mark.parametrize("device", ["CPU:0", "CPU:1", "GPU:0", "GPU:3", None])
@pytest.mark.parametrize("state_keep_prob", [1.0, 0.9])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("form", ["plain", "compiled", "fastest"])
def test_cudnn_computes_layers_on_gpus_whose_state_nothing_is_dropped_from(
    kind: str, device: str | None, state_keep_prob: float, training: bool, form: Any
) -> None:
    """Other dropout is outside of the call, and how long chunks are changes nothing."""
    everywhere = {"input_keep_prob": 0.5, "output_keep_prob": 0.5}
    cell = built(kind, state_keep_prob=state_keep_prob, **everywhere)
    found = layer_over_time(cell, device, form, training)
    # This machine's first device, which None is, may be a GPU too.
    on_gpu = implementations.is_gpu(device)
    assert on_gpu == (
        device.startswith("GPU") if device else bool(tf.config.list_physical_devices("GPU"))
    )
    allowed = on_gpu and not (training and state_keep_prob < 1)
    assert isinstance(found, CudnnRecurrence) == (allowed and form == "fastest")
    assert takes_cudnn(cell.config, device, training) == allowed


@pytest.mark.parametrize(
    "how",
    [{"chunk_steps": 4, **KEEP}, {"replicas": 2}],
    ids=["two devices, short chunks, dropout", "replicas"],
)
def test_training_gives_the_numbers_of_the_loops(how: dict[str, Any]) -> None:
    """With dropout around layers, wherever time is cut; each replica draws masks of its own, so
    these are compared without."""
    alone = KEEP if "chunk_steps" in how else {}
    with pool(2) as processes:
        loops = processes.submit(on_devices.train, 1, BATCHES, **alone)
        cudnn = processes.submit(on_devices.train_with_fake_cudnn, 2, BATCHES, **how)
        found, expected = cudnn.result(), loops.result()
    np.testing.assert_allclose(found.losses, expected.losses, rtol=CLOSE)
    for ours, theirs in zip(found.weights, expected.weights, strict=True):
        assert np.abs(ours - theirs).max() <= CLOSE * np.abs(theirs).max()


def test_a_replica_without_a_row_changes_nothing() -> None:
    """cuDNN refuses a batch without a row."""
    with pool(2) as processes:
        one = processes.submit(on_devices.train, 1, 3, rows=1)
        two = processes.submit(on_devices.train_with_fake_cudnn, 2, 3, replicas=2, rows=1)
        np.testing.assert_allclose(two.result().losses, one.result().losses, rtol=CLOSE)


def test_a_tensorflow_without_cuda_keeps_its_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for AMD's GPUs, say."""
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: False)
    assert not takes_cudnn(LayerConfig(cell="lstm", units=4), "GPU:0", training=False)
