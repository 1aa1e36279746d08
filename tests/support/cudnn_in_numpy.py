"""cuDNN's recurrent layers in plain float64 NumPy, and a stand-in for TensorFlow's call of them.

Written from cuDNN's documentation (the equations of `cudnnRNNMode_t`, the places of the weights of
`cudnnGetRNNWeightParams`) with no code of `model` or `app`, so that it can judge both. One layer,
one direction.
"""

import numpy as np
import pytest
import tensorflow as tf

# The gates in the order of cuDNN's linLayerID, and in that of our weights' columns.
THEIRS = {
    "lstm": ("input", "forget", "new", "output"),
    "gru": ("reset", "update", "new"),
    "rnn": ("only",),
}
OURS = {
    "lstm": ("input", "forget", "new", "output"),
    "gru": ("update", "reset", "new"),
    "rnn": ("only",),
}
CELLS = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "rnn", "rnn_relu": "rnn"}

# Kernel `[I, G*H]`, recurrent kernel `[H, G*H]`, bias `[G*H]`, of a GRU `[2, G*H]`.
Weights = tuple[np.ndarray, np.ndarray, np.ndarray]


def pack_params(
    cell: str, kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """A layer's weights as cuDNN takes them, flat: every gate's input matrix, every gate's matrix
    of the state, the biases of the inputs, those of the state. A matrix is `[H, I]`, row by row.

    Args:
        cell: "lstm", "gru" or "rnn".
        kernel: `[I, G*H]`.
        recurrent_kernel: `[H, G*H]`.
        bias: `[G*H]`, or `[2, G*H]`: of the inputs, of the state.
    """
    units = len(recurrent_kernel)
    parts: list[np.ndarray] = []
    both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
    for matrix in (kernel, recurrent_kernel):
        for gate in THEIRS[cell]:
            first = OURS[cell].index(gate) * units
            block = matrix[:, first : first + units]
            for unit in range(units):
                parts.append(block[:, unit])
    for one in both:
        for gate in THEIRS[cell]:
            first = OURS[cell].index(gate) * units
            parts.append(one[first : first + units])
    return np.concatenate(parts)


def unpack_params(cell: str, params: np.ndarray, num_inputs: int, units: int) -> Weights:
    """The inverse of `pack_params`. Of the two biases of an LSTM or simple RNN, that of the inputs:
    the other one is zeros, and both have the same gradient."""
    gates = len(THEIRS[cell])
    kernel = np.zeros((num_inputs, gates * units), params.dtype)
    recurrent_kernel = np.zeros((units, gates * units), params.dtype)
    bias = np.zeros((2, gates * units), params.dtype)
    at = 0
    for matrix in (kernel, recurrent_kernel):
        for gate in THEIRS[cell]:
            first = OURS[cell].index(gate) * units
            for unit in range(units):
                matrix[:, first + unit] = params[at : at + len(matrix)]
                at += len(matrix)
    for one in bias:
        for gate in THEIRS[cell]:
            first = OURS[cell].index(gate) * units
            one[first : first + units] = params[at : at + units]
            at += units
    assert at == len(params), f"{len(params)} params of a layer that has {at}"
    return kernel, recurrent_kernel, bias if cell == "gru" else bias[0]


def cudnn_forward(
    mode: str,
    params: np.ndarray,
    inputs: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    lengths: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the call computes, in float64.

    Args:
        mode: "lstm", "gru", "rnn_tanh" or "rnn_relu".
        params: `[N]`.
        inputs: `[C, S, I]`.
        h: `[1, S, H]`.
        c: `[1, S, H]` of an LSTM, else of no meaning.
        lengths: `[S]`.

    Returns:
        Outputs `[C, S, H]`, zeros beyond a row's length, and h and c `[1, S, H]` of each row's last
        time step; c is empty `[]` but of an LSTM.

    Raises:
        ValueError: cuDNN would refuse the lengths, or TensorFlow would compute wrong numbers in a
            later call.
    """
    steps, rows, num_inputs = inputs.shape
    units = h.shape[-1]
    _check_lengths(lengths, steps)
    matrices, biases = _gates(CELLS[mode], np.asarray(params, np.float64), num_inputs, units)
    outputs = np.zeros((steps, rows, units))
    last_h = np.array(h, np.float64)
    last_c = np.array(c, np.float64) if mode == "lstm" else np.zeros(())
    for row in range(rows):
        for time in range(lengths[row]):
            x, before = inputs[time, row].astype(np.float64), last_h[0, row]
            # By gate: of the inputs and of the state, each with its bias.
            of_x = {g: w @ x + biases[g][0] for g, (w, _) in matrices.items()}
            of_h = {g: r @ before + biases[g][1] for g, (_, r) in matrices.items()}
            if mode == "lstm":
                total = {g: of_x[g] + of_h[g] for g in matrices}
                kept = _sigmoid(total["forget"]) * last_c[0, row]
                last_c[0, row] = kept + _sigmoid(total["input"]) * np.tanh(total["new"])
                after = _sigmoid(total["output"]) * np.tanh(last_c[0, row])
            elif mode == "gru":
                reset, update = (_sigmoid(of_x[g] + of_h[g]) for g in ("reset", "update"))
                new = np.tanh(of_x["new"] + reset * of_h["new"])
                after = (1.0 - update) * new + update * before
            else:
                total_of_one = of_x["only"] + of_h["only"]
                after = np.tanh(total_of_one) if mode == "rnn_tanh" else np.maximum(total_of_one, 0)
            outputs[time, row] = last_h[0, row] = after
    return outputs, last_h, last_c


def _check_lengths(lengths: np.ndarray, steps: int) -> None:
    if lengths.min() < 1 or lengths.max() > steps:
        raise ValueError(f"cuDNN: CUDNN_STATUS_BAD_PARAM: lengths {lengths} of {steps} time steps")
    if (lengths == steps).all():
        raise ValueError(
            f"all {len(lengths)} lengths are {steps}, the number of time steps: TensorFlow makes a "
            "descriptor without padding then, and takes it again for ragged rows of this shape"
        )


def _gates(
    cell: str, params: np.ndarray, num_inputs: int, units: int
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The matrices `[H, I]` and `[H, H]`, and the two biases `[H]`, of each gate."""
    at = 0

    def take(*shape: int) -> np.ndarray:
        nonlocal at
        at += int(np.prod(shape))
        return params[at - int(np.prod(shape)) : at].reshape(shape)

    of_inputs = [take(units, num_inputs) for _ in THEIRS[cell]]
    of_state = [take(units, units) for _ in THEIRS[cell]]
    input_biases = [take(units) for _ in THEIRS[cell]]
    state_biases = [take(units) for _ in THEIRS[cell]]
    assert at == len(params), f"{len(params)} params of a layer that takes {at}"
    matrices = dict(zip(THEIRS[cell], zip(of_inputs, of_state, strict=True), strict=True))
    biases = dict(zip(THEIRS[cell], zip(input_biases, state_biases, strict=True), strict=True))
    return matrices, biases


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


class FakeCudnn:
    """Stands for `tf.raw_ops.CudnnRNNV3`, eager and in functions, on any device.

    Attributes:
        calls: mode and shape `[C, S, I]` of the input of each call that was computed.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[int, ...]]] = []

    def __call__(
        self,
        *,
        input: tf.Tensor,
        input_h: tf.Tensor,
        input_c: tf.Tensor,
        params: tf.Tensor,
        sequence_lengths: tf.Tensor,
        rnn_mode: str = "lstm",
        input_mode: str = "linear_input",
        direction: str = "unidirectional",
        dropout: float = 0.0,
        seed: int = 0,
        seed2: int = 0,
        num_proj: int = 0,
        is_training: bool = True,
        time_major: bool = True,
        name: str | None = None,
    ) -> tuple[tf.Tensor, ...]:
        assert time_major
        assert (input_mode, direction) == ("linear_input", "unidirectional")
        assert (dropout, num_proj) == (0.0, 0)

        def compute(*arrays: np.ndarray) -> list[np.ndarray]:
            params, inputs, h, c, lengths = arrays
            self.calls.append((rnn_mode, inputs.shape))
            results = cudnn_forward(rnn_mode, params, inputs, h, c, lengths)
            return [np.asarray(result, np.float32) for result in results]

        given = [params, input, input_h, input_c, sequence_lengths]
        output, output_h, output_c = tf.numpy_function(compute, given, [tf.float32] * 3)
        # As the op's shape function has them.
        units = input_h.shape[-1]
        output.set_shape([*input.shape[:2], units])
        output_h.set_shape(input_h.shape)
        output_c.set_shape(input_h.shape if rnn_mode == "lstm" else [])
        reserved = tf.zeros([0], tf.float32), tf.zeros([0], tf.int8)
        return output, output_h, output_c, *reserved


def fake_cudnn(monkeypatch: pytest.MonkeyPatch) -> FakeCudnn:
    """Puts the stand-in where TensorFlow's call is."""
    fake = FakeCudnn()
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", fake)
    return fake
