"""cuDNN's two calls in TensorFlow's own operations, so that all around them runs without a GPU.

Written from cuDNN's documentation, in float64, one time step after the other; the gradient is a
tape's. What cuDNN, or TensorFlow around it, would refuse or compute wrongly is refused here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import tensorflow as tf

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}
# What the forward call keeps, which only its own backward call may be given.
RESERVE, HOST_RESERVE = 4711.0, 47


class Forward(NamedTuple):
    output: tf.Tensor
    output_h: tf.Tensor
    output_c: tf.Tensor
    reserve_space: tf.Tensor
    host_reserved: tf.Tensor


class Backward(NamedTuple):
    input_backprop: tf.Tensor
    input_h_backprop: tf.Tensor
    input_c_backprop: tf.Tensor
    params_backprop: tf.Tensor


@contextmanager
def fake_cudnn(calls: list[str] | None = None) -> Iterator[None]:
    """Replaces the calls, and has layers take them on any device; `calls` collects their modes."""

    def forward(**given: Any) -> Forward:
        if calls is not None:
            calls.append(given["rnn_mode"])
        return _forward(**given)

    with (
        mock.patch.object(tf.raw_ops, "CudnnRNNV3", forward),
        mock.patch.object(tf.raw_ops, "CudnnRNNBackpropV3", _backward),
        mock.patch("model.layers.implementations.is_gpu", return_value=True),
    ):
        yield


def _forward(
    *,
    input: tf.Tensor,
    input_h: tf.Tensor,
    input_c: tf.Tensor,
    params: tf.Tensor,
    sequence_lengths: tf.Tensor,
    rnn_mode: str,
    is_training: bool,
) -> Forward:
    with tf.control_dependencies(_checks(input, sequence_lengths)):
        doubles = [tf.cast(x, tf.float64) for x in (input, input_h, input_c, params)]
    outputs, h, c = (tf.cast(x, tf.float32) for x in _computed(doubles, sequence_lengths, rnn_mode))
    reserve = tf.fill([3 if is_training else 0], RESERVE)
    host = tf.fill([2 if is_training else 0], tf.constant(HOST_RESERVE, tf.int8))
    return Forward(outputs, h, c, reserve, host)


def _backward(
    *,
    input: tf.Tensor,
    input_h: tf.Tensor,
    input_c: tf.Tensor,
    params: tf.Tensor,
    sequence_lengths: tf.Tensor,
    output: tf.Tensor,
    output_h: tf.Tensor,
    output_c: tf.Tensor,
    output_backprop: tf.Tensor,
    output_h_backprop: tf.Tensor,
    output_c_backprop: tf.Tensor,
    reserve_space: tf.Tensor,
    host_reserved: tf.Tensor,
    rnn_mode: str,
) -> Backward:
    taken = [tf.cast(x, tf.float64) for x in (input, input_h, input_c, params)]
    with tf.GradientTape() as tape:
        tape.watch(taken)
        found = _computed(taken, sequence_lengths, rnn_mode)
    same = [
        tf.debugging.assert_near(tf.cast(a, tf.float32), b, 1e-5, 1e-5)
        for a, b in zip(found, (output, output_h, output_c), strict=True)
    ]
    same.append(tf.debugging.assert_equal(reserve_space, tf.fill([3], RESERVE)))
    same.append(tf.debugging.assert_equal(host_reserved, tf.constant([HOST_RESERVE] * 2, tf.int8)))
    with tf.control_dependencies([*_checks(input, sequence_lengths), *filter(_is_op, same)]):
        by = (output_backprop, output_h_backprop, output_c_backprop)
        d_found = [tf.cast(x, tf.float64) for x in by]
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(found, taken, d_found, unconnected_gradients=zero)
    return Backward(*(tf.cast(x, tf.float32) for x in gradients))


def _is_op(check: Any) -> bool:
    """In a graph a check is an operation to wait for; else it has been made already."""
    return check is not None


def _checks(inputs: tf.Tensor, lengths: tf.Tensor) -> list[Any]:
    """What cuDNN refuses, and the shape that TensorFlow would remember as one without padding."""
    steps = tf.shape(inputs)[0]
    return [
        check
        for check in (
            tf.debugging.assert_positive(tf.shape(inputs)[1], "cuDNN wants a row"),
            tf.debugging.assert_positive(lengths, "cuDNN refuses a row without a time step"),
            tf.debugging.assert_less_equal(lengths, steps, "cuDNN refuses a row beyond the array"),
            tf.debugging.assert_less(
                tf.reduce_min(lengths), steps, "TensorFlow would forget that rows are padded"
            ),
        )
        if _is_op(check)
    ]


def _computed(
    given: list[tf.Tensor], lengths: tf.Tensor, mode: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Outputs `[C, B, H]` and the states `[1, B, H]` at each row's last time step.

    Args:
        given: inputs, h, c and params.
        lengths: of the rows.
        mode: cuDNN's name of the cell.
    """
    inputs, h, c, params = given
    num_steps, units = inputs.shape[0], h.shape[2]
    assert num_steps is not None, "these tests know their time steps when the graph is made"
    weights = _matrices(params, inputs.shape[2], units, GATES[mode])
    h, c, outputs = h[0], (c[0] if mode == "lstm" else c), []
    for time in range(num_steps):
        inside = (time < lengths)[:, tf.newaxis]
        new_h, new_c = _time_step(inputs[time], h, c, weights, mode)
        outputs.append(tf.where(inside, new_h, 0.0))
        h = tf.where(inside, new_h, h)
        c = tf.where(inside, new_c, c) if mode == "lstm" else c
    return tf.stack(outputs), h[tf.newaxis], (c[tf.newaxis] if mode == "lstm" else c)


def _matrices(params: tf.Tensor, num_inputs: int, units: int, gates: int) -> dict[str, list[Any]]:
    """The parts of the flat array, a list of each kind with an entry a gate."""
    found: dict[str, list[Any]] = {}
    at = 0
    for name, shape in (
        ("W", (units, num_inputs)),
        ("R", (units, units)),
        ("bW", (units,)),
        ("bR", (units,)),
    ):
        found[name] = []
        for _ in range(gates):
            size = int(np.prod(shape))
            found[name].append(tf.reshape(params[at : at + size], shape))
            at += size
    tf.debugging.assert_equal(tf.size(params), at, "the array has no other numbers")
    return found


def _time_step(
    x: tf.Tensor, h: tf.Tensor, c: tf.Tensor, weights: dict[str, list[Any]], mode: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """The equations of cuDNN's documentation of `cudnnRNNMode_t`."""
    of_x = [x @ tf.transpose(w) + b for w, b in zip(weights["W"], weights["bW"], strict=True)]
    of_h = [h @ tf.transpose(r) + b for r, b in zip(weights["R"], weights["bR"], strict=True)]
    if mode == "lstm":
        i, f, g, o = (a + b for a, b in zip(of_x, of_h, strict=True))
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c
    if mode == "gru":
        r, z = (tf.sigmoid(of_x[gate] + of_h[gate]) for gate in (0, 1))
        n = tf.tanh(of_x[2] + r * of_h[2])
        return (1 - z) * n + z * h, c
    total = of_x[0] + of_h[0]
    return (tf.nn.relu(total) if mode == "rnn_relu" else tf.tanh(total)), c
