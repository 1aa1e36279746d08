"""`Codec`: how one version of a model reads sequences and states, and names its tensors."""

from dataclasses import dataclass
from typing import Self

from app.codec.sequences import Limits, SequenceCodec
from app.codec.signature import Signature
from app.codec.state_token import StateTokens
from app.codec.states import LayerLayout, StateCodec
from app.manifest import Manifest


@dataclass(frozen=True)
class Codec:
    """The codecs of a model for sequences and for states, and its signature."""

    sequences: SequenceCodec
    states: StateCodec
    signature: Signature

    @classmethod
    def of(cls, manifest: Manifest, limits: Limits) -> Self:
        """The codecs of the model that a manifest describes."""
        layers = tuple(
            LayerLayout(layer.cell, layer.units, tuple(part.name for part in layer.states))
            for layer in manifest.layers
        )
        layout = [(layer.cell, layer.units, layer.parts) for layer in layers]
        return cls(
            SequenceCodec(
                tuple(feature.name for feature in manifest.features),
                tuple(feature.missing for feature in manifest.features),
                limits,
            ),
            StateCodec(layers, StateTokens(manifest.name, manifest.version, layout)),
            Signature.of(manifest),
        )
