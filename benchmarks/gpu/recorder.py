"""What a section has measured so far, in a file: it is there even if the section is ended."""

import json
import time
from pathlib import Path
from typing import Any


class Recorder:
    """Writes results, and knows how much time is left.

    Args:
        file: to write to, whole or not at all.
        limit_s: seconds from now on.
    """

    def __init__(self, file: Path, limit_s: float) -> None:
        self._file = file
        self._end = time.monotonic() + limit_s

    def write(self, results: dict[str, Any]) -> None:
        """Replaces what was written before."""
        hidden = self._file.with_name(f".{self._file.name}")
        hidden.write_text(json.dumps(results))
        hidden.rename(self._file)

    def fits(self, seconds: float) -> bool:
        """Whether so many seconds are left."""
        return time.monotonic() + seconds < self._end
