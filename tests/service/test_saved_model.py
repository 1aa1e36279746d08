"""Law: the restored SavedModel = a float64 NumPy reference. And what its graph must not hold."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from model.export.saved_model import export_model
from tests.support.exported_models import export, make_model, no_card, raw_sequence
from tests.support.reference_model import Reference, State, assert_close

LENGTHS = (1, 7, 200)
FAKE_MANIFEST = Path("tests/app/tiny.json")


def call(folder: Path, signature: str, sequences: list[np.ndarray], state: State | None = None):
    """Runs a restored signature on padded sequences; the padding is meant to hurt."""
    loaded = tf.saved_model.load(str(folder))
    steps = max(map(len, sequences))
    padded = np.full((len(sequences), steps, sequences[0].shape[1]), 1e30, np.float32)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    states = {} if state is None else {k: tf.constant(v, tf.float32) for k, v in state.items()}
    return loaded.signatures[signature](
        sequences=tf.constant(padded),
        lengths=tf.constant([len(s) for s in sequences], tf.int32),
        **states,
    )


def check(reference: Reference, sequences: list[np.ndarray], initial: list[State], named) -> None:
    for row, sequence in enumerate(sequences):
        outputs, final = reference(sequence, initial[row])
        length = len(sequence)
        assert_close(named["outputs"][row, :length], outputs, f"outputs of length {length}")
        assert not np.any(named["outputs"][row, length:]), "outputs beyond the length are zero"
        for layer, entry in zip(reference.manifest["layers"], final, strict=True):
            for part in layer["states"]:
                assert_close(named[part["tensor"]][row], entry[part["name"]], part["tensor"])


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "mixed"])
def test_restored_saved_model_equals_numpy_reference(models_dir: Path, name: str) -> None:
    folder = models_dir / name / "1"
    reference = Reference(folder)
    random = np.random.default_rng(1)
    sequences = [raw_sequence(random, length) for length in LENGTHS]
    zeros = [reference.zero_state() for _ in sequences]
    check(reference, sequences, zeros, call(folder, "serving_default", sequences))

    initial = [
        [{part: random.normal(size=h.shape).astype(np.float32) for part, h in entry.items()}
         for entry in reference.zero_state()]
        for _ in sequences
    ]  # fmt: skip
    stacked = {
        part["tensor"]: np.stack([state[index][part["name"]] for state in initial])
        for index, layer in enumerate(reference.manifest["layers"])
        for part in layer["states"]
    }
    check(reference, sequences, initial, call(folder, "chunk", sequences, stacked))


def test_exported_graph_has_no_random_op(tmp_path: Path) -> None:
    """Even of a model that has dropout everywhere."""
    keep = {"input_keep_prob": 0.5, "output_keep_prob": 0.5, "state_keep_prob": 0.5}
    folder = export(tmp_path, ("lstm:4", "gru:3"), **keep)
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    operations = {node.op for node in nodes}
    assert {"MatMul", "Tanh"} <= operations, "the search looked at the wrong place"
    assert not {op for op in operations if "random" in op.lower() or "dropout" in op.lower()}


def test_checkpoint_holds_the_weights_and_nothing_else(tmp_path: Path) -> None:
    """The optimizer would be several times as large, and every service would load it."""
    model = make_model(("lstm:4", "gru:3"))
    model.compile(optimizer=keras.optimizers.AdamW(use_ema=True))
    model.optimizer.build(model.trainable_variables)
    folder = export_model(model, tmp_path, "compiled", {}, no_card)
    names = {name for name, _ in tf.train.list_variables(str(folder / "variables" / "variables"))}
    parts = [f"layer_{i}/{part}" for i in (0, 1) for part in ("kernel", "recurrent_kernel", "bias")]
    weights = {
        f"weights/{part}/.ATTRIBUTES/VARIABLE_VALUE"
        for part in [*parts, "head/kernel", "head/bias"]
    }
    assert names == {*weights, "_CHECKPOINTABLE_OBJECT_GRAPH"}


def test_the_manifest_of_fake_kernels_is_that_of_an_export(tmp_path: Path) -> None:
    """Tests of the service read it, so that they need no TensorFlow."""
    written = json.loads((export(tmp_path, ("rnn:1",), "tiny") / "manifest.json").read_text())
    for changing in ("created", "libraries", "files"):
        assert written.pop(changing)
    # Fake kernels run no `chunk.onnx`, so theirs has the format before.
    assert written.pop("probe")
    assert json.loads(FAKE_MANIFEST.read_text()) == {**written, "format": "unroll/1"}


def test_signatures_are_those_of_the_contract(models_dir: Path) -> None:
    loaded = tf.saved_model.load(str(models_dir / "mixed" / "1"))
    sizes = {"0_h": 17, "0_c": 17, "1_h": 12, "2_h": 9, "3_h": 5, "3_c": 5}
    states = {f"state_{name}": size for name, size in sizes.items()}
    _, whole = loaded.signatures["serving_default"].structured_input_signature
    assert {k: tuple(v.shape) for k, v in whole.items()} == {
        "sequences": (None, None, 4),
        "lengths": (None,),
    }
    _, chunk = loaded.signatures["chunk"].structured_input_signature
    assert {k: tuple(v.shape) for k, v in chunk.items() if k in states} == {
        name: (None, size) for name, size in states.items()
    }
    for signature in loaded.signatures.values():
        found = {k: tuple(v.shape) for k, v in signature.structured_outputs.items()}
        assert found == {"outputs": (None, None, 2)} | {n: (None, s) for n, s in states.items()}


def test_serving_default_follows_the_batching_rule_of_tensorflow_serving(models_dir: Path) -> None:
    """TensorFlow Serving joins the rows of requests into a batch and cuts its outputs apart again.

    So the first dimension of every input and output is the batch, of any size, and what is in a
    row has nothing to do with the other rows.
    """
    folder = models_dir / "mixed" / "1"
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    for tensors in (signature.inputs, signature.outputs):
        assert tensors
        for name, tensor in tensors.items():
            assert not tensor.tensor_shape.unknown_rank, name
            assert tensor.tensor_shape.dim[0].size == -1, name

    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    random = np.random.default_rng(2)
    steps = 20
    sequences = np.stack([raw_sequence(random, steps) for _ in range(5)])
    lengths = np.array([20, 1, 7, 20, 13], np.int32)

    def run(rows: slice) -> dict[str, np.ndarray]:
        made = serve(sequences=tf.constant(sequences[rows]), lengths=tf.constant(lengths[rows]))
        return {name: tensor.numpy() for name, tensor in made.items()}

    whole = run(slice(None))
    assert whole.keys() == set(signature.outputs)
    for rows in (slice(0, 1), slice(1, 2), slice(1, 4)):
        for name, part in run(rows).items():
            assert_close(part, whole[name][rows], f"{name} of {rows}")
