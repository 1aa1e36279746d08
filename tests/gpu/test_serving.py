"""The kernel for GPUs with cuDNN's own numbers: against TensorFlow, float64, and in a service.

What does not need the call itself is tested in `tests/app/engine/test_cudnn.py`.
"""

import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from app.kernels.cudnn import CudnnRunner
from app.kernels.loader import KernelLoader
from app.kernels.tensorflow import TensorFlowRunner
from app.kernels.tensorflow_devices import short
from app.manifest import Manifest, verified_manifest
from tests.model import on_devices
from tests.model.children import pool
from tests.support.exported_models import MIXED, export, raw_sequence, to_json
from tests.support.real_server import serve
from tests.support.reference_model import Reference, State, assert_close

pytestmark = pytest.mark.gpu

STACKS = {
    "rnn": ("rnn:16", "rnn:8:relu"),
    "lstm": ("lstm:100", "lstm:100", "lstm:100"),
    "gru": ("gru:33", "gru:128"),
    "mixed": MIXED,
}
ROWS, STEPS = 8, 24
# All alike, ragged, and all alike again: calls of one shape. Then none of some rows, and few.
LENGTHS = (
    [STEPS] * ROWS,
    [1, 24, 7, 13, 2, 19, 24, 5],
    [STEPS] * ROWS,
    [0, 24, 0, 3, 1, 0, 24, 2],
    [3, 0, 1],
    [1],
)

Arguments = tuple[np.ndarray, np.ndarray, np.ndarray]
Results = tuple[np.ndarray, np.ndarray]


def chunk(manifest: Manifest, lengths: list[int]) -> Arguments:
    """Padding is NaN, which would show wherever it were read."""
    random = np.random.default_rng(len(lengths))
    inputs = np.full((len(lengths), max(lengths), 4), np.nan, np.float32)
    for row, length in enumerate(lengths):
        inputs[row, :length] = raw_sequence(random, length)
    state = random.normal(size=(len(lengths), sum(manifest.state_sizes))).astype(np.float32)
    return inputs, np.array(lengths, np.int32), state


def exported_on_cpu(models_dir: Path) -> dict[str, list[Results]]:
    """Exports the models and runs TensorFlow's signature, in a process that sees no GPU."""
    tf.config.set_visible_devices([], "GPU")
    found = {}
    for name, layers in STACKS.items():
        folder = export(models_dir, layers, name)
        manifest = verified_manifest(folder)
        runner = TensorFlowRunner(folder, manifest)
        runner.set_limits(ROWS, STEPS)
        found[name] = [runner.run(*chunk(manifest, lengths)) for lengths in LENGTHS]
    return found


class Exported(NamedTuple):
    """Models that were made on the CPU, and what they compute there."""

    models_dir: Path
    results: dict[str, list[Results]]

    def folder(self, model: str) -> Path:
        return self.models_dir / model / "1"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    models_dir = tmp_path_factory.mktemp("models")
    with pool(1) as processes:
        return Exported(models_dir, processes.submit(exported_on_cpu, models_dir).result())


class OnGpu(NamedTuple):
    folder: Path
    manifest: Manifest
    runner: CudnnRunner
    on_cpu: list[Results]


@pytest.fixture(scope="module", params=STACKS)
def on_gpu(request: pytest.FixtureRequest, exported: Exported) -> OnGpu:
    folder = exported.folder(request.param)
    manifest = verified_manifest(folder)
    runner = CudnnRunner(folder, manifest)
    runner.set_limits(ROWS, STEPS)
    return OnGpu(folder, manifest, runner, exported.results[request.param])


def assert_same(ours: Results, theirs: Results, message: str) -> None:
    for what, one, other in zip(("outputs", "state"), ours, theirs, strict=True):
        assert_close(one, other, f"{what}, {message}")


def test_it_agrees_with_tensorflow_on_the_cpu_whatever_the_lengths(on_gpu: OnGpu) -> None:
    """In turn, so that what a call leaves behind would show in the next."""
    assert set(on_gpu.runner.devices) == {"GPU:0"}
    for lengths, theirs in zip(LENGTHS, on_gpu.on_cpu, strict=True):
        ours = on_gpu.runner.run(*chunk(on_gpu.manifest, lengths))
        assert_same(ours, theirs, f"lengths {lengths}")


def test_it_agrees_with_tensorflow_on_the_gpu(on_gpu: OnGpu) -> None:
    other = TensorFlowRunner(on_gpu.folder, on_gpu.manifest)
    other.set_limits(ROWS, STEPS)
    assert other.devices == on_gpu.runner.devices
    for lengths in LENGTHS[:1] + LENGTHS[3:4]:
        arguments = chunk(on_gpu.manifest, lengths)
        assert_same(on_gpu.runner.run(*arguments), other.run(*arguments), f"lengths {lengths}")


def test_it_agrees_with_float64(on_gpu: OnGpu) -> None:
    reference = Reference(on_gpu.folder)
    lengths = LENGTHS[1]
    inputs, valid, state = chunk(on_gpu.manifest, lengths)
    outputs, final = on_gpu.runner.run(inputs, valid, state)
    for row, length in enumerate(lengths):
        named: State = []
        left = state[row]
        for layer in on_gpu.manifest.layers:
            named.append({})
            for part in layer.states:
                named[-1][part.name], left = left[: layer.units], left[layer.units :]
        expected, last = reference(inputs[row, :length], named)
        assert_close(outputs[row, :length], expected, f"row {row}")
        assert not outputs[row, length:].any()
        flat = np.concatenate([part for entry in last for part in entry.values()])
        assert_close(final[row], flat, f"state of row {row}")


def test_two_lanes_get_what_each_asked_for(on_gpu: OnGpu) -> None:
    arguments = [chunk(on_gpu.manifest, lengths) for lengths in LENGTHS] * 20
    with ThreadPoolExecutor(2) as lanes:
        found = list(lanes.map(lambda given: on_gpu.runner.run(*given), arguments))
    for ours, theirs in zip(found, on_gpu.on_cpu * 20, strict=True):
        assert_same(ours, theirs, "of two lanes")


def test_results_come_back_in_one_copy(on_gpu: OnGpu) -> None:
    """A result that lay on the GPU would be copied when Python reads it."""
    with tf.device("CPU:0"):
        shape = np.array([ROWS, STEPS], np.int32)
        given = [tf.constant(each) for each in (*chunk(on_gpu.manifest, LENGTHS[1]), shape)]
        assert short(on_gpu.runner._graph.call(*given).device) == "CPU:0"


def test_the_largest_chunk_of_the_defaults_is_measured(on_gpu: OnGpu) -> None:
    cost = CudnnRunner(on_gpu.folder, on_gpu.manifest).warm_up(512, 256)
    assert 0 < cost.call_s < 0.1
    assert cost.enough_rows(512) > 64, "more rows are nearly free"


@pytest.fixture
def _restored() -> Iterator[None]:
    yield
    tf.config.experimental.enable_tensor_float_32_execution(False)


@pytest.mark.usefixtures("_restored")
def test_the_error_of_tensor_float_32_is_told(
    exported: Exported, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = exported.folder("lstm")
    loader = KernelLoader("cudnn", 64, 32, tmp_path, tensor_float_32=True)
    assert loader(folder, verified_manifest(folder)).kernel == "cudnn"
    told = re.search(r"cudnn: outputs differ .* by up to (\S+) of", caplog.text)
    assert told is not None
    assert float(told[1]) < 0.05, "10 bits are two more than bfloat16 has"


def on_two_gpus(folder: Path, arguments: Arguments) -> tuple[list[str], list[str], Results]:
    """In a process of its own: where layers are, where cuDNN is called, what comes out."""
    (gpu, *_) = tf.config.list_physical_devices("GPU")
    half = tf.config.LogicalDeviceConfiguration(memory_limit=2048)
    tf.config.set_logical_device_configuration(gpu, [half, half])
    runner = CudnnRunner(folder, verified_manifest(folder))
    runner.set_limits(ROWS, STEPS)
    operations = runner._graph.call.graph.get_operations()
    calls = [short(op.device) for op in operations if op.type == "CudnnRNNV3"]
    return list(runner.devices), calls, runner.run(*arguments)


def test_layers_are_on_two_gpus(tmp_path: Path) -> None:
    with pool(1) as processes:
        folder = processes.submit(on_devices.exported, tmp_path, 2).result()
        manifest = verified_manifest(folder)
        arguments = chunk(manifest, LENGTHS[1])
        devices, calls, ours = processes.submit(on_two_gpus, folder, arguments).result()
    assert set(devices) == {"GPU:0", "GPU:1"}
    assert devices == sorted(devices)
    assert calls == devices
    alone = CudnnRunner(folder, manifest, here=["GPU:0"])
    alone.set_limits(ROWS, STEPS)
    assert_same(ours, alone.run(*arguments), "on two GPUs")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_chooses_cudnn_and_answers_as_on_the_cpu(
    exported: Exported, tmp_path: Path, workers: int
) -> None:
    reference = Reference(exported.folder("mixed"))
    random = np.random.default_rng(0)
    sequences = [raw_sequence(random, int(steps)) for steps in random.integers(1, 90, 24)]
    log = tmp_path / "log"
    options = {"runner": "auto", "workers": workers, "max_chunk_steps": 32}
    with (
        serve(exported.models_dir, "mixed", log, **options) as server,
        server.client() as client,
    ):
        (model,) = client.get("/models").json()["models"]
        assert {layer["device"] for layer in model["layers"]} == {"GPU:0"}

        def ask(sequence: np.ndarray) -> list[list[float]]:
            answer = client.post("/predict", json={"sequences": [to_json(sequence)]})
            outputs: list[list[float]] = answer.json()["outputs"][0]
            return outputs

        with ThreadPoolExecutor(8) as callers:
            answers = list(callers.map(ask, sequences))
        assert server.stop() == 0
    for sequence, answer in zip(sequences, answers, strict=True):
        assert_close(answer, reference(sequence)[0])
    text = log.read_text()
    assert text.count("cuDNN is") == 2, "a lone row and a full chunk, compared once for all workers"
    assert text.count("runs on cudnn") == workers
