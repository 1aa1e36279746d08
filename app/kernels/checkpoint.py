"""`Checkpoint`: the weights of an exported folder, for kernels that do not run the SavedModel."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from app.errors import ModelRefused

PARTS = ("kernel", "recurrent_kernel", "bias")


class Checkpoint:
    """Reads weights by their names.

    Args:
        folder: verified.
    """

    def __init__(self, folder: Path) -> None:
        self._reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))

    def weight(self, name: str) -> np.ndarray:
        """One weight, such as `head/kernel`, float32.

        Raises:
            ModelRefused: it is absent.
        """
        key = f"weights/{name}/.ATTRIBUTES/VARIABLE_VALUE"
        if not self._reader.has_tensor(key):
            raise ModelRefused(f"the checkpoint has no weight {name!r}")
        return np.asarray(self._reader.get_tensor(key))

    def layer(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A layer's kernel `[I, G*H]`, recurrent kernel `[H, G*H]` and biases `[2, G*H]`.

        The biases are of inputs and of state; a cell with one bias adds it to the inputs.

        Raises:
            ModelRefused: one is absent.
        """
        kernel, recurrent, bias = (self.weight(f"layer_{index}/{part}") for part in PARTS)
        biases = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
        return kernel, recurrent, biases
