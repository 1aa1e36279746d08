"""Bodies of `:predict` as TensorFlow Serving has them: rows or columns of named tensors.

The tensors are those of the SavedModel's `serving_default`, and those of an initial state.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from app.api.endpoint import checked, parse_object
from app.api.protocols.tensorflow_serving.schemas import RowsOrColumns
from app.codec.json_numbers import Faults, echo, invalid, vector
from app.codec.model_codec import Codec
from app.codec.signature import LENGTHS, OUTPUTS, SEQUENCES, padded
from app.registry.registry import LoadedModel
from app.service.inference import InferenceRequest, InferenceService, new_sequences

SIGNATURE = "serving_default"


@dataclass(eq=False, kw_only=True)
class RowsRequest(InferenceRequest):
    """A request of TensorFlow Serving's API.

    Attributes:
        by_columns: whether it had `inputs`, and the answer has columns.
        padded: time steps of each sequence with its padding.
    """

    by_columns: bool
    padded: list[int]


@dataclass(frozen=True)
class _Row:
    """One sequence: float32 `[T, F]`, its time steps with padding, and its initial state."""

    array: np.ndarray
    padded: int
    state: np.ndarray | None


class Parts(NamedTuple):
    """What a body is read as; `pointer` is to its sequences."""

    rows: list[_Row]
    by_columns: bool
    pointer: str


def read(codec: Codec, body: bytes) -> Parts:
    """Understands a body; raises `InvalidRequest`."""
    document = parse_object(body, codec.bounds)
    request = checked(lambda: RowsOrColumns.model_validate(document))
    if request.signature_name not in ("", SIGNATURE):
        given = echo(request.signature_name)
        raise invalid("/signature_name", f'there is no signature {given}; there is "{SIGNATURE}"')
    by_columns = "inputs" in document
    if by_columns and "instances" in document:
        # Beside the other, null is as good as nothing.
        by_columns = request.inputs is not None
        both = by_columns == (request.instances is not None)
    else:
        both = by_columns == ("instances" in document)
    if both:
        got = "both" if by_columns else "neither"
        raise invalid("", f"must have either instances or inputs, got {got}")
    reader = _Reader(codec)
    if by_columns:
        pointer, rows = reader.columns(request.inputs)
    else:
        pointer, rows = reader.rows(request.instances)
    return Parts(rows, by_columns, pointer)


def rows_request(inference: InferenceService, ready: LoadedModel, parts: Parts) -> RowsRequest:
    """The request that a body's parts are."""
    arrays, states = [row.array for row in parts.rows], [row.state for row in parts.rows]
    return RowsRequest(
        ready=ready,
        sequences=new_sequences(arrays, states, parts.pointer),
        by_columns=parts.by_columns,
        padded=[row.padded for row in parts.rows],
    )


def answer(work: RowsRequest) -> dict[str, Any]:
    """The whole answer, for `print_json`."""
    rows = list(_computed(work))
    if not work.by_columns:
        return {"predictions": rows}
    return {"outputs": {name: [row[name] for row in rows] for name in rows[0]}}


def _computed(work: RowsRequest) -> Iterator[dict[str, np.ndarray]]:
    """The tensors of each sequence: `outputs` `[T, O]` and the parts of its final state `[H]`."""
    parts = work.ready.codec.signature.parts
    for sequence, steps, state in zip(work.sequences, work.padded, work.final_states, strict=True):
        # As the SavedModel has them.
        yield {OUTPUTS: padded(sequence.outputs, steps), **parts(state)}


class _Reader:
    """Reads the tensors of a request for one model. `place` is a pointer with `{}` for a name."""

    def __init__(self, codec: Codec) -> None:
        self._sequences = codec.tensors
        self._signature = codec.signature
        self._inputs = {form.name for form in self._signature.inputs_form()}

    def rows(self, instances: object) -> tuple[str, list[_Row]]:
        """Reads `instances`: pointer to the sequences, and them; raises `InvalidRequest`."""
        pointer = "/instances"
        instances = self._listed(instances, pointer)
        rows = []
        for index, instance in enumerate(instances):
            place = f"{pointer}/{index}"
            if isinstance(instance, dict):
                self._check_names(instance, place)
                rows.append(self._row(instance, f"{place}/{{}}"))
            else:
                rows.append(self._row({SEQUENCES: instance}, place))
        return pointer, rows

    def columns(self, inputs: object) -> tuple[str, list[_Row]]:
        """Reads `inputs`, as `rows` does."""
        place, tensors = "/inputs", {SEQUENCES: inputs}
        if isinstance(inputs, dict):
            self._check_names(inputs, place)
            place, tensors = "/inputs/{}", inputs
        pointer = place.format(SEQUENCES)
        count = len(self._listed(tensors[SEQUENCES], pointer))
        columns = []
        for name, column in tensors.items():
            if not isinstance(column, list) or len(column) != count:
                text = f"must be an array of {count}, one entry a sequence, got {echo(column)}"
                raise invalid(place.format(name), text)
            columns.append(column)
        return pointer, [
            self._row(dict(zip(tensors, parts, strict=True)), f"{place}/{index}")
            for index, parts in enumerate(zip(*columns, strict=True))
        ]

    def _listed(self, value: object, pointer: str) -> list[Any]:
        if not isinstance(value, list):
            raise invalid(pointer, f"must be an array of sequences, got {echo(value)}")
        self._sequences.check_count(len(value), pointer)
        return value

    def _check_names(self, tensors: dict[str, Any], pointer: str) -> None:
        """Whether these tensors go together; raises `InvalidRequest`."""
        faults = Faults()
        if SEQUENCES not in tensors:
            faults.add(pointer, f'"{SEQUENCES}" is missing')
        for name in tensors:
            if name not in self._inputs:
                faults.add(pointer, f"there is no input {echo(name)}")
        faults.extend(self._signature.state_faults(tensors, pointer))
        faults.raise_any()

    def _row(self, tensors: dict[str, Any], place: str) -> _Row:
        rows, length = tensors[SEQUENCES], tensors.get(LENGTHS)
        pointer = place.format(SEQUENCES)
        if self._sequences.static and isinstance(rows, list) and type(length) is int:
            # Padding need not repeat what is static.
            short = 1 <= length <= len(rows)
            array = self._sequences.parse_one(rows[:length] if short else rows, pointer)
            padded = len(rows)
        else:
            array = self._sequences.parse_one(rows, pointer)
            padded = len(array)
        if LENGTHS in tensors:
            if type(length) is not int or not 1 <= length <= padded:
                text = f"must be a whole number from 1 to {padded}, the time steps that were sent"
                raise invalid(place.format(LENGTHS), f"{text}, got {echo(length)}")
            # Not a view, which would keep the padding as long as it waits.
            array = array[:length].copy()
        return _Row(array, padded, self._state(tensors, place))

    def _state(self, tensors: dict[str, Any], place: str) -> np.ndarray | None:
        """float32 `[sum of H]`, or None for zeros."""
        if not self._signature.has_state(tensors):
            return None
        faults = Faults()
        parts = [
            vector(tensors[state.name], state.units, place.format(state.name), faults)
            for state in self._signature.states
        ]
        faults.raise_any()
        return np.concatenate([part for part in parts if part is not None])
