"""A folder of format 1 becomes the next version, with the same numbers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.kernels.loader import KernelLoader
from app.manifest import CHUNK, verified_manifest
from model.export.manifest import file_digests
from model.upgrade import upgrade
from tests.support.copies import copy_of
from tests.support.exported_models import make_format_1, raw_sequence


@pytest.fixture
def old(models_dir: Path, tmp_path: Path) -> Path:
    folder = copy_of(models_dir / "mixed" / "1", tmp_path / "models")
    make_format_1(folder)
    return folder


def test_the_command_writes_the_next_version_with_equal_numbers(
    models_dir: Path, old: Path, tmp_path: Path
) -> None:
    before = file_digests(old)
    command = [sys.executable, "-m", "model.upgrade", str(old)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    new = old.with_name("2")
    assert done.stdout == f"wrote {new}\n"
    assert file_digests(old) == before, "the one before stays as it is"
    manifest = verified_manifest(new)
    assert (manifest.format, manifest.version) == ("unroll/2", 2)
    kept = {name: digest for name, digest in file_digests(new).items() if name in before}
    assert {n: d for n, d in kept.items() if "manifest." not in n} == {
        n: d for n, d in before.items() if "manifest." not in n
    }
    # As it was exported with in the first place.
    assert (new / CHUNK).read_bytes() == (models_dir / "mixed" / "1" / CHUNK).read_bytes()
    sequence = raw_sequence(np.random.default_rng(4), 16)[np.newaxis]
    results = []
    for folder, kernel in ((old, "tensorflow"), (new, "onnxruntime")):
        runner = KernelLoader("auto", 2, 16, tmp_path)(folder, verified_manifest(folder))
        assert runner.kernel == kernel
        state = np.full((1, runner.state_size), 0.3, np.float32)
        results.append(runner.run(sequence, np.array([16], np.int32), state))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_what_needs_no_upgrade_or_is_not_whole_is_refused(
    models_dir: Path, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models_dir / "mixed" / "1"
    with pytest.raises(ValueError, match="has the format unroll/2 already"):
        upgrade(folder)
    (old / "README.md").write_text("changed")
    with pytest.raises(ValueError, match=r"README\.md is not the file of the manifest"):
        upgrade(old)
    with pytest.raises(OSError, match="No such file"):
        upgrade(old.with_name("7"))
    assert sorted(path.name for path in old.parent.iterdir()) == ["1"]
