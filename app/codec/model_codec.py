"""`Codec`: how one version of a model reads sequences and states, and names its tensors."""

from dataclasses import dataclass
from typing import Self

from app.codec.json_bounds import JSONBounds
from app.codec.mixed_sequences import sequence_codecs, texts_of
from app.codec.output_bases import OutputBases
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

    Attributes:
        sequences: of callers, in the formats of the native API.
        tensors: sequences in protocols whose numbers are float32, which kernels take as they are.
        bases: what is added to outputs where callers are told them; None if to none of them.
    """

    sequences: SequenceCodec
    tensors: SequenceCodec
    bases: OutputBases | None
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
            *sequence_codecs(manifest.features, limits),
            OutputBases.of(manifest.outputs, manifest.features),
            StateCodec(layers, StateTokens(manifest.name, manifest.version, layout)),
            Signature.of(manifest),
            JSONBounds.of(names, len(layers), limits.max_sequences, texts_of(manifest.features)),
            manifest.name,
            manifest.version,
        )

    @property
    def is_plain(self) -> bool:
        """Whether all columns are numbers that float32 holds as callers send them."""
        return self.sequences is self.tensors and self.bases is None

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
