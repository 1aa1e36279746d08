"""`Codec`: how one version of a model reads sequences and states, and names its tensors."""

from dataclasses import dataclass
from typing import Self

from app.codec.json_bounds import JSONBounds
from app.codec.sequences import Limits, SequenceCodec
from app.codec.signature import Signature
from app.codec.state_token import StateTokens
from app.codec.states import LayerLayout, StateCodec
from app.errors import Fault, UnknownModel, quoted
from app.manifest import Manifest


@dataclass(frozen=True)
class Codec:
    """The codecs of a model for sequences and for states, its signature, and its name.

    It can be pickled: `service/large_bodies.py` sends it to another process.
    """

    sequences: SequenceCodec
    states: StateCodec
    signature: Signature
    bounds: JSONBounds
    name: str
    version: int

    @classmethod
    def of(cls, manifest: Manifest, limits: Limits) -> Self:
        """The codecs of the model that a manifest describes."""
        layers = tuple(
            LayerLayout(layer.cell, layer.units, tuple(part.name for part in layer.states))
            for layer in manifest.layers
        )
        layout = [(layer.cell, layer.units, layer.parts) for layer in layers]
        names = tuple(feature.name for feature in manifest.features)
        return cls(
            SequenceCodec(
                names,
                tuple(feature.missing for feature in manifest.features),
                limits,
            ),
            StateCodec(layers, StateTokens(manifest.name, manifest.version, layout)),
            Signature.of(manifest),
            JSONBounds.of(names, len(layers), limits.max_sequences),
            manifest.name,
            manifest.version,
        )

    def check_version(self, version: int | None) -> None:
        """Whether a caller who names a version means this one; raises `UnknownModel`."""
        if version is not None and version != self.version:
            raise UnknownModel(
                Fault(
                    "/model/version", f"version {version} is not served; version {self.version} is"
                )
            )


def check_name(name: str | None, served: str) -> None:
    """Whether a caller who names a model means the one that is served; raises `UnknownModel`."""
    if name is not None and name != served:
        text = f"there is no model {quoted(name)}; this service has {served!r}"
        raise UnknownModel(Fault("/model", text))
