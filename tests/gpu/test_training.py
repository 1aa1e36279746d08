"""cuDNN's own numbers: against the loops on the GPU and the CPU, and against float64."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from model.layers.cells import CELLS, Weights
from model.layers.cudnn import CudnnRecurrence, mode, pack
from model.layers.recurrence import Recurrence
from model.network_config import LayerConfig
from tests.model import on_devices
from tests.model.children import pool
from tests.model.fake_cudnn import fake_cudnn
from tests.support.exported_models import export, raw_sequence
from tests.support.reference_model import Reference, assert_close

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
KINDS = ("lstm", "gru", "rnn", "rnn:relu")
# Fifty updates carry rounding on: each divides by the root of a mean of squares.
AFTER_FIFTY = 1e-4


def layer_of(kind: str, units: int) -> LayerConfig:
    name, _, activation = kind.partition(":")
    return LayerConfig.parse(":".join(filter(None, (name, str(units), activation))))


def weights_of(layer: LayerConfig, num_inputs: int) -> Weights:
    """Of the size that training gives, so that gates are neither open nor shut."""
    random = np.random.default_rng(layer.units)
    width, scale = layer.spec.num_columns(layer.units), 1 / np.sqrt(layer.units)
    shapes = ((num_inputs, width), (layer.units, width), layer.spec.bias_shape(layer.units))
    return Weights(*(tf.constant(random.uniform(-scale, scale, s), tf.float32) for s in shapes))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_inputs", "units"), [(1, 1), (3, 5), (16, 100), (17, 33), (512, 256)])
def test_the_packed_weights_lie_where_cudnn_has_them(
    kind: str, num_inputs: int, units: int
) -> None:
    """As TensorFlow asks it, region by region: in a process of its own, which a failed check of
    TensorFlow's ends."""
    with pool(1) as processes:
        found, expected = processes.submit(packed_both_ways, kind, num_inputs, units).result()
    np.testing.assert_array_equal(found, expected)


def packed_both_ways(kind: str, num_inputs: int, units: int) -> tuple[np.ndarray, np.ndarray]:
    """A layer's weights by `pack`, and by TensorFlow's own operation."""
    layer = layer_of(kind, units)
    weights = weights_of(layer, num_inputs)
    gates = {"rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}[layer.cell]

    def matrices(part: tf.Tensor) -> list[tf.Tensor]:
        return [tf.transpose(tf.split(part, len(gates), axis=1)[gate]) for gate in gates]

    both = weights.bias if layer.cell == "gru" else [weights.bias, tf.zeros_like(weights.bias)]
    biases = [tf.split(part, len(gates))[gate] for part in tf.unstack(both) for gate in gates]
    with tf.device("/device:GPU:0"):
        expected = tf.raw_ops.CudnnRNNCanonicalToParamsV2(
            num_layers=1,
            num_units=units,
            input_size=num_inputs,
            weights=matrices(weights.kernel) + matrices(weights.recurrent_kernel),
            biases=biases,
            rnn_mode=mode(layer),
        )
        found = pack(layer, weights)
    return found.numpy(), expected.numpy()


BATCH, STEPS, INPUTS = 16, 24, 9
ALL_EQUAL = [STEPS] * BATCH
RAGGED = [STEPS, 1, 0, -3, 7, STEPS + 5, 2, 3, STEPS, 11, 0, 24, 23, 1, 5, 100]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("units", [5, 100])
def test_a_chunk_and_its_gradient_are_those_of_the_loops_and_of_float64(
    kind: str, units: int
) -> None:
    """In one function, for rows of one length and of many in turn: what TensorFlow keeps of a shape
    from the first call must not decide the second."""
    layer = layer_of(kind, units)
    cell = CELLS[layer.cell](layer)
    cell.build((None, INPUTS))
    weights = weights_of(layer, INPUTS)
    random = np.random.default_rng(0)

    def numbers(*shape: int) -> tf.Tensor:
        return tf.constant(random.normal(size=shape), tf.float32)

    inputs, state = numbers(STEPS, BATCH, INPUTS), [numbers(BATCH, units) for _ in cell.spec.states]
    d_outputs, d_state = numbers(STEPS, BATCH, units), [numbers(BATCH, units) for _ in state]

    def everything(over_time: Any, lengths: tf.Tensor) -> list[tf.Tensor]:
        prepared = over_time.prepare(weights)
        valid = tf.transpose(tf.sequence_mask(lengths, STEPS))[..., tf.newaxis]
        outputs, final, kept = over_time.forward(inputs, prepared, tuple(state), lengths, keep=True)
        back = over_time.backward(
            kept, prepared, lengths, None, tf.where(valid, d_outputs, 0.0), tuple(d_state)
        )
        d_inputs, d_before, gradient = back
        # Of a mean over the chunk, so that the size of what is compared does not grow with it.
        parts = [part / (STEPS * BATCH) for part in over_time.restore(gradient)]
        return [tf.where(valid, outputs, 0.0), *final, d_inputs, *d_before, *parts]

    by_cudnn = tf.function(lambda lengths: everything(CudnnRecurrence(cell), lengths))
    by_loops = tf.function(lambda lengths: everything(Recurrence(cell, False), lengths))
    for lengths in (ALL_EQUAL, RAGGED, ALL_EQUAL, RAGGED):
        given = tf.constant(lengths)
        with tf.device("/device:GPU:0"):
            found = by_cudnn(given)
            loops = by_loops(given)
        with fake_cudnn(), tf.device("/device:CPU:0"):
            exact = everything(CudnnRecurrence(cell), given)
        for ours, theirs, reference in zip(found, loops, exact, strict=True):
            assert_close(ours, theirs, "loops")
            assert_close(ours, reference, "float64")


KEEP = {"input_keep_prob": 0.9, "output_keep_prob": 0.7}
BATCHES = 50


@pytest.fixture(scope="module")
def trained() -> dict[str, on_devices.Trained]:
    """The same fifty batches on the CPU, on the GPU in both forms, and on two halves of it."""
    ways: dict[str, tuple[int, dict[str, Any]]] = {
        "cpu": (1, {}),
        "gpu": (1, {"devices": ("gpu:0",)}),
        "again": (1, {"devices": ("gpu:0",)}),
        "loops": (1, {"devices": ("gpu:0",), "form": "compiled"}),
        "halves": (2, {"devices": ("gpu:0", "gpu:1")}),
    }
    with pool(3) as processes:
        futures = {
            name: processes.submit(on_devices.train, count, BATCHES, **how, **KEEP)
            for name, (count, how) in ways.items()
        }
        return {name: future.result() for name, future in futures.items()}


@pytest.mark.parametrize("name", ["gpu", "loops", "halves"])
def test_fifty_batches_give_the_losses_of_the_cpu(
    trained: dict[str, on_devices.Trained], name: str
) -> None:
    """With dropout: the masks are the same numbers everywhere."""
    np.testing.assert_allclose(trained[name].losses, trained["cpu"].losses, rtol=AFTER_FIFTY)


def test_two_halves_of_a_card_give_the_losses_of_one(
    trained: dict[str, on_devices.Trained],
) -> None:
    np.testing.assert_allclose(trained["halves"].losses, trained["gpu"].losses, rtol=1e-5)


def test_the_same_seed_gives_the_same_weights_bit_by_bit(
    trained: dict[str, on_devices.Trained],
) -> None:
    for ours, theirs in zip(trained["again"].weights, trained["gpu"].weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("name", "expected"), [("gpu", "lstm"), ("loops", "none")])
def test_the_form_is_the_one_that_was_asked_for(
    trained: dict[str, on_devices.Trained], name: str, expected: str
) -> None:
    calls = {op for _, op, _ in trained[name].nodes if op.startswith("CudnnRNN")}
    assert calls == ({"CudnnRNNV3", "CudnnRNNBackpropV3"} if expected == "lstm" else set())


def test_on_two_halves_everything_of_a_layer_is_on_its_own(
    trained: dict[str, on_devices.Trained],
) -> None:
    """Weights, moments, averages, and every operation of the graph that ran."""
    found = trained["halves"]
    place = {
        int(re.search(r"layer_(\d)", p)[1]): d for p, d in found.variables.items() if "layer_" in p
    }  # type: ignore[index]
    assert set(place.values()) == {"GPU:0", "GPU:1"}
    assert list(place.values()) == sorted(place.values())
    for path, device in found.slots.items():
        if layer := re.search(r"layer_(\d)", path):
            assert device == place[int(layer[1])], path
    seen: dict[int, set[str]] = {}
    for name, op, device in found.nodes:
        scope = re.search(r"layer_(\d)(?:_chunk_\d+(?:_gradient)?|.*_update)/", name)
        hands_over = op in ("Const", "ReadVariableOp", "_Send", "_Recv", "_HostSend", "_HostRecv")
        if scope is None or hands_over or "/on_host/" in name:
            continue
        assert device == place[int(scope[1])], f"{name} ({op})"
        seen.setdefault(int(scope[1]), set()).add(op)
    for layer in place:
        assert {"CudnnRNNV3", "CudnnRNNBackpropV3"} <= seen[layer]


def on_the_cpu(code: str, *arguments: str) -> str:
    """Runs code in a process that sees no GPU."""
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", code, *arguments]
    found = subprocess.run(
        command, cwd=ROOT, env=hidden, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


SERVE = """
import sys, json, numpy as np
from pathlib import Path
from app.kernels.tensorflow import TensorFlowRunner
from app.manifest import verified_manifest
folder = Path(sys.argv[1])
runner = TensorFlowRunner(folder, verified_manifest(folder))
runner.set_limits(1, 20)
rows = np.load(sys.argv[2])
state = np.zeros((1, runner.state_size), np.float32)
outputs, _ = runner.run(rows, np.full(1, 20, np.int32), state)
np.save(sys.argv[3], outputs)
print(runner.devices)
"""


def test_a_model_of_the_gpu_is_served_by_a_cpu(tmp_path: Path) -> None:
    """Its SavedModel holds nothing of cuDNN."""
    folder = export(tmp_path / "models", ("lstm:17", "gru:12", "rnn:9:relu"))
    graph = SavedModel()
    graph.ParseFromString((folder / "saved_model.pb").read_bytes())
    assert b"CudnnRNN" not in graph.SerializeToString()
    rows = raw_sequence(np.random.default_rng(1), 20)
    np.save(tmp_path / "rows.npy", rows[np.newaxis])
    files = (str(tmp_path / "rows.npy"), str(tmp_path / "outputs.npy"))
    assert "CPU:0" in on_the_cpu(SERVE, str(folder), *files)
    expected, _ = Reference(folder)(rows)
    assert_close(np.load(tmp_path / "outputs.npy")[0], expected)


def command(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m model.train`, as people run it."""
    return subprocess.run(
        [sys.executable, "-m", "model.train", *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_command_trains_on_the_gpu_and_says_so(tmp_path: Path) -> None:
    small = ("--updates", "5", "--models-dir", str(tmp_path))
    found = command(*small, "--layers", "lstm:64", "gru:32")
    assert found.returncode == 0, found.stderr
    assert re.search(
        r"^GPU:0 \(.+\): takes at least [\d.]+ GiB of [\d.]+ GiB free$", found.stdout, re.M
    )
    manifest = (tmp_path / "weather" / "1" / "manifest.json").read_text()
    assert '"GPU:0"' in manifest
    assert found.stderr == "", "no library speaks to who trains"


def test_a_plan_that_does_not_fit_is_refused_with_the_name_of_the_card(tmp_path: Path) -> None:
    found = command("--models-dir", str(tmp_path), "--batch-size", "100000000")
    assert found.returncode == 1
    assert re.match(r"error: GPU:0 has [\d.]+ GiB of memory free, but training", found.stderr)
    assert found.stderr.count("\n") == 1


def test_a_card_that_others_have_filled_is_one_line(tmp_path: Path) -> None:
    """Its part of the card is so small that the plan, which is a lower bound, seems to fit."""
    options = ("--logical-devices", "64", "--devices", "gpu:0", "--batch-size", "2048")
    sizes = ("--layers", "lstm:512", "lstm:512", "--window-steps", "24")
    found = command("--models-dir", str(tmp_path), *options, *sizes)
    assert found.returncode == 1, found.stdout
    assert re.match(r"error: (GPU:0 .*has no memory left|GPU:0 has .* free)", found.stderr)
    assert found.stderr.count("\n") == 1


def test_without_the_card_it_trains_on_the_cpu(tmp_path: Path) -> None:
    small = ("--updates", "5", "--models-dir", str(tmp_path))
    found = command(*small, "--layers", "rnn:8", CUDA_VISIBLE_DEVICES="-1")
    assert (found.returncode, found.stderr) == (0, "")
    assert "CPU: takes at least" in found.stdout
