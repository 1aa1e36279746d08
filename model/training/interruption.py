"""Ctrl-C and SIGTERM while a model is trained: it ends after the batch, with a checkpoint."""

import signal
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Exit statuses above are those of signals, as shells have it.
SIGNALLED = 128


class Interrupted(Exception):
    """The training was stopped before its end; the message says how to go on.

    Args:
        number: of the signal.
        told: what is left, and how to go on.
    """

    def __init__(self, number: int, told: str) -> None:
        super().__init__(told)
        self.status = SIGNALLED + number


class Interruption:
    """Notes the first signal while it is entered. A second one ends at once.

    Attributes:
        number: of the signal that came; None if none did.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
