"""`Signature`: a model as a function of named tensors."""

from dataclasses import dataclass
from typing import NamedTuple, Self

from app.manifest import Manifest

SEQUENCES = "sequences"
LENGTHS = "lengths"
OUTPUTS = "outputs"


class TensorForm(NamedTuple):
    """A tensor that a model takes or gives; -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class StateTensor(NamedTuple):
    """A part of a state: its name, and from where to where it stands in `[sum of H]`."""

    name: str
    start: int
    end: int

    @property
    def units(self) -> int:
        """H."""
        return self.end - self.start


@dataclass(frozen=True)
class Signature:
    """Sizes and names of a model's tensors.

    Attributes:
        features: F.
        outputs: O.
        states: of all layers, in order.
    """

    features: int
    outputs: int
    states: tuple[StateTensor, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """That of a model's manifest."""
        states, end = [], 0
        for layer in manifest.layers:
            for part in layer.states:
                start, end = end, end + layer.units
                states.append(StateTensor(part.tensor, start, end))
        return cls(len(manifest.features), len(manifest.outputs), tuple(states))

    def inputs_form(self) -> list[TensorForm]:
        """What goes in; all but the first may be left out."""
        return [
            TensorForm(SEQUENCES, "FP32", (-1, -1, self.features)),
            TensorForm(LENGTHS, "INT32", (-1,)),
            *self._states_form(),
        ]

    def outputs_form(self) -> list[TensorForm]:
        """What comes out."""
        return [TensorForm(OUTPUTS, "FP32", (-1, -1, self.outputs)), *self._states_form()]

    def _states_form(self) -> list[TensorForm]:
        return [TensorForm(state.name, "FP32", (-1, state.units)) for state in self.states]
