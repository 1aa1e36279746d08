"""The kernel that rounds to bfloat16: its call shapes, what it keeps exact, its warnings."""

from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import numpy_helper

from app.kernels import bfloat16
from app.kernels.bfloat16 import Bfloat16Runner
from app.kernels.call_shapes import sizes
from app.manifest import CHUNK, verified_manifest
from tests.app.kernels.runners import MAX_STEPS, make_runner
from tests.support.exported_models import export, raw_sequence


def bfloat16_runner(models_dir: Path, model: str) -> Bfloat16Runner:
    folder = models_dir / model / "1"
    runner = make_runner(Bfloat16Runner, folder, verified_manifest(folder))
    assert isinstance(runner, Bfloat16Runner)
    return runner


def test_every_call_has_a_shape_that_was_prepared_at_warm_up(models_dir: Path) -> None:
    runner = bfloat16_runner(models_dir, "rnn")
    runner.warm_up(5, MAX_STEPS)
    prepared = runner.compilations
    assert prepared == len(sizes(5, 16)) * len(sizes(MAX_STEPS))
    for rows in range(1, 6):
        for steps in range(1, MAX_STEPS + 1):
            inputs = np.ones((rows, steps, 4), np.float32)
            state = np.zeros((rows, 24), np.float32)
            outputs, final = runner.run(inputs, np.full(rows, steps, np.int32), state)
            assert outputs.shape == (rows, steps, 2)
            assert final.shape == (rows, 24)
    assert runner.compilations == prepared


def test_raw_numbers_keep_the_precision_of_float32(models_dir: Path) -> None:
    """8 bits of a pressure of 1018 mb are steps of 4 mb: half of its standard deviation."""
    runner = bfloat16_runner(models_dir, "lstm")
    runner.set_limits(1, 1)
    state = np.zeros((1, runner.state_size), np.float32)
    pressures = (1017.0, 1018.0, 1019.0)
    found = [
        runner.run(
            np.array([[[55.0, pressure, 90.0, 6.0]]], np.float32), np.ones(1, np.int32), state
        )
        for pressure in pressures
    ]
    states = [final[0] for _, final in found]
    assert np.abs(states[0] - states[1]).max() > 1e-3
    assert np.abs(states[1] - states[2]).max() > 1e-3


def test_padding_above_a_growing_relu_holds_the_state(tmp_path: Path) -> None:
    """A layer of ReLUs runs on through padding, here to 1e20 times what it was."""
    folder = export(tmp_path, ("rnn:8:relu", "lstm:6"))
    manifest = verified_manifest(folder)
    graph = onnx.load(folder / CHUNK)
    # The first layer's recurrent kernel, [1, H, H].
    name = next(node for node in graph.graph.node if node.op_type == "RNN").input[2]
    weight = next(each for each in graph.graph.initializer if each.name == name)
    weight.CopyFrom(numpy_helper.from_array(20 * np.abs(numpy_helper.to_array(weight)), name))
    runner = Bfloat16Runner(graph.SerializeToString(), manifest)
    runner.set_limits(2, MAX_STEPS)
    sequence = raw_sequence(np.random.default_rng(5), MAX_STEPS)
    state = np.full((2, runner.state_size), 0.1, np.float32)
    beside = np.stack([sequence, sequence])
    _, together = runner.run(beside, np.array([2, MAX_STEPS], np.int32), state)
    _, alone = runner.run(beside[:1, :2], np.array([2], np.int32), state[:1])
    # As far as other batch sizes round alike.
    np.testing.assert_allclose(together[0], alone[0], rtol=1e-2, atol=1e-2)


def test_odd_units_are_warned_of(models_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    bfloat16_runner(models_dir, "lstm")
    assert "units are slower" not in caplog.text
    bfloat16_runner(models_dir, "mixed")
    assert "layers of 17, 9, 5 units are slower" in caplog.text


def test_a_result_is_not_overwritten_by_the_next(models_dir: Path) -> None:
    runner = bfloat16_runner(models_dir, "lstm")
    runner.set_limits(1, 4)
    random = np.random.default_rng(8)
    lengths, state = np.array([4], np.int32), np.zeros((1, runner.state_size), np.float32)
    first = runner.run(raw_sequence(random, 4)[np.newaxis], lengths, state)
    kept = [array.copy() for array in first]
    runner.run(raw_sequence(random, 4)[np.newaxis], lengths, state)
    for array, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_whose_processor_does_not_multiply_bfloat16_is_warned(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bfloat16_runner(models_dir, "rnn")
    has = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert ("does not multiply bfloat16" in caplog.text) is not has
    monkeypatch.setitem(bfloat16.PROPERTIES, "INFERENCE_PRECISION_HINT", "f32")
    bfloat16_runner(models_dir, "rnn")
    assert "this processor does not multiply bfloat16: it computes in f32" in caplog.text
