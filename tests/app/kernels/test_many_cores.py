"""The kernel that has idle cores compute: its numbers, and when it does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from app.errors import ModelRefused
from app.kernels import many_cores
from app.kernels.layer_pipeline import LayerPipeline
from app.kernels.loader import KernelLoader
from app.kernels.many_cores import ManyCoresRunner
from app.kernels.onnxruntime import OnnxRuntimeRunner
from app.kernels.runners import onnxruntime as runner_module
from app.kernels.several_threads import Pipeline, Threads
from app.manifest import CHUNK, verified_manifest
from model.export.manifest import MANIFEST, file_digests, write_manifest
from tests.support.copies import copy_of
from tests.support.exported_models import raw_sequence


class Cores:
    """So many idle cores."""

    def __init__(self, idle: int) -> None:
        self.idle = idle

    def __call__(self) -> int:
        return self.idle


def forced(folder: Path, parts: int, cores: Cores) -> ManyCoresRunner:
    """A warm runner whose pipeline cuts any chunk of rows of one length into so many parts."""
    runner = ManyCoresRunner(folder, verified_manifest(folder), 3, cores)
    runner.warm_up(4, 64)
    way = runner._way
    assert isinstance(way, Pipeline)
    way.shortest_s = 0.0
    way._plan.parts = lambda _, steps, __: min(parts, steps)  # type: ignore[method-assign]
    runner._idle_time.is_used = lambda: True  # type: ignore[method-assign]
    return runner


class Spy:
    """Counts the runs of a pipeline."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = 0
        right = LayerPipeline.run

        def run(*arguments: Any) -> Any:
            self.runs += 1
            return right(*arguments)

        monkeypatch.setattr(LayerPipeline, "run", run)


def chunk(runner: Any, lengths: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(sum(lengths))
    inputs = np.zeros((len(lengths), max(lengths), 4), np.float32)
    for row, length in enumerate(lengths):
        inputs[row, :length] = raw_sequence(random, length)
    state = random.normal(size=(len(lengths), runner.state_size)).astype(np.float32)
    return inputs, np.array(lengths, np.int32), state


@pytest.mark.parametrize("model", ["rnn", "mixed"])
def test_pipelined_equals_one_thread_to_the_bit(
    models_dir: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = models_dir / model / "1"
    one = OnnxRuntimeRunner(folder / CHUNK, verified_manifest(folder))
    for parts in (2, 3, 7):
        runner = forced(folder, parts, Cores(2))
        spy = Spy(monkeypatch)
        for lengths in ([240], [101], [84], [33, 33, 33], [5]):
            # Of several rows, or few time steps, other numbers of rows are multiplied at a time.
            is_exact = len(lengths) == 1 and lengths[0] >= 84
            for found, expected in zip(
                runner.run(*chunk(one, lengths)), one.run(*chunk(one, lengths)), strict=True
            ):
                # Roundings of float32, in numbers of up to a hundred.
                tolerance = 0.0 if is_exact else 3e-5
                np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
        assert spy.runs == 5
        monkeypatch.undo()


def test_ragged_rows_and_busy_cores_are_one_threads(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = Cores(1)
    runner = forced(models_dir / "mixed" / "1", 3, cores)
    spy = Spy(monkeypatch)
    runner.run(*chunk(runner, [9, 4]))
    assert spy.runs == 0
    runner.run(*chunk(runner, [9, 9]))
    assert spy.runs == 1
    cores.idle = 0
    runner.run(*chunk(runner, [9, 9]))
    assert spy.runs == 1
    cores.idle = 1
    # Another lane of the worker computes.
    runner._calls.append(None)
    runner.run(*chunk(runner, [9, 9]))
    assert spy.runs == 1


def test_a_runner_that_is_not_warm_computes_with_one_thread(models_dir: Path) -> None:
    folder = models_dir / "mixed" / "1"
    runner = ManyCoresRunner(folder, verified_manifest(folder), 6, Cores(5))
    one = OnnxRuntimeRunner(folder / CHUNK, verified_manifest(folder))
    found, expected = (each.run(*chunk(one, [40])) for each in (runner, one))
    np.testing.assert_array_equal(found[0], expected[0])


def change(folder: Path, name: str, content: bytes | None) -> None:
    """Changes a file, or takes it away, and makes the checksums right."""
    path = folder / name
    path.unlink() if content is None else path.write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    files = {n: d for n, d in file_digests(folder).items() if not n.startswith("manifest.")}
    write_manifest(folder, {**manifest, "files": files})


def test_a_folder_without_parts_is_served_by_one_thread(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(models_dir / "mixed" / "1", tmp_path / "models")
    monkeypatch.setattr(runner_module, "available_cores", lambda: 2)
    loader = KernelLoader("auto", 2, 16, tmp_path, idle_cores=lambda cores: cores - 1)

    def way() -> object:
        runner = loader(folder, verified_manifest(folder))
        assert isinstance(runner, ManyCoresRunner)
        runner.warm_up(2, 16)
        runner.run(*chunk(runner, [40]))
        return runner._way

    assert isinstance(way(), Pipeline)
    change(folder, "layer-3.onnx", None)
    assert way() is None


def test_where_there_is_one_core_nothing_else_is_loaded(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = models_dir / "mixed" / "1"
    monkeypatch.setattr(runner_module, "available_cores", lambda: 1)
    loader = KernelLoader("auto", 2, 16, tmp_path, idle_cores=lambda _: 0)
    assert type(loader(folder, verified_manifest(folder))) is OnnxRuntimeRunner


def test_threads_share_the_products_of_large_layers_to_the_bit(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_cores, "SPLIT_S", 0.0)
    folder = models_dir / "mixed" / "1"
    cores = Cores(1)
    runner = ManyCoresRunner(folder, verified_manifest(folder), 2, cores)
    runner.warm_up(4, 64)
    assert isinstance(runner._way, Threads)
    runner._way.shortest_s = 0.0
    runner._idle_time.is_used = lambda: True  # type: ignore[method-assign]
    ran = []
    right = Threads.run
    monkeypatch.setattr(Threads, "run", lambda *given: (ran.append(1), right(*given))[1])
    one = OnnxRuntimeRunner(folder / CHUNK, verified_manifest(folder))
    for lengths in ([60], [1], [9, 4, 33]):
        for found, expected in zip(
            runner.run(*chunk(one, lengths)), one.run(*chunk(one, lengths)), strict=True
        ):
            np.testing.assert_array_equal(found, expected, str(lengths))
    assert len(ran) == 3
    cores.idle = 0
    runner.run(*chunk(one, [60]))
    assert len(ran) == 3


@pytest.mark.parametrize("model", ["mixed", "rnn"])
def test_parts_that_are_not_the_models_are_refused(
    models_dir: Path, tmp_path: Path, model: str
) -> None:
    folder = copy_of(models_dir / model / "1", tmp_path / "models")
    change(folder, "layer-1.onnx", (folder / "layer-0.onnx").read_bytes())
    runner = ManyCoresRunner(folder, verified_manifest(folder), 2, Cores(1))
    with pytest.raises(ModelRefused, match=r"the parts of chunk\.onnx do not fit together"):
        runner.warm_up(2, 16)


def test_parts_with_a_wrong_weight_are_refused(models_dir: Path, tmp_path: Path) -> None:
    folder = copy_of(models_dir / "rnn" / "1", tmp_path / "models")
    part = onnx.load(folder / "layer-0.onnx", load_external_data=False)
    small = next(w for w in part.graph.initializer if len(w.raw_data) >= 64)
    values = np.frombuffer(small.raw_data, np.float32) * np.float32(1.05)
    small.raw_data = values.tobytes()
    change(folder, "layer-0.onnx", part.SerializeToString())
    runner = ManyCoresRunner(folder, verified_manifest(folder), 2, Cores(1))
    with pytest.raises(ModelRefused, match=r"several threads do not give the numbers"):
        runner.warm_up(2, 16)


def test_a_part_that_cannot_be_loaded_is_named(models_dir: Path, tmp_path: Path) -> None:
    folder = copy_of(models_dir / "mixed" / "1", tmp_path / "models")
    change(folder, "layer-1.onnx", b"nothing")
    runner = ManyCoresRunner(folder, verified_manifest(folder), 2, Cores(1))
    with pytest.raises(ModelRefused, match=r"cannot load layer-1\.onnx"):
        runner.warm_up(2, 16)
