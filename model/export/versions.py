"""Versions in `models/<name>/`: which there are, and how one is written whole or not at all.

Everything is written to a hidden sibling of the version's folder, flushed to disk, and renamed.
An export that fails, for want of space say, removes it; a process that dies on the way leaves at
most that hidden folder, which the next export removes.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HIDDEN = ".export-"


def existing_versions(home: Path) -> list[int]:
    """The versions exported to `models/<name>`, ascending."""
    if not home.is_dir():
        return []
    return sorted(
        int(path.name) for path in home.iterdir() if path.name.isdecimal() and path.is_dir()
    )


def check_writable(models_dir: Path, name: str) -> None:
    """Makes the model's folder and tries to write there.

    Raises:
        OSError: it cannot be written.
    """
    home = models_dir / name
    home.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=home).close()


@contextmanager
def next_version(home: Path) -> Iterator[tuple[Path, int]]:
    """A folder to fill, and the number that it will have: in the end it is `home/number`.

    Whatever is raised while it is filled leaves no version.

    Raises:
        OSError: it cannot be written.
    """
    home.mkdir(parents=True, exist_ok=True)
    with _errors_that_name(home), _exclusively(home):
        for left in home.glob(f"{HIDDEN}*"):
            shutil.rmtree(left)
        number = _next_number(home)
        hidden = home / f"{HIDDEN}{number}"
        hidden.mkdir()
        with _gone_if_it_fails(hidden):
            yield hidden, number
            _flush(hidden)
            hidden.rename(home / str(number))
        for folder in (home, home.parent):
            _flush_folder(folder)


def _next_number(home: Path) -> int:
    # A file of such a name is no version, but in the way of one.
    taken = (int(path.name) for path in home.iterdir() if path.name.isdecimal())
    return max(taken, default=0) + 1


@contextmanager
def _gone_if_it_fails(folder: Path) -> Iterator[None]:
    """Removes a folder that was not finished: what fills a disk would stay there else."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _errors_that_name(folder: Path) -> Iterator[None]:
    """Names the folder in an error of writing that names no file, as of a disk that is full."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(f"{folder} cannot be written: {error.strerror or error}") from error


@contextmanager
def _exclusively(home: Path) -> Iterator[None]:
    """One export of a name at a time, so that two never choose the same version.

    The lock is the kernel's: it goes with the process that holds it, however that ends.
    """
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _flush(folder: Path) -> None:
    """Puts every file and folder below on disk before the rename makes them visible."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        _flush_folder(path)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
