"""`AgreedVersion`: which version all workers of a service serve.

The first worker that has loaded a version pins it. Each other worker, and each that replaces one
that died, serves the same weights, whatever has come into the models' folder since.
"""

import fcntl
import json
import os
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

# The file of the pin in the folder that the workers share.
PIN_FILE = "pin"


@dataclass(frozen=True)
class Pin:
    """The version that is pinned.

    Attributes:
        version: its number.
        checksum: SHA-256 of its manifest, which holds that of every other file.
        refused: why other versions are not served, by number.
    """

    version: int
    checksum: str
    refused: Mapping[int, str]


class AgreedVersion:
    """The pin that workers share. As a context it is locked: read and write it only then.

    Args:
        path: of a file that the workers share; None for a worker that is alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            with tempfile.TemporaryFile() as file:
                self._file = os.dup(file.fileno())
        else:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        weakref.finalize(self, os.close, self._file)

    def __enter__(self) -> Self:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def read(self) -> Pin | None:
        """The pin; None as long as no version is pinned."""
        text = os.pread(self._file, os.fstat(self._file).st_size, 0)
        if not text:
            return None
        found = json.loads(text)
        refused = {int(version): reason for version, reason in found["refused"].items()}
        return Pin(found["version"], found["checksum"], refused)

    def write(self, pin: Pin | None) -> None:
        """Pins a version, or with None none."""
        os.ftruncate(self._file, 0)
        if pin is not None:
            os.pwrite(self._file, json.dumps(asdict(pin)).encode(), 0)
