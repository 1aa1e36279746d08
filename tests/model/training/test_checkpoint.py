"""Checkpoints: whole or not there, whatever happens to the disk or the process."""

import multiprocessing
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.training.checkpoint import Checkpoint, CheckpointFolder, Progress


def make_checkpoint(update: int, size: int = 1000) -> Checkpoint:
    random = np.random.default_rng(update)
    numbers = [0.1 * update, float(np.nextafter(1.0, 2.0))]
    progress = Progress(
        update=update,
        history={"update": [1, update], "loss": numbers, "val_loss": numbers[::-1]},
        best=[random.normal(size=(3, 4)).astype(np.float32)],
        rounds_without_better=2,
        seconds=1.5,
    )
    variables = [random.normal(size=size).astype(np.float32), np.int64(update) + np.zeros((), int)]
    return Checkpoint({"seed": update, "name": "ü"}, "abc", progress, variables)


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    assert (found.config, found.fingerprint) == (expected.config, expected.fingerprint)
    ours, theirs = vars(found.progress).copy(), vars(expected.progress).copy()
    for one, other in (
        (ours.pop("best"), theirs.pop("best")),
        (found.variables, expected.variables),
    ):
        assert len(one) == len(other)
        for array, known in zip(one, other, strict=True):
            assert (array.dtype, array.shape) == (known.dtype, known.shape)
            assert array.tobytes() == known.tobytes()
    assert ours == theirs


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "model")
    assert folder.read() is None
    for update in (3, 12):
        with folder.held():
            folder.write(make_checkpoint(update))
        found = folder.read()
        assert found is not None
        assert_same(found, make_checkpoint(update))
    assert [path.name for path in (tmp_path / "model" / ".training").iterdir()] == [
        "checkpoint.npz"
    ]


def test_many_arrays_stay_in_their_order(tmp_path: Path) -> None:
    arrays = [np.array([index]) for index in range(1200)]
    Checkpoint({}, "", Progress(best=arrays), arrays[::-1]).write(tmp_path / "many.npz")
    found = Checkpoint.read(tmp_path / "many.npz")
    assert [int(array[0]) for array in found.progress.best] == list(range(1200))
    assert [int(array[0]) for array in found.variables] == list(range(1200))[::-1]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("written") / "checkpoint.npz"
    make_checkpoint(3).write(path)
    return path.read_bytes()


# A parenthesis of an array's header.
@example(part=0.1171875, flip=True)
@settings(max_examples=40)
@given(part=st.floats(0.0, 1.0, exclude_max=True), flip=st.booleans())
def test_a_file_that_is_broken_is_refused_by_name(written: bytes, part: float, flip: bool) -> None:
    """One that was cut, or has another byte; never taken for whole."""
    at = int(part * len(written))
    broken = bytearray(written if flip else written[:at])
    if flip:
        broken[at] ^= 0x55
    with tempfile.NamedTemporaryFile() as file:
        file.write(broken)
        file.flush()
        found, told = None, ""
        try:
            found = Checkpoint.read(Path(file.name))
        except ValueError as error:
            told = str(error)
    if found is None:
        assert file.name in told
    else:
        # A byte that zip does not look at, such as a time.
        assert_same(found, make_checkpoint(3))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands for it, from the first byte to the last."""
    folder = CheckpointFolder(tmp_path / "model")
    make_checkpoint(4).write(tmp_path / "whole.npz")
    size = (tmp_path / "whole.npz").stat().st_size
    with folder.held():
        folder.write(make_checkpoint(3))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        for most in (0, 1, 100, size // 2, size - 1):
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
            try:
                with pytest.raises(OSError, match="File too large"):
                    folder.write(make_checkpoint(4))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            found = folder.read()
            assert found is not None
            assert_same(found, make_checkpoint(3))
            assert len(list((tmp_path / "model" / ".training").iterdir())) == 1
        folder.write(make_checkpoint(4))
    found = folder.read()
    assert found is not None
    assert_same(found, make_checkpoint(4))


def hold(home: Path, ready: object, end: object) -> None:
    with CheckpointFolder(home).held():
        ready.set()  # type: ignore[attr-defined]
        end.wait()  # type: ignore[attr-defined]


def test_one_process_trains_a_model_at_a_time(tmp_path: Path) -> None:
    """One that is killed holds nothing."""
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "model", ready, end))
    process.start()
    assert ready.wait(60)
    with (
        pytest.raises(ValueError, match="is being trained by another process: wait for it, or"),
        CheckpointFolder(tmp_path / "model").held(),
    ):
        pass
    process.kill()
    process.join()
    with CheckpointFolder(tmp_path / "model").held():
        pass


def test_another_training_keeps_the_checkpoint_of_the_one_before(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "model")
    with folder.held():
        assert folder.set_aside() is None
        folder.write(make_checkpoint(3))
    with folder.held():
        aside = folder.set_aside()
        assert aside is not None
        assert folder.read() is None
        folder.write(make_checkpoint(4))
        folder.remove()
    assert_same(Checkpoint.read(aside), make_checkpoint(3))


def test_a_training_that_is_over_leaves_nothing(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "model")
    with folder.held():
        folder.write(make_checkpoint(3))
        folder.remove()
    assert list((tmp_path / "model").iterdir()) == []


def test_recipes_that_were_tried_are_kept_beside_the_one_that_is_trained(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "model")

    def of(candidate: int, update: int) -> Checkpoint:
        checkpoint = make_checkpoint(update)
        checkpoint.progress.candidate = candidate
        return checkpoint

    with folder.held():
        folder.write(of(0, 3))
        assert folder.read(1) is None
        folder.keep(0)
        folder.keep(0)  # again, as after a kill
        last = folder.last()
        assert last is not None
        assert_same(last, of(0, 3))
        folder.write(of(1, 5))
        folder.keep(0)
        for candidate, update in ((0, 3), (1, 5)):
            found = folder.read(candidate)
            assert found is not None
            assert_same(found, of(candidate, update))
        last = folder.last()
        assert last is not None
        assert_same(last, of(1, 5))
        folder.set_aside()
        assert folder.last() is None
        folder.write(of(0, 1))
        folder.keep(0)
        folder.remove()
    assert [path.name for path in (tmp_path / "model" / ".training").iterdir()] == ["earlier.npz"]
