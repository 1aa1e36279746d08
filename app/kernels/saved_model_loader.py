"""`ServedModel`: loads a SavedModel on this machine's devices and checks its signatures."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from app.errors import DeviceFailed, ModelRefused
from app.kernels.saved_model_placement import assign, placed
from app.kernels.tensorflow_devices import devices, failure, set_up, short
from app.manifest import Manifest

# Takes and gives tensors by their names in the signature.
Function = Callable[..., Mapping[str, tf.Tensor]]


class ServedModel:
    """A SavedModel on the devices of this machine.

    Args:
        folder: verified.
        manifest: of the folder.
        logical_devices: into how many devices the CPU is split.

    Attributes:
        state_size: the sum of H over all state tensors.
        devices: where each layer's variables are.
        chunk: the signature `chunk`, concrete.
        whole: the signature `serving_default`.

    Raises:
        ModelRefused: TensorFlow cannot load it, or its signatures are not those of the manifest.
    """

    def __init__(self, folder: Path, manifest: Manifest, logical_devices: int) -> None:
        self._tensors = tuple(part.tensor for layer in manifest.layers for part in layer.states)
        self._sizes = manifest.state_sizes
        self.state_size = sum(self._sizes)
        set_up(logical_devices)
        here = devices()
        trained = [layer.device for layer in manifest.layers]
        try:
            self._loaded = _load(folder, assign(trained, here))
        except tf.errors.ResourceExhaustedError as error:
            raise DeviceFailed(failure(error, here)) from error
        except Exception as error:
            raise ModelRefused(
                f"{folder}: TensorFlow cannot load it: {type(error).__name__}: {error}"
            ) from error
        signatures = self._loaded.signatures
        for name in ("chunk", "serving_default"):
            if name not in signatures:
                raise ModelRefused(f"{folder}: there is no signature {name!r}: export it again")
        self.chunk: Any = signatures["chunk"]
        self.whole: Function = signatures["serving_default"]
        self._check_signature(folder, manifest)
        self.devices = tuple(
            short(self._loaded.weights[f"layer_{index}"]["kernel"].device)
            for index in range(len(manifest.layers))
        )

    def named(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> dict[str, tf.Tensor]:
        """The arguments of `chunk` for those of `ModelRunner.run`."""
        parts = np.split(state, np.cumsum(self._sizes)[:-1], axis=1)
        return {
            "sequences": tf.constant(inputs),
            "lengths": tf.constant(lengths),
            **{n: tf.constant(part) for n, part in zip(self._tensors, parts, strict=True)},
        }

    def unnamed(self, results: Mapping[str, tf.Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """The results of a signature as `ModelRunner.run` gives them: outputs and state."""
        state = np.concatenate([results[name].numpy() for name in self._tensors], axis=1)
        return results["outputs"].numpy(), state

    def plain(self, inputs: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the model's plain form in float32 makes of whole sequences."""
        return self.unnamed(self.whole(sequences=tf.constant(inputs), lengths=tf.constant(lengths)))

    def _check_signature(self, folder: Path, manifest: Manifest) -> None:
        states = zip(self._tensors, self._sizes, strict=True)
        shapes = {name: (None, size) for name, size in states}
        expected = {
            "sequences": ((None, None, len(manifest.features)), tf.float32),
            "lengths": ((None,), tf.int32),
            **{name: (shape, tf.float32) for name, shape in shapes.items()},
        }
        _, taken = self.chunk.structured_input_signature
        found = {name: (tuple(spec.shape), spec.dtype) for name, spec in taken.items()}
        if found != expected:
            raise ModelRefused(f"{folder}: signature 'chunk' takes {found}, not {expected}")
        results = {"outputs": (None, None, len(manifest.outputs)), **shapes}
        given = {name: tuple(spec.shape) for name, spec in self.chunk.structured_outputs.items()}
        if given != results:
            raise ModelRefused(f"{folder}: signature 'chunk' gives {given}, not {results}")


def _load(folder: Path, assigned: Mapping[str, str]) -> Any:
    options = tf.saved_model.LoadOptions(experimental_variable_policy="save_variable_devices")
    with placed(folder, assigned) as place:
        return tf.saved_model.load(str(place), options=options)
