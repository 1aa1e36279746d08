"""The folder of what workers share, as those who clean up temporary files see it."""

import fcntl
import gc
import os
import tempfile
from pathlib import Path

import pytest

from app.__main__ import shared_folder


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
