"""The reference kernel: the SavedModel's own `chunk` function, run by TensorFlow.

Calls have few shapes: rows are padded to the next power of two and time steps to the longest chunk.
The function's loop ends with the longest row, so padded time steps cost nothing; each shape is
compiled once, at warm-up.
"""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# TensorFlow reads it when it is imported: its C++ notes are of no use in a service's log.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from app.engine.cost import Cost
from app.engine.runners.measure import measure_cost
from app.engine.runners.place import assign, placed
from app.errors import ModelRefused
from app.manifest import Manifest

logger = logging.getLogger(__name__)

# The plain and the compiled form of the same model differ by rounding only.
PROBE_TOLERANCE = 1e-4


class TensorFlowRunner:
    """Runs the `chunk` signature of a SavedModel. See `ModelRunner`.

    Args:
        folder: verified.
        manifest: of the folder.
        logical_devices: into how many devices the CPU is split.

    Attributes:
        devices: where each layer's variables are.

    Raises:
        ModelRefused: TensorFlow cannot load it, or its signatures are not those of the manifest.
    """

    def __init__(self, folder: Path, manifest: Manifest, logical_devices: int = 1) -> None:
        self._tensors = tuple(part.tensor for layer in manifest.layers for part in layer.states)
        self._sizes = [layer.units for layer in manifest.layers for _ in layer.states]
        self.state_size = sum(self._sizes)
        self.num_outputs = len(manifest.outputs)
        self._manifest = manifest
        self._max_rows = self._max_steps = 1
        self._shapes: set[tuple[int, int]] = set()
        # Lanes run side by side: threads that split one small product mostly wait for each other.
        _one_thread_a_lane()
        _split_cpu(logical_devices)
        trained = [layer.device for layer in manifest.layers]
        try:
            self._loaded = _load(folder, assign(trained, _devices()))
            self._chunk = self._loaded.signatures["chunk"]
            self._whole = self._loaded.signatures["serving_default"]
        except Exception as error:
            raise ModelRefused(
                f"{folder}: TensorFlow cannot load it: {type(error).__name__}: {error}"
            ) from error
        self._check_signature(folder)
        self.devices = tuple(
            _short(self._loaded.weights[f"layer_{index}"]["kernel"].device)
            for index in range(len(manifest.layers))
        )

    @property
    def compilations(self) -> int:
        """Call shapes met so far: XLA compiles each once."""
        return len(self._shapes)

    def set_limits(self, max_rows: int, max_steps: int) -> None:
        """Allows `run` up to these sizes; a call shape that is not warm compiles when it is met."""
        self._max_rows, self._max_steps = _power_of_two(max_rows), max_steps

    def warm_up(self, max_rows: int, max_steps: int) -> Cost:
        """See `ModelRunner.warm_up`."""
        started = time.monotonic()
        self.set_limits(max_rows, max_steps)
        features = len(self._manifest.features)
        for count in (1 << i for i in range(self._max_rows.bit_length())):
            zeros = np.zeros((count, self.state_size), np.float32)
            self.run(np.zeros((count, 1, features), np.float32), np.ones(count, np.int32), zeros)
        self._probe()
        logger.info(
            "compiled %d call shapes in %.1f s", self.compilations, time.monotonic() - started
        )
        return measure_cost(self, features, max_rows, max_steps)

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `ModelRunner.run`."""
        rows, steps, features = inputs.shape
        shape = (_power_of_two(rows), self._max_steps)
        assert rows <= self._max_rows, "this is a bug: more rows than warmed up for"
        assert steps <= self._max_steps, "this is a bug: more time steps than warmed up for"
        self._shapes.add(shape)
        if (rows, steps) != shape:
            padded = np.zeros((*shape, features), np.float32)
            padded[:rows, :steps] = inputs
            inputs, lengths, state = padded, _pad(lengths, shape[0]), _pad(state, shape[0])
        parts = np.split(state, np.cumsum(self._sizes)[:-1], axis=1)
        # A compiled function runs where it is called; its variables may be on another device.
        with tf.device(self.devices[0]):
            named = self._chunk(
                sequences=tf.constant(inputs),
                lengths=tf.constant(lengths),
                **{n: tf.constant(part) for n, part in zip(self._tensors, parts, strict=True)},
            )
        next_state = np.concatenate([named[name].numpy() for name in self._tensors], axis=1)
        return named["outputs"].numpy()[:rows, :steps], next_state[:rows]

    def _probe(self) -> None:
        """The compiled form must agree with the plain one on the manifest's example."""
        if not self._manifest.example:
            return
        example = np.array(self._manifest.example, np.float32)[np.newaxis, : self._max_steps]
        lengths = np.full(1, example.shape[1], np.int32)
        outputs, state = self.run(example, lengths, np.zeros((1, self.state_size), np.float32))
        plain = self._whole(sequences=tf.constant(example), lengths=tf.constant(lengths))
        plain_state = np.concatenate([plain[name].numpy() for name in self._tensors], axis=1)
        for ours, theirs in ((outputs, plain["outputs"].numpy()), (state, plain_state)):
            if not np.allclose(ours, theirs, PROBE_TOLERANCE, PROBE_TOLERANCE):
                raise ModelRefused("its two signatures disagree on the manifest's example")

    def _check_signature(self, folder: Path) -> None:
        features = len(self._manifest.features)
        states = zip(self._tensors, self._sizes, strict=True)
        shapes = {name: (None, size) for name, size in states}
        expected = {
            "sequences": ((None, None, features), tf.float32),
            "lengths": ((None,), tf.int32),
            **{name: (shape, tf.float32) for name, shape in shapes.items()},
        }
        _, taken = self._chunk.structured_input_signature
        found = {name: (tuple(spec.shape), spec.dtype) for name, spec in taken.items()}
        if found != expected:
            raise ModelRefused(f"{folder}: signature 'chunk' takes {found}, not {expected}")
        results = {"outputs": (None, None, self.num_outputs), **shapes}
        given = {name: tuple(spec.shape) for name, spec in self._chunk.structured_outputs.items()}
        if given != results:
            raise ModelRefused(f"{folder}: signature 'chunk' gives {given}, not {results}")


def _one_thread_a_lane() -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:
        # It can be set only before TensorFlow's first use; a second model finds it set already.
        logger.debug("TensorFlow runs already, its threads stay as they are")


def _split_cpu(count: int) -> None:
    physical = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(physical, logical)
    except RuntimeError:
        found = len(tf.config.list_logical_devices("CPU"))
        if found != count:
            logger.warning("the CPU stays %d devices: TensorFlow runs already", found)


def _devices() -> list[str]:
    return [_short(device.name) for device in tf.config.list_logical_devices()]


def _short(device: str) -> str:
    """`GPU:0` for `/job:localhost/replica:0/task:0/device:GPU:0`."""
    return device.rpartition("device:")[2]


def _load(folder: Path, assigned: Mapping[str, str]) -> Any:
    options = tf.saved_model.LoadOptions(experimental_variable_policy="save_variable_devices")
    with placed(folder, assigned) as place:
        return tf.saved_model.load(str(place), options=options)


def _power_of_two(rows: int) -> int:
    return 1 << (rows - 1).bit_length()


def _pad(array: np.ndarray, rows: int) -> np.ndarray:
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded
