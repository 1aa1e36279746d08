"""`manifest.json`: what an exported model is, for whoever loads it without this package.

The folder is the whole contract between training and serving (docs/architecture.md). `app` reads
the manifest with a schema of its own.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model.network.sequence_model import SequenceModel
from model.network_config import LayerConfig

FORMAT = "unroll/2"
MANIFEST = "manifest.json"
CHECKSUM = "manifest.sha256"
CHUNK = "chunk.onnx"
# Entries of many numbers, each written as one line.
COMPACT = ("example", "probe")


def layer_file(layer: int) -> str:
    """Name of a layer's part of `chunk.onnx`: `layer-0.onnx`."""
    return f"layer-{layer}.onnx"


def state_tensor(layer: int, part: str) -> str:
    """Name of a state in the signatures: `state_0_h`."""
    return f"state_{layer}_{part}"


def describe_layer(index: int, layer: LayerConfig, device: str) -> dict[str, Any]:
    """One layer as the manifest tells it.

    Args:
        index: of the layer.
        layer: its configuration.
        device: where its variables are, as TensorFlow names it.
    """
    return {
        "cell": layer.cell,
        "units": layer.units,
        "activation": layer.activation,
        "device": device.rpartition("device:")[2],
        "states": [
            {"name": part, "tensor": state_tensor(index, part)} for part in layer.spec.states
        ],
    }


def describe_model(model: SequenceModel) -> dict[str, Any]:
    """The part of the manifest that follows from the model alone."""
    return {
        "format": FORMAT,
        "dtype": "float32",
        "features": [feature.model_dump() for feature in model.features],
        "outputs": [output.model_dump() for output in model.outputs_spec],
        "layers": [
            describe_layer(i, cell.config, cell.kernel.value.device)
            for i, cell in enumerate(model.rnn.cells)
        ],
        "libraries": {name: version(name) for name in ("tensorflow", "keras", "numpy")},
    }


def file_digests(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of every file below `folder`, by its path relative to it."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[path.relative_to(folder).as_posix()] = {
            "sha256": digest,
            "bytes": path.stat().st_size,
        }
    return found


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest, and beside it its own checksum in the format of `sha256sum`."""
    entries = [f"  {json.dumps(name)}: {_text_of(name, value)}" for name, value in manifest.items()]
    text = "{\n" + ",\n".join(entries) + "\n}\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / CHECKSUM).write_text(f"{digest}  {MANIFEST}\n", encoding="utf-8")


def _text_of(name: str, value: Any) -> str:
    indent = None if name in COMPACT else 2
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    # In JSON a line ends between values only.
    return text.replace("\n", "\n  ")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an exported folder, each of whose files is what it says.

    Raises:
        OSError: a file cannot be read.
        ValueError: it, or a file of the folder, does not have its checksum.
    """
    text = (folder / MANIFEST).read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    if (folder / CHECKSUM).read_text() != f"{digest}  {MANIFEST}\n":
        raise ValueError(f"{folder / MANIFEST} does not have the checksum in {CHECKSUM}")
    manifest: dict[str, Any] = json.loads(text)
    found = file_digests(folder)
    for name, expected in manifest["files"].items():
        if found.get(name) != expected:
            raise ValueError(f"{folder / name} is not the file of the manifest")
    return manifest
