"""`Signature`: a model as a function of named tensors."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from app.errors import Fault
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
        """H of the layer."""
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
        """The signature of the model that a manifest describes."""
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

    def has_state(self, given: Container[str]) -> bool:
        """Whether a state, or a part of one, is among tensors of these names."""
        return any(state.name in given for state in self.states)

    def state_faults(self, given: Container[str], pointer: str) -> Iterator[Fault]:
        """What is wrong with the names of the tensors of an initial state.

        Args:
            given: names of the tensors that were sent.
            pointer: to them in the request.
        """
        if self.has_state(given):
            for state in self.states:
                if state.name not in given:
                    text = "is missing; an initial state has all of its tensors or none"
                    yield Fault(pointer, f'"{state.name}" {text}')

    def parts(self, states: np.ndarray) -> dict[str, np.ndarray]:
        """States `[..., sum of H]` as tensors `[..., H]` by their names."""
        return {state.name: states[..., state.start : state.end] for state in self.states}

    def _states_form(self) -> list[TensorForm]:
        return [TensorForm(state.name, "FP32", (-1, state.units)) for state in self.states]


def padded(outputs: np.ndarray, time_steps: int) -> np.ndarray:
    """Outputs `[T, O]` of a sequence with zeros behind them, up to so many time steps."""
    if len(outputs) == time_steps:
        return outputs
    made = np.zeros((time_steps, outputs.shape[1]), outputs.dtype)
    made[: len(outputs)] = outputs
    return made
