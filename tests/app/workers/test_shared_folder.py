"""The folder of what workers share, as those who clean up temporary files see it."""

import fcntl
import gc
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.__main__ import fault_of_folder, shared_folder


def lock_alone(folder: Path) -> None:
    """As systemd-tmpfiles does; what is locked it leaves alone."""
    found = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(found)


def test_nobody_cleans_it_up_while_it_is_in_use_and_then_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # What earlier tests have left open is closed before it is counted.
    gc.collect()
    open_files = len(os.listdir("/proc/self/fd"))
    with shared_folder() as home:
        assert home.parent == tmp_path
        with pytest.raises(BlockingIOError):
            lock_alone(home)
        # Others at the same place are not kept from it.
        lock_alone(tmp_path)
    assert not home.exists()
    assert len(os.listdir("/proc/self/fd")) == open_files


@pytest.mark.parametrize("workers", [1, 2])
def test_it_needs_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """Without, workers would end again and again, each with a trace of where it wrote."""
    assert fault_of_folder(tmp_path, workers) == ""
    full = SimpleNamespace(f_bavail=15, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    found = fault_of_folder(tmp_path, workers)
    assert found == "has 61440 bytes of space left, the service starts with 1048576 or more"
