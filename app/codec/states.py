"""States of sequences: one row `[sum of H]` inside, in three forms outside."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.codec.json_numbers import Faults, echo, invalid, vector
from app.codec.state_token import StateTokens

# float32 `[sum of H]`: layers in order, h before c.
State = np.ndarray

StateForm = Literal["per_layer", "concatenated", "token", "none"]


@dataclass(frozen=True)
class LayerLayout:
    """A layer's state in JSON: its cell and the names of its parts, each `units` numbers."""

    cell: str
    units: int
    parts: tuple[str, ...]


class StateCodec:
    """Parses and prints states of one model.

    Args:
        layers: in order.
        tokens: of the model's states.

    Attributes:
        layers, tokens: as given.
        size: numbers of a state.
    """

    def __init__(self, layers: tuple[LayerLayout, ...], tokens: StateTokens) -> None:
        self.layers = layers
        self.tokens = tokens
        self.size = sum(layer.units * len(layer.parts) for layer in layers)
        self._spans = _spans(layers)

    def parse(
        self, value: object, count: int, pointer: str = "/initial_states"
    ) -> list[State | None]:
        """Reads `initial_states`: None, or one entry a sequence, in any form of an answer.

        Raises:
            InvalidRequest: with up to `MAX_FAULTS` places.
            OtherModel: a token is of another model or version.
        """
        if value is None:
            return [None] * count
        if not isinstance(value, list):
            raise invalid(pointer, f"must be an array, got {echo(value)}")
        if len(value) != count:
            raise invalid(pointer, f"holds {len(value)} states for {count} sequences; one for each")
        states: list[State | None] = []
        faults = Faults()
        for index, entry in enumerate(value):
            states.append(self.parse_one(entry, f"{pointer}/{index}", faults))
        faults.raise_any()
        return states

    def parse_one(self, entry: object, pointer: str, faults: Faults) -> State | None:
        """Reads a state in any form; None is None, and what has faults is None too.

        Raises:
            OtherModel, InvalidRequest: as `parse`.
        """
        if entry is None:
            return None
        if isinstance(entry, str):
            return self.tokens.open(entry, pointer)
        if isinstance(entry, list) and entry and not isinstance(entry[0], dict):
            return vector(entry, self.size, pointer, faults)
        return self._layered_state(entry, pointer, faults)

    def check(self, numbers: np.ndarray, is_null: np.ndarray, pointer: str) -> list[State | None]:
        """States that came as bytes.

        Args:
            numbers: float32 `[B, sum of H]`.
            is_null: bool `[B]`: which are zeros instead.
            pointer: to them in the request.

        Raises:
            InvalidRequest: a number is not finite.
        """
        wrong = ~(np.isfinite(numbers) | is_null[:, None])
        if wrong.any():
            row, place = np.unravel_index(np.argmax(wrong), wrong.shape)
            raise invalid(f"{pointer}/{row}/{place}", f"{numbers[row, place]} is not finite")
        return [None if null else row for row, null in zip(numbers, is_null, strict=True)]

    def printable(self, form: StateForm, state: State) -> object:
        """A state in a form that `print_json` prints."""
        if form == "per_layer":
            return self.layered(state)
        return self.tokens.seal(state) if form == "token" else state

    def layered(self, state: State) -> list[dict[str, np.ndarray]]:
        """A final state as answers have it: an object a layer."""
        return [{name: state[start:end] for name, start, end in layer} for layer in self._spans]

    def _layered_state(self, entry: object, pointer: str, faults: Faults) -> State | None:
        layers = self.layers
        if not isinstance(entry, list) or len(entry) != len(layers):
            faults.add(pointer, f"must be an array of {len(layers)} layers, got {echo(entry)}")
            return None
        arrays: list[np.ndarray | None] = []
        for index, (state, layer) in enumerate(zip(entry, layers, strict=True)):
            place, parts = f"{pointer}/{index}", " and ".join(layer.parts)
            if not isinstance(state, dict):
                faults.add(place, f"must be an object with {parts}, got {echo(state)}")
            elif {name for name, part in state.items() if part is not None} != set(layer.parts):
                faults.add(
                    place, f"layer {index} is {layer.cell} and its state has exactly {parts}"
                )
            else:
                arrays += [
                    vector(state[name], layer.units, f"{place}/{name}", faults)
                    for name in layer.parts
                ]
        found = [array for array in arrays if array is not None]
        whole = len(found) == sum(len(layer.parts) for layer in layers)
        return np.concatenate(found) if whole else None


def _spans(layers: tuple[LayerLayout, ...]) -> list[list[tuple[str, int, int]]]:
    """For each layer: the names of its parts, and from where to where they stand in a state."""
    spans, end = [], 0
    for layer in layers:
        found = []
        for name in layer.parts:
            start, end = end, end + layer.units
            found.append((name, start, end))
        spans.append(found)
    return spans
