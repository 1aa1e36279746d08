"""cuDNN's kernel, all of it but the call, which is stood for: its laws, its devices, its errors.

Against the reference it is tested with the other kernels, in `test_runners.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from app.engine.batch import Batch, compute
from app.errors import DeviceFailed, ModelRefused
from app.kernels import cudnn, tensorflow_devices
from app.kernels.cudnn import CudnnRunner
from app.kernels.onnxruntime import OnnxRuntimeRunner
from app.manifest import CHUNK, verified_manifest
from tests.app.kernels.cudnn_without_gpu import cudnn_on_host, split
from tests.model import on_devices
from tests.model.children import pool
from tests.support.cudnn_in_numpy import FakeCudnn
from tests.support.exported_models import raw_sequence
from tests.support.reference_model import assert_close

MODELS = ("rnn", "lstm", "gru", "mixed")
MAX_ROWS, MAX_STEPS = 8, 16

Arguments = tuple[np.ndarray, np.ndarray, np.ndarray]


def runner_of(models_dir: Path, model: str) -> tuple[CudnnRunner, FakeCudnn]:
    folder = models_dir / model / "1"
    runner, fake = cudnn_on_host(folder, verified_manifest(folder))
    runner.set_limits(MAX_ROWS, MAX_STEPS)
    return runner, fake


def chunk(runner: CudnnRunner, lengths: list[int], seed: int = 0) -> Arguments:
    """Padding is NaN, which would show wherever it were read."""
    random = np.random.default_rng(seed)
    inputs = np.full((len(lengths), max(1, *lengths), 4), np.nan, np.float32)
    for row, length in enumerate(lengths):
        inputs[row, :length] = raw_sequence(random, length)
    state = random.normal(size=(len(lengths), runner.state_size)).astype(np.float32)
    return inputs, np.array(lengths, np.int32), state


@pytest.mark.parametrize("model", MODELS)
def test_it_computes_what_the_processors_kernel_does(models_dir: Path, model: str) -> None:
    folder = models_dir / model / "1"
    manifest = verified_manifest(folder)
    runner, _ = runner_of(models_dir, model)
    other = OnnxRuntimeRunner(folder / CHUNK, manifest)
    for lengths in ([16], [5, 16, 1, 12], [9, 9, 9]):
        arguments = chunk(runner, lengths)
        valid = np.arange(arguments[0].shape[1]) < arguments[1][:, np.newaxis]
        outputs, state = runner.run(*arguments)
        expected, expected_state = other.run(*arguments)
        assert_close(outputs[valid], expected[valid])
        assert not outputs[~valid].any()
        assert_close(state, expected_state)


@pytest.mark.parametrize("model", MODELS)
def test_together_is_alone(models_dir: Path, model: str) -> None:
    runner, _ = runner_of(models_dir, model)
    lengths = [7, 2, 16, 5, 1]
    inputs, valid, state = chunk(runner, lengths)
    together, final = runner.run(inputs, valid, state)
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        alone, alone_final = runner.run(inputs[one, :length], valid[one], state[one])
        assert_close(together[row, :length], alone[0])
        assert_close(final[row], alone_final[0])


@pytest.mark.parametrize("model", MODELS)
def test_in_pieces_is_whole(models_dir: Path, model: str) -> None:
    runner, _ = runner_of(models_dir, model)
    inputs, valid, state = chunk(runner, [16, 16])
    whole, final = runner.run(inputs, valid, state)
    made = []
    for first, last in ((0, 1), (1, 9), (9, 16)):
        length = np.full(2, last - first, np.int32)
        outputs, state = runner.run(inputs[:, first:last], length, state)
        made.append(outputs)
    assert_close(np.concatenate(made, axis=1), whole)
    assert_close(state, final)


@pytest.mark.parametrize("model", MODELS)
def test_a_row_of_no_time_steps_keeps_its_state(models_dir: Path, model: str) -> None:
    runner, _ = runner_of(models_dir, model)
    for lengths in ([0, 4, 0], [0]):
        inputs, valid, state = chunk(runner, lengths)
        outputs, final = runner.run(inputs, valid, state)
        for row, length in enumerate(lengths):
            assert (final[row] == state[row]).all() == (length == 0)
            assert not outputs[row, length:].any()


def test_there_are_few_call_shapes_and_none_is_full(models_dir: Path) -> None:
    """cuDNN's descriptors are kept for each, and one of a full call would be wrong for others."""
    runner, fake = runner_of(models_dir, "lstm")
    for rows in range(1, MAX_ROWS + 1):
        for steps in range(1, MAX_STEPS + 1):
            runner.run(*chunk(runner, [steps] * rows))
    shapes = {shape[:2] for _, shape in fake.calls}
    assert {rows for _, rows in shapes} == {1, 2, 4, 8}
    # The fake refuses a call whose rows all have all of its time steps.
    assert {steps for steps, _ in shapes} == {
        n + 1 for n in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16)
    }
    assert runner.compilations == 0


def test_results_belong_to_the_caller(models_dir: Path) -> None:
    runner, _ = runner_of(models_dir, "lstm")
    arguments = chunk(runner, [3, 5])
    given = [array.copy() for array in arguments]
    first = runner.run(*arguments)
    kept = [array.copy() for array in first]
    for array, copy in zip(arguments, given, strict=True):
        np.testing.assert_array_equal(array, copy)
        array[:] = 0
    runner.run(*chunk(runner, [3, 5], seed=1))
    for array, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert array.flags.writeable


@pytest.fixture(scope="module")
def on_four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four layers that were trained on four devices."""
    with pool(1) as processes:
        models_dir = tmp_path_factory.mktemp("four")
        folder: Path = processes.submit(on_devices.exported, models_dir, 4).result()
        return folder


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_each_layer_is_on_its_device(on_four: Path, count: int) -> None:
    alone, _ = cudnn_on_host(on_four, verified_manifest(on_four))
    alone.set_limits(MAX_ROWS, MAX_STEPS)
    arguments = chunk(alone, [16, 3, 0, 9])
    with pool(1) as processes:
        found = processes.submit(split, on_four, count, *arguments).result()
    assert sorted(set(found.devices)) == [f"CPU:{index}" for index in range(count)]
    assert list(found.devices) == sorted(found.devices)
    assert found.calls == found.variables == list(found.devices)
    for ours, theirs in zip(found.results, alone.run(*arguments), strict=True):
        assert_close(ours, theirs)


# What goes wrong.

H100 = "GPU:0 (NVIDIA H100)"
OOM = (
    "OOM when allocating tensor with shape[7] and type float on "
    "/job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc [Op:AssignVariableOp]"
)


def exhausted(text: str = OOM) -> tf.errors.OpError:
    return tf.errors.ResourceExhaustedError(None, None, text)


def raises(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.fixture
def _a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    cpu = tf.config.list_physical_devices("CPU")
    found = {"GPU": [gpu], "CPU": cpu}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: found[kind])
    details = {"device_name": "NVIDIA H100", "compute_capability": (9, 0)}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *_: None)


@pytest.mark.usefixtures("_a_card")
def test_a_card_that_is_full_is_named(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = models_dir / "lstm" / "1"
    monkeypatch.setattr(cudnn, "gpus", lambda: ["GPU:0"])
    monkeypatch.setattr(cudnn, "ChunkGraph", raises(exhausted()))
    with pytest.raises(DeviceFailed) as caught:
        CudnnRunner(folder, verified_manifest(folder))
    assert str(caught.value) == f"{H100} has no memory left: {OOM}"


@pytest.mark.usefixtures("_a_card")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            tf.errors.InternalError(None, None, "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
            f"{H100} has no memory left: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        ),
        (
            tf.errors.InternalError(None, None, "no kernel image is available"),
            f"{H100} failed: InternalError: no kernel image is available",
        ),
    ],
)
def test_a_card_that_cannot_be_used_is_named(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    folder = models_dir / "lstm" / "1"
    found = tf.config.list_logical_devices
    fail = raises(error)
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda kind=None: found(kind) if kind else fail()
    )
    with pytest.raises(DeviceFailed) as caught:
        CudnnRunner(folder, verified_manifest(folder))
    assert str(caught.value) == told


@pytest.mark.usefixtures("_a_card")
def test_of_a_failed_graph_one_line_is_told() -> None:
    text = (
        "Graph execution error:\n\nDetected at node CudnnRNNV3 defined at (most recent call last):"
        f'\n  File "app.py", line 1, in f\n\n{OOM}\n\t [[{{node CudnnRNNV3}}]]\nHint: a list'
    )
    assert (
        tensorflow_devices.failure(exhausted(text), ["GPU:0"])
        == f"{H100} has no memory left: {OOM}"
    )


def test_a_card_that_is_full_at_warm_up_is_told(models_dir: Path) -> None:
    runner, _ = runner_of(models_dir, "lstm")
    runner._graph.call = raises(exhausted("OOM"))
    with pytest.raises(DeviceFailed, match="CPU:0 has no memory left: OOM"):
        runner.warm_up(2, 4)


@pytest.mark.parametrize("driver", [False, True])
def test_without_a_gpu_it_says_what_tensorflow_sees(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, driver: bool
) -> None:
    """As where the GPU has vanished since the choice, or CUDA's libraries are missing."""
    folder = models_dir / "lstm" / "1"
    monkeypatch.setattr(cudnn, "gpus", list)
    monkeypatch.setattr(tensorflow_devices, "accelerator_present", lambda: driver)
    with pytest.raises(
        ModelRefused, match="cuDNN needs a GPU: TensorFlow sees no GPU, only CPU:0"
    ) as caught:
        CudnnRunner(folder, verified_manifest(folder))
    assert ("CUDA's libraries may be missing" in str(caught.value)) is driver


def test_a_weight_that_is_absent_is_named(models_dir: Path) -> None:
    folder = models_dir / "rnn" / "1"
    manifest = verified_manifest(folder)
    longer = manifest.model_copy(update={"layers": manifest.layers + manifest.layers[-1:]})
    with pytest.raises(ModelRefused, match="no weight 'layer_2/kernel'"):
        cudnn_on_host(folder, longer)


def test_a_chunk_for_which_there_is_no_memory_is_halved(
    models_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner, _ = runner_of(models_dir, "lstm")
    batch = Batch(*chunk(runner, [4, 2, 3, 4, 1]))
    whole = runner.run(batch.inputs, batch.lengths, batch.state)
    call, most = runner._graph.call, 2

    def small(inputs: tf.Tensor, *rest: tf.Tensor) -> tf.Tensor:
        if inputs.shape[0] > most:
            raise exhausted()
        return call(inputs, *rest)

    runner._graph.call = small
    results = compute(runner, batch)
    assert not results.failures
    assert_close(results.outputs, whole[0])
    assert_close(results.state, whole[1])
    most = 0
    failures = compute(runner, batch).failures
    assert sorted(failures) == [0, 1, 2, 3, 4]
    assert failures[0] == tf.errors.ResourceExhaustedError.__name__
