"""An exported version as training begins from it: its transforms, its layers and its weights."""

from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from model.export.manifest import read_manifest
from model.network.sequence_model import SequenceModel
from model.network_config import DEFAULT_ACTIVATION
from model.transforms import Embedding, Feature, OneHot, Output, Relative

_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"


@dataclass(frozen=True)
class ServedModel:
    """What a manifest tells of a version.

    Attributes:
        folder: `models/<name>/<version>`.
        name: of the model.
        layers: the stack, as `--layers` has it.
        features, outputs: with the transforms that the weights were trained behind.
    """

    folder: Path
    name: str
    layers: tuple[str, ...]
    features: tuple[Feature, ...]
    outputs: tuple[Output, ...]

    def check_columns(self, features: tuple[Feature, ...], outputs: tuple[Output, ...]) -> None:
        """Raises ValueError where a task has other features or outputs than the version."""
        for what, own, theirs in (
            ("feature", self.features, features),
            ("output", self.outputs, outputs),
        ):
            ours, others = [_told(each) for each in own], [_told(each) for each in theirs]
            if ours != others:
                raise ValueError(
                    f"{self.folder} has the {what}s {', '.join(ours)}, but the task has "
                    f"{', '.join(others)}: --from goes on with the same columns only"
                )

    def load_weights(self, model: SequenceModel) -> None:
        """Gives a model of the same stack the weights of this version."""
        stored = tf.train.load_checkpoint(str(self.folder / "variables" / "variables"))
        places = {f"layer_{index}": cell for index, cell in enumerate(model.rnn.cells)}
        names = ("kernel", "recurrent_kernel", "bias")
        for index, table in model.embeddings.items():
            table.assign(stored.get_tensor(f"weights/embedding_{index}/table/{_VALUE}"))
        for place, layer in {**places, "head": model.rnn.head}.items():
            for name in names if place in places else ("kernel", "bias"):
                value = stored.get_tensor(f"weights/{place}/{name}/{_VALUE}")
                getattr(layer, name).assign(value)


def read_served(folder: Path) -> ServedModel:
    """Reads an exported version, each of whose files is what its manifest says.

    Raises:
        OSError: a file cannot be read.
        ValueError: it is not whole.
    """
    manifest = read_manifest(folder)
    return ServedModel(
        folder,
        manifest["name"],
        tuple(map(_stack, manifest["layers"])),
        tuple(Feature.model_validate(entry) for entry in manifest["features"]),
        tuple(Output.model_validate(entry) for entry in manifest["outputs"]),
    )


def _stack(layer: dict[str, str]) -> str:
    """A layer of a manifest as `--layers` has it."""
    parts = [layer["cell"], str(layer["units"])]
    if layer["activation"] != DEFAULT_ACTIVATION:
        parts.append(layer["activation"])
    return ":".join(parts)


def _told(column: Feature | Output) -> str:
    """A column, with all that must be the same for the weights to mean the same."""
    transform = column.transform
    kind: str = transform.kind
    if isinstance(transform, Relative):
        kind += f" to {transform.base:g}"
    if isinstance(transform, OneHot | Embedding):
        kind += f" of {', '.join(transform.values)}"
    return f"{column.name} ({column.unit}, {kind})"
