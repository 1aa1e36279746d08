"""The function that `cudnn.py` runs: a chunk in one call of cuDNN a layer.

TensorFlow's call takes the time steps first. What it costs besides is operations, some microseconds
each, and copies between host and device. So features of a kind are computed at once, the outputs'
transform is part of the head's weights, and all numbers go to the device in one copy and come back
in one. Both copies are of memory that TensorFlow allocates itself: it is pinned where an operation
on the CPU makes what a GPU takes, and kept for the next call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from app.columns import Embedding, Feature, Output
from app.kernels.checkpoint import Checkpoint
from app.kernels.column_transforms import InputColumns, OutputColumns
from app.kernels.cudnn_params import mode_of, pack_params
from app.manifest import Layer, Manifest

HOST = "CPU:0"


@dataclass(frozen=True)
class _Placed:
    """A layer, its weights packed on its device."""

    device: str
    mode: str
    params: tf.Variable


class ChunkGraph:
    """Computes chunks; the weights are on their devices.

    Args:
        folder: verified.
        manifest: of the folder.
        devices: of each layer; the head is on the last layer's.

    Attributes:
        call: the concrete function: `inputs [S,C,F]`, `lengths [S]`, `state [S, sum of H]`, and
            the rows and time steps to pad to, int32 `[2]`, to outputs `[S,C,O]` and the next state
            in one flat tensor on the CPU.

    Raises:
        ModelRefused: a weight is absent, or cuDNN has no such cell.
    """

    def __init__(self, folder: Path, manifest: Manifest, devices: Sequence[str]) -> None:
        checkpoint = Checkpoint(folder)
        self._sizes = manifest.state_sizes
        self._encode = _Encoder(manifest.features, checkpoint)
        modes = [mode_of(layer) for layer in manifest.layers]
        self._layers = []
        for index, (layer, mode) in enumerate(zip(manifest.layers, modes, strict=True)):
            packed = self._packed(checkpoint, index, layer)
            with tf.device(devices[index]):
                params = tf.Variable(packed, trainable=False, name=f"layer_{index}_params")
            self._layers.append(_Placed(devices[index], mode, params))
        with tf.device(devices[-1]):
            self._decode = _Decoder(checkpoint, manifest.features, manifest.outputs)
        self.call: Any = tf.function(
            self._compute,
            input_signature=[
                tf.TensorSpec([None, None, len(manifest.features)], tf.float32, "inputs"),
                tf.TensorSpec([None], tf.int32, "lengths"),
                tf.TensorSpec([None, sum(self._sizes)], tf.float32, "state"),
                tf.TensorSpec([2], tf.int32, "shape"),
            ],
            autograph=False,
        ).get_concrete_function()

    def _packed(self, checkpoint: Checkpoint, index: int, layer: Layer) -> np.ndarray:
        kernel, recurrent, biases = checkpoint.layer(index)
        if index == 0:
            # In the order in which the encoder makes the inputs.
            kernel = kernel[self._encode.columns.order]
        return pack_params(layer, kernel, recurrent, biases)

    def _compute(
        self, inputs: tf.Tensor, lengths: tf.Tensor, state: tf.Tensor, shape: tf.Tensor
    ) -> tf.Tensor:
        with tf.device(HOST):
            rows, steps = tf.shape(inputs)[0], tf.shape(inputs)[1]
            valid = tf.cast(tf.range(steps)[:, tf.newaxis] < lengths, tf.float32)
            parts = (inputs, state, valid)
            packed = tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)
            counts = tf.stack([tf.size(part) for part in parts])
            shapes = [tf.shape(part) for part in parts]
            # A row of length 0 is an error in cuDNN: it has 1, and keeps its state in the end.
            more_rows = [0, shape[0] - rows]
            at_least_one = tf.pad(tf.maximum(lengths, 1), [more_rows], constant_values=1)
            # One time step more than any row has. Where all rows had all of them, TensorFlow would
            # make a descriptor without padding, and take it again for ragged rows of this shape.
            more_steps = [0, shape[1] + 1 - steps]
        with tf.device(self._layers[0].device):
            cut = tf.split(packed, counts, num=len(parts))
            raw, before, valid = map(tf.reshape, cut, shapes)
            raw = tf.transpose(raw, [1, 0, 2])
            top = tf.pad(self._encode(raw), [more_steps, more_rows, [0, 0]])
            initial = tf.split(tf.pad(before, [more_rows, [0, 0]]), self._sizes, axis=1)
        top, final = self._run_layers(top, initial, at_least_one)
        with tf.device(self._layers[-1].device):
            after = tf.concat(final, axis=1)[:rows]
            next_state = tf.where(valid[0][:, tf.newaxis] > 0.0, after, before)
            outputs = self._decode(top, raw, valid)
            results = [tf.transpose(outputs, [1, 0, 2]), next_state]
            packed = tf.concat([tf.reshape(result, [-1]) for result in results], axis=0)
        with tf.device(HOST):
            return tf.identity(packed)

    def _run_layers(
        self, top: tf.Tensor, initial: list[tf.Tensor], lengths: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Inputs `[C, S, I]` and initial states `[S, H]` to the last layer's and final states."""
        initial, final = list(initial), []
        for layer in self._layers:
            with tf.device(layer.device):
                h = initial.pop(0)[tf.newaxis]
                c = initial.pop(0)[tf.newaxis] if layer.mode == "lstm" else tf.zeros([])
                top, h, c, _, _ = tf.raw_ops.CudnnRNNV3(
                    input=top,
                    input_h=h,
                    input_c=c,
                    params=layer.params,
                    sequence_lengths=lengths,
                    rnn_mode=layer.mode,
                    is_training=False,
                    time_major=True,
                )
                final += [h[0], c[0]] if layer.mode == "lstm" else [h[0]]
        return top, final


class _Encoder:
    """Raw columns to the first layer's inputs, in the order of `columns`."""

    def __init__(self, features: tuple[Feature, ...], checkpoint: Checkpoint) -> None:
        embeddings = {
            index: checkpoint.weight(f"embedding_{index}/table")
            for index, feature in enumerate(features)
            if isinstance(feature.transform, Embedding)
        }
        self.columns = InputColumns.of(features, embeddings)
        self._count = len(features)

    def __call__(self, raw: tf.Tensor) -> tf.Tensor:
        """float32 `[C, S, F]` to `[C, S, I]`."""
        columns, made = self.columns, []
        if columns.plain:
            made.append((self._take(raw, columns.plain) - columns.mean) / columns.std)
        if columns.cyclic:
            angle = self._take(raw, columns.cyclic) * columns.scale
            made += [tf.sin(angle), tf.cos(angle)]
        if columns.coded:
            made.append(self._of_codes(raw))
        values = made[0] if len(made) == 1 else tf.concat(made, axis=2)
        if not columns.missing:
            return values
        known = tf.where(tf.math.is_nan(values), 0.0, values)
        absent = tf.math.is_nan(self._take(raw, columns.missing))
        return tf.concat([known, tf.cast(absent, tf.float32)], axis=2)

    def _of_codes(self, raw: tf.Tensor) -> tf.Tensor:
        """The columns of all categories."""
        columns = self.columns
        codes = self._take(raw, columns.coded)
        # What pads a batch may be any number.
        codes = tf.clip_by_value(tf.where(tf.math.is_nan(codes), 0.0, codes), 0.0, columns.last)
        rows = tf.cast(codes + columns.first, tf.int64)
        return tf.reduce_sum(tf.gather(tf.constant(columns.table), rows), axis=2)

    def _take(self, raw: tf.Tensor, columns: list[int]) -> tf.Tensor:
        return raw if columns == list(range(self._count)) else _gather(raw, columns)


class _Decoder:
    """The last layer's outputs to outputs in real units, zero beyond each row's length."""

    def __init__(
        self, checkpoint: Checkpoint, features: tuple[Feature, ...], outputs: tuple[Output, ...]
    ) -> None:
        columns = self._columns = OutputColumns.of(outputs, features)
        kernel = checkpoint.weight("head/kernel") * columns.std
        bias = checkpoint.weight("head/bias") * columns.std + columns.mean
        self._kernel = tf.Variable(kernel, False, dtype=tf.float32, name="head_kernel")
        self._bias = tf.Variable(bias, False, dtype=tf.float32, name="head_bias")

    def __call__(self, top: tf.Tensor, raw: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
        """float32 `[C', S', H]`, raw `[C, S, F]`, valid `[C, S]`, 1 or 0, to `[C, S, O]`."""
        steps, rows = tf.unstack(tf.shape(valid))
        total = tf.tensordot(top, self._kernel, 1) + self._bias
        total = total[:steps, :rows]
        if self._columns.is_change.any():
            # Not a product with 0: another column may be missing, which is NaN.
            present = _gather(raw, self._columns.of_feature)
            total += tf.where(self._columns.is_change, present, 0.0)
        return tf.where(valid[:, :, tf.newaxis] > 0.0, total, 0.0)


def _gather(raw: tf.Tensor, columns: Sequence[int] | np.ndarray) -> tf.Tensor:
    # Of int32 a GPU keeps constants on the host, and would copy them in every call.
    return tf.gather(raw, tf.constant(columns, tf.int64), axis=2)
