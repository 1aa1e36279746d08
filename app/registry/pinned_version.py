"""`Agreement`: which version all workers of a service serve.

The first worker that has loaded one decides. Each of the others, and each that takes the place of
one that died, serves the same weights, whatever has come into the models' folder since.
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

# Of the agreement in the folder that the workers share.
SERVED = "served"


@dataclass(frozen=True)
class Served:
    """A version that is served.

    Attributes:
        version: its number.
        checksum: SHA-256 of its manifest, which holds that of every other file.
        refused: why other versions are not served, by number.
    """

    version: int
    checksum: str
    refused: Mapping[int, str]


class Agreement:
    """What the workers agree on. Read and write it while it is a context: nobody else can then.

    Args:
        path: of a file that they share; None for a worker that is alone.
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

    @property
    def served(self) -> Served | None:
        """The version; None as long as nobody has decided."""
        text = os.pread(self._file, os.fstat(self._file).st_size, 0)
        if not text:
            return None
        found = json.loads(text)
        refused = {int(version): reason for version, reason in found["refused"].items()}
        return Served(found["version"], found["checksum"], refused)

    def settle(self, served: Served | None) -> None:
        """Decides, or with None leaves it open again."""
        os.ftruncate(self._file, 0)
        if served is not None:
            os.pwrite(self._file, json.dumps(asdict(served)).encode(), 0)
