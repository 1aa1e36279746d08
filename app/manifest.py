"""`manifest.json` as the service reads it, and the check that a model folder is what it says.

The registry calls the check before anything of the folder is loaded, and again when it is.
"""

import hashlib
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from app.columns import Change, Feature, Number, Output, Part, Sent
from app.errors import ModelRefused

FORMAT = "unroll/2"
MANIFEST = "manifest.json"
CHECKSUM = "manifest.sha256"
# The kernel of processors, from format 2 on.
CHUNK = "chunk.onnx"

CellKind = Literal["rnn", "lstm", "gru"]


@dataclass(frozen=True)
class CellSpec:
    """A kind of cell.

    Attributes:
        gates: in the order of their columns in the weights.
        states: parts of the state; the first, `h`, is the layer's output.
    """

    gates: tuple[str, ...]
    states: tuple[str, ...]

    def places(self, gates: Sequence[str]) -> tuple[int, ...]:
        """Where each of these gates, in a library's order, stands among the columns."""
        return tuple(self.gates.index(gate) for gate in gates)


CELL_SPECS: Mapping[CellKind, CellSpec] = {
    "rnn": CellSpec(("new",), ("h",)),
    "lstm": CellSpec(("input", "forget", "new", "output"), ("h", "c")),
    "gru": CellSpec(("update", "reset", "new"), ("h",)),
}


class StatePart(Part):
    """One tensor of a layer's state: its name in answers and in the signatures."""

    name: str
    tensor: str


class Layer(Part):
    """One recurrent layer."""

    cell: CellKind
    units: Annotated[int, Field(ge=1)]
    activation: str = "tanh"
    device: str = "CPU:0"
    states: Annotated[tuple[StatePart, ...], Field(min_length=1)]

    @property
    def spec(self) -> CellSpec:
        """What a cell of this kind is."""
        return CELL_SPECS[self.cell]

    @model_validator(mode="after")
    def _states_are_those_of_the_cell(self) -> Self:
        found = tuple(part.name for part in self.states)
        if found != self.spec.states:
            raise ValueError(
                f"the states of {self.cell!r} are {', '.join(self.spec.states)}, "
                f"not {', '.join(found)}"
            )
        return self


class File(Part):
    """What a file must be."""

    sha256: str
    bytes: int


class Probe(Part):
    """What TensorFlow gave for a few rows at the export; a row may have no time steps.

    Attributes:
        tolerance: how far `chunk.onnx` may be from it.
        inputs: `[S][T of the row][F]`, null where a feature is missing.
        initial_state, final_state: `[S][sum of H]`.
        outputs: `[S][T of the row][O]`.
    """

    tolerance: Annotated[float, Field(gt=0, le=1e-4)]
    inputs: list[list[list[Number | None]]]
    initial_state: list[list[Number]]
    outputs: list[list[list[Number]]]
    final_state: list[list[Number]]

    def check(self, features: int, outputs: int, state_size: int) -> None:
        """Checks that it can be computed.

        Raises:
            ValueError: numbers are too few or too many.
        """
        steps = [len(row) for row in self.inputs]
        states = (*self.initial_state, *self.final_state)
        if (
            not any(steps)
            or steps != [len(row) for row in self.outputs]
            or not len(steps) == len(self.initial_state) == len(self.final_state)
            or {len(step) for row in self.inputs for step in row} != {features}
            or {len(step) for row in self.outputs for step in row} != {outputs}
            or {len(row) for row in states} != {state_size}
        ):
            raise ValueError(
                "the numbers of the probe are not those of features, outputs and states"
            )


class Manifest(Part):
    """What a model is, and what each file of its folder must be.

    Attributes:
        checksum: SHA-256 of the manifest's own bytes; `verified_manifest` sets it.
    """

    checksum: str = ""
    format: Literal["unroll/1", "unroll/2"]
    name: str
    version: int
    created: str
    description: str = ""
    dtype: Literal["float32"]
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    example: list[list[Sent]] = []
    metrics: dict[str, Any] = {}
    files: dict[str, File]
    probe: Probe | None = None

    @field_validator("outputs")
    @classmethod
    def _changes_are_of_features(
        cls, outputs: tuple[Output, ...], info: ValidationInfo
    ) -> tuple[Output, ...]:
        # Where the features are wrong themselves, that is told.
        names = {feature.name for feature in info.data.get("features", ())}
        for output in outputs:
            transform = output.transform
            if names and isinstance(transform, Change) and transform.feature not in names:
                raise ValueError(
                    f"output {output.name!r} is a change of {transform.feature!r}, "
                    f"which is not among the features"
                )
        return outputs

    @model_validator(mode="after")
    def _format_2_brings_its_kernel(self) -> Self:
        if self.format == FORMAT and (self.probe is None or CHUNK not in self.files):
            raise ValueError(f"format {FORMAT} has a probe, and {CHUNK} among its files")
        if self.probe is not None:
            self.probe.check(len(self.features), len(self.outputs), sum(self.state_sizes))
        return self

    @property
    def example_inputs(self) -> list[list[float | None]]:
        """The example `[T][F]` as kernels take it."""
        return [
            [feature.taken(value) for feature, value in zip(self.features, row, strict=True)]
            for row in self.example
        ]

    @property
    def layer_files(self) -> list[str]:
        """Parts of `chunk.onnx`, a layer each; none of a single layer, or where it has no parts."""
        names = [f"layer-{index}.onnx" for index in range(len(self.layers))]
        whole = len(names) > 1 and self.files.keys() >= set(names)
        return names if whole else []

    @property
    def state_sizes(self) -> list[int]:
        """Units of each state tensor, layers in order, h before c."""
        return [layer.units for layer in self.layers for _ in layer.states]


def verified_manifest(folder: Path) -> Manifest:
    """Reads the manifest and checks every byte of the folder against it.

    Args:
        folder: `models/<name>/<version>`.

    Raises:
        ModelRefused: a file is absent, has another size or content, or the manifest is not one
            of this format or belongs to another folder.
    """
    try:
        text = (folder / MANIFEST).read_bytes()
        checksum = (folder / CHECKSUM).read_bytes()
        digest = hashlib.sha256(text).hexdigest()
        if checksum != f"{digest}  {MANIFEST}\n".encode():
            raise ModelRefused(f"{folder / MANIFEST} does not have the checksum in {CHECKSUM}")
        manifest = Manifest.model_validate_json(text)
        for name, expected in manifest.files.items():
            _check_file(folder, name, expected)
        _check_nothing_else(folder, manifest)
    except OSError as error:
        raise ModelRefused(f"{error.filename}: {error.strerror}") from error
    except ValidationError as error:
        raise ModelRefused(f"{folder / MANIFEST}: {_first_error(error)}") from error
    if (manifest.name, str(manifest.version)) != (folder.parent.name, folder.name):
        raise ModelRefused(
            f"{folder} holds the manifest of {manifest.name} version {manifest.version}"
        )
    return manifest.model_copy(update={"checksum": digest})


def _first_error(error: ValidationError) -> str:
    """The first field that is wrong, why, and the beginning of its value."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    reason = first["msg"].removeprefix("Value error, ")
    told = f"{reason}, but got {reprlib.repr(first['input'])}"
    # A manifest that is no JSON object is wrong as a whole.
    return f"{place}: {told}" if place else told


def _check_nothing_else(folder: Path, manifest: Manifest) -> None:
    known = {*manifest.files, MANIFEST, CHECKSUM}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        # Hidden files are what file managers leave behind; nothing reads them.
        if path.is_file() and name not in known and not path.name.startswith("."):
            raise ModelRefused(f"{path} is not in the manifest")


def _check_file(folder: Path, name: str, expected: File) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelRefused(f"{folder / MANIFEST} names {name!r}, which is outside of the folder")
    size = path.stat().st_size
    if size != expected.bytes:
        raise ModelRefused(f"{path} has {size} bytes, not the {expected.bytes} of the manifest")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != expected.sha256:
            raise ModelRefused(f"{path} does not have the SHA-256 of the manifest")
