"""Every kernel against a NumPy reference, chunk by chunk, and what it refuses."""

import itertools
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from app.columns import Standardize
from app.engine.runner_interface import ModelRunner
from app.errors import ModelRefused
from app.kernels.bfloat16 import Bfloat16Runner
from app.kernels.cudnn import CudnnRunner
from app.kernels.onnxruntime import OnnxRuntimeRunner
from app.kernels.tensorflow import TensorFlowRunner
from app.manifest import Manifest, StatePart, verified_manifest
from tests.app.kernels.runners import MAX_ROWS, MAX_STEPS, make_runner
from tests.support.exported_models import raw_sequence
from tests.support.reference_model import Reference, State, assert_close

# Lengths of the rows; the second number is the time steps of the array that holds them.
CHUNKS = (([1], 1), ([16], 16), ([3], 9), ([7, 2], 7), ([16, 1, 9], 16), ([5, 16, 1, 12], 16))


# Of outputs, in their standard deviations, and of states. Each factor of a product of 17 or fewer
# is off by up to 1/512, and each h, in every layer and time step; a wrong gate gives ten times as
# much.
BFLOAT16_TOLERANCE = 0.05


class Kernel:
    """A warm runner and the reference for the same folder."""

    def __init__(self, kind: type[ModelRunner], folder: Path) -> None:
        self.folder = folder
        self.manifest = verified_manifest(folder)
        self.runner = make_runner(kind, folder, self.manifest)
        self.runner.warm_up(MAX_ROWS, MAX_STEPS)
        self.reference = Reference(folder)

    def assert_close(
        self, actual: np.ndarray, expected: np.ndarray, scale: Any, message: str = ""
    ) -> None:
        """In float32 as close as that is; `scale` is what the error of bfloat16 is counted in."""
        if isinstance(self.runner, Bfloat16Runner):
            error = np.abs(actual - expected) / scale
            assert error.max() < BFLOAT16_TOLERANCE, message
        else:
            assert_close(actual, expected, message)

    def assert_outputs(self, actual: np.ndarray, expected: np.ndarray, message: str = "") -> None:
        # Those above a ReLU have no bound either. Of a change the present value is no part.
        spread = [
            max(
                output.transform.std,
                isinstance(output.transform, Standardize)
                and np.abs(column - output.transform.mean).max(),
            )
            for output, column in zip(self.manifest.outputs, expected.T, strict=True)
        ]
        self.assert_close(actual, expected, spread, message)

    def assert_state(self, actual: np.ndarray, expected: np.ndarray, message: str = "") -> None:
        # That of a ReLU has no bound.
        self.assert_close(actual, expected, max(1.0, np.abs(expected).max()), message)

    def chunk(
        self, lengths: list[int], steps: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arguments of `run` with random states, and padding that would hurt if it were read."""
        random = np.random.default_rng(seed)
        inputs = np.full((len(lengths), steps, 4), 1e30, np.float32)
        for row, length in enumerate(lengths):
            inputs[row, :length] = raw_sequence(random, length)
        state = random.normal(size=(len(lengths), self.runner.state_size)).astype(np.float32)
        return inputs, np.array(lengths, np.int32), state

    def expected(self, inputs: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outputs and final state of one row without its padding, from its state `[sum of H]`."""
        named: State = []
        left = state
        for layer in self.manifest.layers:
            named.append({})
            for part in layer.states:
                named[-1][part.name], left = left[: layer.units], left[layer.units :]
        assert not len(left)
        outputs, final = self.reference(inputs, named)
        return outputs, np.concatenate([part for entry in final for part in entry.values()])

    def check(self, lengths: list[int], steps: int, seed: int) -> None:
        inputs, valid, state = self.chunk(lengths, steps, seed)
        outputs, final = self.runner.run(inputs, valid, state)
        assert outputs.shape == (len(lengths), steps, self.runner.num_outputs)
        assert final.shape == state.shape
        assert {outputs.dtype, final.dtype} == {np.dtype(np.float32)}
        for row, length in enumerate(lengths):
            expected, expected_final = self.expected(inputs[row, :length], state[row])
            self.assert_outputs(outputs[row, :length], expected, f"row {row}")
            # A lane takes a number that is not finite anywhere in a row for a failure of it.
            assert not outputs[row, length:].any()
            self.assert_state(final[row], expected_final, f"state of row {row}")


KINDS = (TensorFlowRunner, OnnxRuntimeRunner, Bfloat16Runner, CudnnRunner)


# Together the models have every cell and activation; each compiles for seconds.
@pytest.fixture(
    scope="module",
    params=itertools.product(KINDS, ("rnn", "mixed")),
    ids=lambda pair: f"{pair[0].__name__}-{pair[1]}",
)
def kernel(request: pytest.FixtureRequest, models_dir: Path) -> Kernel:
    kind, model = request.param
    return Kernel(kind, models_dir / model / "1")


@pytest.mark.parametrize(("lengths", "steps"), CHUNKS)
def test_a_chunk_equals_the_reference(kernel: Kernel, lengths: list[int], steps: int) -> None:
    kernel.check(lengths, steps, seed=sum(lengths))


def test_chunk_after_chunk_equals_the_reference_of_the_whole(kernel: Kernel) -> None:
    inputs, _, state = kernel.chunk([40], 40, seed=3)
    expected, expected_final = kernel.expected(inputs[0], state[0])
    made = []
    for start in range(0, 40, MAX_STEPS):
        part = inputs[:, start : start + MAX_STEPS]
        outputs, state = kernel.runner.run(part, np.array([part.shape[1]], np.int32), state)
        made.append(outputs[0])
    kernel.assert_outputs(np.concatenate(made), expected)
    kernel.assert_state(state[0], expected_final)


def test_two_threads_at_once_get_the_right_answers(kernel: Kernel) -> None:
    start = threading.Barrier(2)
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        start.wait(20)
        try:
            for round_ in range(8):
                kernel.check([16, 3 + thread, 9][: 1 + round_ % 3], MAX_STEPS, 10 * round_ + thread)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_every_call_has_a_shape_that_was_compiled_at_warm_up(models_dir: Path) -> None:
    """A shape that was not would be compiled while callers wait, for a third of a second."""
    folder = models_dir / "rnn" / "1"
    runner = TensorFlowRunner(folder, verified_manifest(folder))
    shapes: list[tuple[int, ...]] = []

    states = {"state_0_h": 16, "state_1_h": 8}

    def zeros(sequences: tf.Tensor, **_: Any) -> dict[str, tf.Tensor]:
        rows, steps, _ = sequences.shape
        state = {name: tf.zeros((rows, size)) for name, size in states.items()}
        return {"outputs": tf.zeros((rows, steps, 2)), **state}

    def record(sequences: tf.Tensor, **_: Any) -> dict[str, tf.Tensor]:
        shapes.append(tuple(sequences.shape))
        return zeros(sequences)

    runner._model.chunk, runner._model.whole = record, zeros
    # 5 slots are served by calls of up to 8 rows.
    runner.warm_up(5, MAX_STEPS)
    compiled = set(shapes)
    assert compiled == {(rows, steps, 4) for rows in (1, 2, 4, 8) for steps in (4, 16)}
    assert runner.compilations == len(compiled)
    shapes.clear()
    for rows in range(1, 6):
        for steps in range(1, MAX_STEPS + 1):
            inputs = np.zeros((rows, steps, 4), np.float32)
            state = np.zeros((rows, sum(states.values())), np.float32)
            outputs, final = runner.run(inputs, np.full(rows, steps, np.int32), state)
            assert outputs.shape == (rows, steps, 2)
            assert final.shape == (rows, 24)
    assert len(shapes) == 5 * MAX_STEPS
    assert set(shapes) <= compiled
    assert runner.compilations == len(compiled), "the metric counts what was not compiled"


def changed(manifest: Manifest, **changes: Any) -> Manifest:
    return manifest.model_copy(update=changes)


def test_a_model_that_is_not_what_its_manifest_says_is_refused(models_dir: Path) -> None:
    folder = models_dir / "rnn" / "1"
    manifest = verified_manifest(folder)
    first, second = manifest.layers
    wider = first.model_copy(update={"units": 17})
    third = second.model_copy(update={"states": (StatePart(name="h", tensor="state_2_h"),)})
    for wrong, found in (
        (changed(manifest, features=manifest.features[:3]), "(None, None, 4)"),
        (changed(manifest, layers=(wider, second)), "(None, 16)"),
        (changed(manifest, layers=(first,)), "state_1_h"),
        (changed(manifest, layers=(first, second, third)), "state_2_h"),
        (changed(manifest, outputs=manifest.outputs[:1]), "(None, None, 2)"),
        (changed(manifest, outputs=manifest.outputs * 2), "(None, None, 2)"),
    ):
        with pytest.raises(ModelRefused, match="signature 'chunk'") as caught:
            TensorFlowRunner(folder, wrong)
        assert str(folder) in str(caught.value)
        assert found in str(caught.value)


@pytest.mark.parametrize("missing", ["chunk", "serving_default"])
def test_a_model_without_a_signature_of_the_contract_is_refused(
    models_dir: Path, tmp_path: Path, missing: str
) -> None:
    folder = models_dir / "rnn" / "1"
    loaded = tf.saved_model.load(str(folder))
    kept = {name: call for name, call in loaded.signatures.items() if name != missing}
    tf.saved_model.save(loaded, str(tmp_path), signatures=kept)
    with pytest.raises(ModelRefused, match=f"no signature '{missing}': export it again"):
        TensorFlowRunner(tmp_path, verified_manifest(folder))


def damage_saved_model(folder: Path) -> None:
    path = folder / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:-1000])


def fill_with_garbage(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"garbage" * 100)


def empty_saved_model(folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(b"")


def remove_variables(folder: Path) -> None:
    shutil.rmtree(folder / "variables")


def remove_everything(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "damage",
    [
        damage_saved_model,
        fill_with_garbage,
        empty_saved_model,
        remove_variables,
        remove_everything,
    ],
)
def test_what_tensorflow_cannot_load_is_refused(
    models_dir: Path, tmp_path: Path, damage: Any
) -> None:
    """As if the checksums had been right."""
    manifest = verified_manifest(models_dir / "rnn" / "1")
    folder = Path(shutil.copytree(models_dir / "rnn" / "1", tmp_path / "1"))
    damage(folder)
    with pytest.raises(ModelRefused, match="TensorFlow cannot load it") as caught:
        TensorFlowRunner(folder, manifest)
    assert str(folder) in str(caught.value)


def test_a_model_whose_two_signatures_disagree_is_refused_at_warm_up(models_dir: Path) -> None:
    folder = models_dir / "rnn" / "1"
    runner = TensorFlowRunner(folder, verified_manifest(folder))
    whole = runner._model.whole

    def shifted(**arguments: tf.Tensor) -> dict[str, tf.Tensor]:
        # One part in a hundred: a wrong weight, not rounding.
        return {name: tensor * 1.01 for name, tensor in whole(**arguments).items()}

    runner._model.whole = shifted
    with pytest.raises(ModelRefused, match="disagree on the manifest's example"):
        runner.warm_up(1, MAX_STEPS)
