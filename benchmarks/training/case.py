"""What is trained, and how layers on several devices follow each other. Imports no TensorFlow."""

from dataclasses import dataclass

PIPELINED, ONE_CHUNK, SERIAL = "pipelined", "one chunk", "layer after layer"
WAYS = (PIPELINED, ONE_CHUNK, SERIAL)


@dataclass(frozen=True)
class Case:
    """A stack of LSTM layers and the batches that it is trained on.

    Attributes:
        layers, units: of the stack.
        rows, steps: B and T of a batch, all rows of full length.
        inputs, outputs: I and O.
    """

    layers: int
    units: int
    rows: int
    steps: int
    inputs: int = 16
    outputs: int = 5

    @property
    def name(self) -> str:
        """As tables have it."""
        return f"{self.layers} x LSTM {self.units}, {self.rows} x {self.steps}"
