"""`manifest.json` as the service reads it, and the check that a model folder is what it says.

Called by `registry.py` before anything of the folder is loaded.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import ModelRefused

FORMAT = "unroll/1"
MANIFEST = "manifest.json"
CHECKSUM = "manifest.sha256"


class Part(BaseModel):
    """A part of the manifest. Fields that this version does not know are passed over."""

    model_config = ConfigDict(frozen=True)


class Feature(Part):
    """One raw input column."""

    name: str
    unit: str
    description: str = ""
    missing: bool = False
    transform: dict[str, Any]


class Output(Part):
    """One output of every time step."""

    name: str
    unit: str
    horizon: int = 0
    transform: dict[str, Any]


class StatePart(Part):
    """One tensor of a layer's state: its name in answers and in the signatures."""

    name: str
    tensor: str


class Layer(Part):
    """One recurrent layer."""

    cell: Literal["rnn", "lstm", "gru"]
    units: Annotated[int, Field(ge=1)]
    activation: str = "tanh"
    device: str = "CPU:0"
    states: Annotated[tuple[StatePart, ...], Field(min_length=1)]


class File(Part):
    """What a file must be."""

    sha256: str
    bytes: int


class Manifest(Part):
    """What a model is, and what each file of its folder must be.

    Attributes:
        checksum: SHA-256 of the manifest's own bytes; `verified_manifest` sets it.
    """

    checksum: str = ""
    format: Literal["unroll/1"]
    name: str
    version: int
    created: str
    description: str = ""
    dtype: Literal["float32"]
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    example: list[list[float | None]] = []
    metrics: dict[str, Any] = {}
    files: dict[str, File]

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
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelRefused(f"{folder / MANIFEST}: {place}: {first['msg']}") from error
    if (manifest.name, str(manifest.version)) != (folder.parent.name, folder.name):
        raise ModelRefused(
            f"{folder} holds the manifest of {manifest.name} version {manifest.version}"
        )
    return manifest.model_copy(update={"checksum": digest})


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
