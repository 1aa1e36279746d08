"""Writes `chunk.onnx` and its parts beside a SavedModel, and checks that they compute what `chunk`
does.

The weights are read from the SavedModel's own checkpoint and the transforms from the manifest, so
what is exported and what is brought up to date take the same way. TensorFlow's signature, restored
from the folder, is what the graph is compared with; what it gave for a few rows is the manifest's
probe, by which a service without TensorFlow knows the graph again.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tensorflow as tf

from model.export.graph_builder import WEIGHTS, Network
from model.export.layer_graphs import add_layer_graphs, run_layers
from model.export.manifest import CHUNK
from model.export.onnx_graph import build_graph
from model.export.parity import TOLERANCE, Results, difference, disagreement
from model.network_config import LayerConfig
from model.transforms import Category, Cyclic, Embedding, Feature, Flag, Output

# `sequences`, `lengths`, `state`.
Chunk = tuple[np.ndarray, np.ndarray, np.ndarray]
KINDS = ("equal", "ragged", "some zero")

SEED = 20131225
# Rows and time steps of the chunks that are compared: of a lone row; of the probe, few, so that the
# manifest stays short; of many. TensorFlow compiles `chunk` for each, half a second and more, so
# many rows, which begin with zeros, are compared with the signature that it does not compile.
ALONE, PROBE, MANY = (1, 5), (7, 12), (11, 33)
# The probe has to show a single wrong weight. What it does to a row grows with the state that the
# row begins with, and fades with the time steps: so states are large, and most rows short.
PROBE_LENGTHS, PROBE_STATE = (12, 1, 0, 3, 1, 2, 1), 4.0
# Of the probe: so many times what this machine's two kernels differ by, for machines that sum up in
# other orders; at least some roundings of float32, and at most the rule of `parity.py`.
MARGIN, LEAST = 10, 4e-6


class ChunkDiffers(ValueError):
    """`chunk.onnx` does not compute what the SavedModel does."""


def add_chunk_graph(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Writes `chunk.onnx`, and its parts, into a folder that holds a SavedModel.

    Args:
        folder: of the SavedModel.
        manifest: its transforms and layers.

    Returns:
        The manifest's entry `probe`.

    Raises:
        ChunkDiffers: the graph does not compute what the SavedModel does.
        ValueError: ONNX has no such cell.
    """
    network = read_network(folder, manifest)
    graph = build_graph(network).SerializeToString()
    (folder / CHUNK).write_bytes(graph)
    ours, theirs = run_onnx(graph), SavedModel(folder, manifest)
    for what, chunk in chunks(network):
        found, expected = ours(chunk), theirs.run(chunk)
        # Beyond a row's length both are zero.
        if told := disagreement(found, expected, network.outputs):
            raise ChunkDiffers(
                f"{CHUNK} does not compute what the SavedModel does: {told} ({what})"
            )
    # The last chunk is the probe.
    tolerance = min(max(LEAST, MARGIN * difference(found, expected, network.outputs)), TOLERANCE)
    if len(network.layers) > 1:
        add_layer_graphs(folder, network)
        _check_layers(folder, network, ours)
    return {"tolerance": float(f"{tolerance:.2g}"), **describe_probe(chunk, expected)}


def _check_layers(folder: Path, network: Network, whole: Callable[[Chunk], Results]) -> None:
    """Checks that the parts compute what `chunk.onnx` does, of rows as long as the chunk.

    Raises:
        ChunkDiffers: they do not.
    """
    parts = run_layers(folder, network)
    for what, (inputs, lengths, state) in chunks(network):
        if lengths.min() == inputs.shape[1]:
            found, expected = parts(inputs, state), whole((inputs, lengths, state))
            if told := disagreement(found, expected, network.outputs):
                raise ChunkDiffers(
                    f"the parts of {CHUNK} do not compute what it does: {told} ({what})"
                )


def read_network(folder: Path, manifest: dict[str, Any]) -> Network:
    """The network of an exported folder: weights from the checkpoint, the rest as it is told."""
    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    layers = tuple(
        LayerConfig(**{name: layer[name] for name in ("cell", "units", "activation")})
        for layer in manifest["layers"]
    )
    features = tuple(Feature.model_validate(feature) for feature in manifest["features"])
    names = [f"layer_{index}/{name}" for index in range(len(layers)) for name in WEIGHTS]
    kinds = enumerate(feature.transform for feature in features)
    names += [f"embedding_{index}/table" for index, t in kinds if isinstance(t, Embedding)]
    return Network(
        features,
        tuple(Output.model_validate(output) for output in manifest["outputs"]),
        layers,
        {
            name: reader.get_tensor(f"weights/{name}/.ATTRIBUTES/VARIABLE_VALUE")
            for name in (*names, "head/kernel", "head/bias")
        },
    )


def chunks(network: Network) -> Iterator[tuple[str, Chunk]]:
    """What the two are compared on, and in words; the last is the probe.

    Rows are all as long as the chunk, of any lengths, or some have none at all; they begin with
    zeros or go on from states such as cells have. Padding would hurt if it were read.
    """
    random = np.random.default_rng(SEED)
    begins = ((0.0, (ALONE, PROBE, MANY)), (0.5, (ALONE, PROBE)))
    cases = [(largest, shape) for largest, shapes in begins for shape in shapes]
    for (largest, (rows, steps)), kind in itertools.product(cases, KINDS):
        lengths = np.full(rows, steps, np.int32)
        if kind != "equal":
            # One row is whole, where there is another.
            lengths[1:] = random.integers(1, steps + 1, rows - 1)
        if kind == "some zero":
            lengths[rows // 2 :: 3] = 0
        words = f"{rows} x {steps} time steps, {kind} lengths, states up to {largest}"
        yield words, _chunk(network, random, lengths, steps, largest)
    lengths = np.array(PROBE_LENGTHS, np.int32)
    yield "the probe", _chunk(network, random, lengths, PROBE[1], PROBE_STATE)


def _chunk(
    network: Network, random: np.random.Generator, lengths: np.ndarray, steps: int, largest: float
) -> Chunk:
    shape = len(lengths), steps
    inputs = np.stack([_column(feature, random, shape) for feature in network.features], axis=2)
    inputs[np.arange(steps) >= lengths[:, np.newaxis]] = 1e30
    state = random.uniform(-largest, largest, (len(lengths), sum(network.state_sizes)))
    # Two decimals are short to write.
    return inputs.astype(np.float32), lengths, state.round(2).astype(np.float32)


def _column(feature: Feature, random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Numbers of a feature, plausible by its transform; NaN where it may be missing."""
    transform = feature.transform
    if isinstance(transform, Cyclic):
        values = random.uniform(0.0, transform.period, shape)
    elif isinstance(transform, Flag):
        values = random.integers(0, 2, shape).astype(np.float64)
    elif isinstance(transform, Category):
        values = random.integers(0, 1 + len(transform.values), shape).astype(np.float64)
    else:
        values = random.normal(transform.mean, transform.std, shape)
    return np.where(random.random(shape) < 0.2, np.nan, values) if feature.missing else values


def run_onnx(graph: bytes) -> Callable[[Chunk], Results]:
    """The graph in ONNX Runtime, on one thread, as the service runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(chunk: Chunk) -> Results:
        given = dict(zip(("sequences", "lengths", "state"), chunk, strict=True))
        outputs, state = session.run(["outputs", "next_state"], given)
        return outputs, state

    return run


class SavedModel:
    """The signatures of a folder, on the devices that are here."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        options = tf.saved_model.LoadOptions(experimental_variable_policy="save_variable_devices")
        self._loaded = tf.saved_model.load(str(folder), options=options)
        layers = manifest["layers"]
        self._tensors = [part["tensor"] for layer in layers for part in layer["states"]]
        self._sizes = [layer["units"] for layer in layers for _ in layer["states"]]
        # A compiled function runs where it is called; its variables may be on another device.
        self._device = self._loaded.weights["layer_0"]["kernel"].device

    def run(self, chunk: Chunk) -> Results:
        """By the signature `chunk`; many rows by the one for whole sequences, which begin with
        zeros."""
        inputs, lengths, state = chunk
        given = {"sequences": tf.constant(inputs), "lengths": tf.constant(lengths)}
        name = "serving_default"
        if inputs.shape[:2] != MANY:
            name = "chunk"
            parts = np.split(state, np.cumsum(self._sizes)[:-1], axis=1)
            states = zip(self._tensors, parts, strict=True)
            given |= {tensor: tf.constant(part) for tensor, part in states}
        with tf.device(self._device):
            results = self._loaded.signatures[name](**given)
        final = np.concatenate([results[tensor].numpy() for tensor in self._tensors], axis=1)
        return results["outputs"].numpy(), final


def describe_probe(chunk: Chunk, results: Results) -> dict[str, Any]:
    """Inputs and results as the manifest has them: null for NaN, rows cut to their lengths."""
    inputs, lengths, state = chunk
    outputs, final = results
    return {
        "inputs": [_numbers(row[:n]) for row, n in zip(inputs, lengths, strict=True)],
        "initial_state": _numbers(state),
        "outputs": [_numbers(row[:n]) for row, n in zip(outputs, lengths, strict=True)],
        "final_state": _numbers(final),
    }


def _numbers(rows: np.ndarray) -> list[list[float | None]]:
    """float32 `[N, M]` in as few digits as give the same number again."""
    return [[None if np.isnan(x) else float(str(x)) for x in row] for row in rows]
