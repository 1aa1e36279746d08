"""What goes into a model and what comes out, as `GET /models` and metadata tell it."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from app.api.schemas import FeatureInfo, LayerInfo, OutputInfo
from app.columns import Category
from app.manifest import Manifest


def describe_features(manifest: Manifest) -> list[FeatureInfo]:
    """What goes into a model."""
    return [
        FeatureInfo(
            name=item.name,
            unit=item.unit,
            description=item.description,
            missing=item.missing,
            kind=item.kind,
            ahead=item.ahead or None,
            static=item.static or None,
            values=list(item.transform.values) if isinstance(item.transform, Category) else None,
            base=item.base or None,
        )
        for item in manifest.features
    ]


def describe_outputs(manifest: Manifest) -> list[OutputInfo]:
    """What comes out of a model."""
    return [
        OutputInfo(
            name=item.name,
            unit=item.unit,
            horizon=item.horizon,
            base=item.base(manifest.features) or None,
        )
        for item in manifest.outputs
    ]


def describe_columns(manifest: Manifest, devices: Sequence[str]) -> dict[str, Any]:
    """Features, outputs and layers of a model as `ModelInfo` tells them.

    Args:
        manifest: of the model.
        devices: of its layers; none if it is not loaded.
    """

    return {
        "description": manifest.description,
        "features": describe_features(manifest),
        "outputs": describe_outputs(manifest),
        "layers": [
            LayerInfo(cell=item.cell, units=item.units, device=device)
            for item, device in zip_longest(manifest.layers, devices)
        ],
    }
