"""Small exported models with random weights, and raw sequences for them."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from model.data.column_encoding import as_callers_send
from model.export.manifest import CHUNK, MANIFEST, file_digests, write_manifest
from model.export.saved_model import export_model
from model.network.sequence_model import SequenceModel
from model.network_config import LayerConfig, RNNConfig
from model.transforms import (
    Change,
    Cyclic,
    Embedding,
    Feature,
    Flag,
    OneHot,
    Output,
    Relative,
    Standardize,
    num_inputs,
)

# One of each transform: plain, with a flag, an angle with a flag, an hour of day.
FEATURES = (
    Feature(name="temp", unit="degF", transform=Standardize(mean=55.0, std=18.0)),
    Feature(name="pressure", unit="mb", missing=True, transform=Standardize(mean=1018.0, std=7.4)),
    Feature(name="wind_dir", unit="deg", missing=True, transform=Cyclic(period=360.0)),
    Feature(name="hour", unit="h", transform=Cyclic(period=24.0)),
)
OUTPUTS = (
    Output(
        name="temp_1h", unit="degF", horizon=1, transform=Change(feature="temp", mean=0.1, std=2.0)
    ),
    Output(name="humid", unit="%", transform=Standardize(mean=60.0, std=19.0)),
)
# One of each kind of column that is no plain number.
BASE = 4_512_345_000.0
KINDS = (
    Feature(name="meter", unit="kWh", transform=Relative(base=BASE, mean=300.0, std=120.0)),
    Feature(
        name="sky",
        unit="",
        missing=True,
        transform=OneHot(values=("drizzle", "rain", "sun"), shares=(0.2, 0.3, 0.5)),
    ),
    Feature(name="holiday", unit="", ahead=24, transform=Flag(mean=0.1)),
    Feature(name="size", unit="MW", static=True, transform=Standardize(mean=50.0, std=20.0)),
    Feature(name="fuel", unit="", transform=OneHot(values=("gas", "oil"), shares=(0.6, 0.4))),
    Feature(
        name="zone", unit="", missing=True, transform=Embedding(values=tuple("pqrstu"), size=3)
    ),
)
KINDS_OUTPUTS = (
    Output(
        name="meter_1h", unit="kWh", horizon=1, transform=Change(feature="meter", mean=5.0, std=3.0)
    ),
    Output(name="peak", unit="kWh", transform=Relative(base=-BASE, mean=10.0, std=4.0)),
    Output(name="load", unit="%", transform=Standardize(mean=60.0, std=19.0)),
)
MIXED = ("lstm:17", "gru:12", "rnn:9:relu", "lstm:5")


def make_model(
    layers: tuple[str, ...],
    seed: int = 0,
    features: tuple[Feature, ...] = FEATURES,
    outputs: tuple[Output, ...] = OUTPUTS,
    /,
    gain: float = 1.0,
    **dropout: float,
) -> SequenceModel:
    """A model whose every weight is random: biases too, so that a forgotten one shows.

    `gain` multiplies the kernels of the layers' inputs: with relu, much of it overflows.
    """
    keras.utils.set_random_seed(seed)
    config = RNNConfig(
        layers=tuple(LayerConfig.parse(text).model_copy(update=dropout) for text in layers),
        num_inputs=num_inputs(features),
        num_outputs=len(outputs),
    )
    model = SequenceModel(config, features, outputs, seed=seed)
    random = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        if "bias" in weight.path:
            weight.assign(weight.numpy() + random.normal(size=weight.shape, scale=0.3))
        elif weight.path.endswith("head/kernel"):
            # Training begins with a head near zero, which would hide what is below it.
            weight.assign(random.normal(size=weight.shape, scale=0.3))
        elif "/layer_" in weight.path and weight.path.endswith("/kernel"):
            weight.assign(weight.numpy() * gain)
    return model


def no_card(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes nothing beside the SavedModel but a line."""
    (folder / "README.md").write_text(f"# {manifest['name']}\n")


def export(
    models_dir: Path, layers: tuple[str, ...], name: str = "tiny", seed: int = 0, **options: float
) -> Path:
    """Exports `make_model` and returns its folder."""
    details = {"example": to_json(raw_sequence(np.random.default_rng(9), 4))}
    model = make_model(layers, seed, **options)
    return export_model(model, models_dir, name, details, no_card)


def export_kinds(models_dir: Path, layers: tuple[str, ...] = MIXED, name: str = "kinds") -> Path:
    """Exports a model of `KINDS` and returns its folder."""
    example = as_callers_send(KINDS, sequence_of_kinds(np.random.default_rng(9), 4))
    model = make_model(layers, 0, KINDS, KINDS_OUTPUTS)
    return export_model(model, models_dir, name, {"example": example}, no_card)


def sequence_of_kinds(random: np.random.Generator, steps: int) -> np.ndarray:
    """float32 `[steps, 6]` for a model of `KINDS` as the network takes it."""
    columns = [
        np.cumsum(random.integers(1, 9, steps)),
        np.where(random.random(steps) < 0.2, np.nan, random.integers(0, 4, steps)),
        random.integers(0, 2, steps),
        np.full(steps, random.integers(20, 80)),
        random.integers(0, 3, steps),
        np.where(random.random(steps) < 0.2, np.nan, random.integers(0, 7, steps)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def raw_sequence(random: np.random.Generator, steps: int) -> np.ndarray:
    """float32 `[steps, 4]` of plausible numbers, NaN where a feature that may be missing is."""
    columns = [
        random.normal(55.0, 18.0, steps),
        np.where(random.random(steps) < 0.2, np.nan, random.normal(1018.0, 7.0, steps)),
        np.where(random.random(steps) < 0.2, np.nan, random.uniform(0.0, 360.0, steps)),
        random.integers(0, 24, steps).astype(np.float64),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def to_json(sequence: np.ndarray) -> list[list[float | None]]:
    """A raw sequence as a caller sends it: null for NaN."""
    return [[None if np.isnan(x) else float(x) for x in row] for row in sequence]


def make_format_1(folder: Path) -> None:
    """Makes an exported folder what one was before there was `chunk.onnx`."""
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["probe"]
    for file in folder.glob("*.onnx"):
        del manifest["files"][file.name]
        file.unlink()
    write_manifest(folder, {**manifest, "format": "unroll/1"})


def replace_chunk(folder: Path, graph: bytes) -> None:
    """Puts another `chunk.onnx` into an exported folder, and makes its checksums right."""
    (folder / CHUNK).write_bytes(graph)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][CHUNK] = file_digests(folder)[CHUNK]
    write_manifest(folder, manifest)
