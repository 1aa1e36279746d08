"""`python -m benchmarks.models.make 100`: makes a benchmark model with fixed random weights.

One set of weights in every form that a server needs, and the model's own answers to a sample of
each workload. The forms must agree before any is used.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tensorflow as tf

from benchmarks.model_files import NUM_FEATURES, NUM_LAYERS, STATES, BenchModel, bench_model
from benchmarks.models import expected_answers, keras_form, onnx_form
from benchmarks.models.network import SEED, plain_network
from model.export.saved_model import export_model
from model.network.sequence_model import SequenceModel
from model.network_config import LayerConfig, RNNConfig

TOLERANCE = 1e-4


def ensure(units: int) -> BenchModel:
    """The model, made if it is not there yet. Whole or not at all.

    Raises:
        AssertionError: two of its forms disagree.
    """
    model = bench_model(units)
    if model.home.is_dir():
        return model
    hidden = BenchModel(units, model.home.with_name(f".{model.home.name}"))
    shutil.rmtree(hidden.home, ignore_errors=True)
    hidden.home.mkdir(parents=True)
    network = _network(units)
    export_model(network, hidden.models_dir, hidden.name, {"example": _example()}, _card)
    weights = _weights(network)
    np.savez(hidden.weights, allow_pickle=False, **weights)
    keras_form.save(hidden.keras, units, weights)
    hidden.onnx.write_bytes(onnx_form.build_graph(units, weights).SerializeToString())
    _check_forms(hidden)
    np.savez(hidden.answers, allow_pickle=False, **expected_answers.compute(hidden))
    hidden.home.rename(model.home)
    return model


def _network(units: int) -> SequenceModel:
    """Random weights of the scale that training starts from; biases and head are not zero."""
    layers = (LayerConfig(cell="lstm", units=units),) * NUM_LAYERS
    network = plain_network(RNNConfig(layers=layers, num_inputs=NUM_FEATURES, num_outputs=1))
    random = np.random.default_rng(SEED)
    for weight in network.trainable_weights:
        if "bias" in weight.path:
            weight.assign(weight.numpy() + random.normal(size=weight.shape, scale=0.1))
        elif weight.path.endswith("head/kernel"):
            weight.assign(random.normal(size=weight.shape, scale=0.3))
    return network


def _example() -> list[list[float]]:
    rows: list[list[float]] = np.random.default_rng(SEED).normal(size=(3, NUM_FEATURES)).tolist()
    return rows


def _card(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "README.md").write_text(f"# {manifest['name']}\nRandom weights, for benchmarks.\n")


def _weights(network: SequenceModel) -> dict[str, np.ndarray]:
    found = {
        f"layer_{index}/{name}": getattr(cell, name).numpy()
        for index, cell in enumerate(network.rnn.cells)
        for name in ("kernel", "recurrent_kernel", "bias")
    }
    head = network.rnn.head
    return {**found, "head/kernel": head.kernel.numpy(), "head/bias": head.bias.numpy()}


def _check_forms(model: BenchModel) -> None:
    """Every form on the same random rows, lengths and states."""
    random = np.random.default_rng(SEED)
    rows, steps = 4, 20
    sequences = random.normal(size=(rows, steps, NUM_FEATURES)).astype(np.float32)
    lengths = np.array([steps, 1, 7, 13], np.int32)
    states = {
        name: random.uniform(-0.5, 0.5, (rows, model.units)).astype(np.float32) for name in STATES
    }
    session = onnxruntime.InferenceSession(str(model.onnx))
    given = {"sequences": sequences, "lengths": lengths}
    names = ["outputs", *(f"next_{name}" for name in states)]
    found = {"onnx": dict(zip(names, session.run(names, {**given, **states}), strict=True))}

    unroll = tf.saved_model.load(str(model.folder)).signatures["chunk"]
    tensors = {f"state_{name[2:]}_{name[0]}": value for name, value in states.items()}
    ours = unroll(**_constants({**given, **tensors}))
    ours_named = {
        f"next_{name}": ours[f"state_{name[2:]}_{name[0]}"].numpy() for name in states
    } | {"outputs": ours["outputs"].numpy()}

    by_keras = tf.saved_model.load(str(model.keras)).signatures
    masked = by_keras["masked"](**_constants({**given, **states}))
    found["masked"] = {name: value.numpy() for name, value in masked.items()}
    # The first row is whole: it needs no mask.
    whole = {name: value[:1] for name, value in {"sequences": sequences, **states}.items()}
    plain = by_keras["plain"](**_constants(whole))
    found["plain"] = {name: value.numpy() for name, value in plain.items()}
    valid = np.arange(steps) < lengths[:, np.newaxis]
    for form, results in found.items():
        for name, value in results.items():
            mine, theirs = ours_named[name][: len(value)], value
            if name == "outputs":
                mine, theirs = mine[valid[: len(value)]], theirs[valid[: len(value)]]
            assert np.allclose(mine, theirs, TOLERANCE, TOLERANCE), f"{form}: {name} disagrees"


def _constants(arrays: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in arrays.items()}


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models.make", description=__doc__)
    parser.add_argument("units", type=int, nargs="+", help="units of each layer")
    for units in parser.parse_args().units:
        print(ensure(units).home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
