"""`UnreadAnswers`: bytes of answers that their callers have not read yet, by caller.

A caller who reads nothing is let go of after a while; one who reads a byte now and then is not. So
there is a limit for what all of them hold. Beyond it the caller who holds most loses the answer of
which nothing has been read for longest; a newcomer is not looked at before the next one comes.
"""

import logging
from collections import Counter, defaultdict
from typing import Protocol

logger = logging.getLogger(__name__)

LIMIT_BYTES = 128 << 20
# In the scope of a request (ASGI): bytes that it keeps until its answer is read, beside the answer.
HELD_BYTES = "unroll.held_bytes"


class Reader(Protocol):
    """A connection whose caller has something to read."""

    @property
    def caller(self) -> str:
        """The name of who reads on it."""

    def let_go(self) -> None:
        """Cuts it at once."""


class UnreadAnswers:
    """See the module.

    Args:
        limit: bytes that wait for their readers.

    Attributes:
        held: bytes that do.
    """

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self.held = 0
        self._limit = limit
        self._callers: dict[Reader, str] = {}
        # In the order in which they read last.
        self._readers: defaultdict[str, dict[Reader, int]] = defaultdict(dict)
        self._held_by: Counter[str] = Counter()

    def wait(self, reader: Reader, size: int) -> None:
        """So many bytes wait for a reader from now on, who has just read, or begins to."""
        self.end(reader)
        caller = self._callers[reader] = reader.caller
        self._readers[caller][reader] = size
        self._held_by[caller] += size
        self.held += size
        while self.held > self._limit and (late := self._latest(reader)) is not None:
            logger.warning(
                "unread answers hold %d bytes, the limit is %d: the connection of %s is cut, who "
                "has the most of them and has read nothing for longest",
                self.held,
                self._limit,
                self._callers[late],
            )
            self.end(late)
            late.let_go()

    def end(self, reader: Reader) -> None:
        """Nothing waits for a reader any more, if anything did."""
        caller = self._callers.pop(reader, None)
        if caller is None:
            return
        size = self._readers[caller].pop(reader)
        self._held_by[caller] -= size
        self.held -= size
        if not self._readers[caller]:
            del self._readers[caller], self._held_by[caller]

    def _latest(self, newcomer: Reader) -> Reader | None:
        """Of the caller who holds most, who has read nothing for longest; None if there is none."""
        for caller, _ in self._held_by.most_common(2):
            for reader in self._readers[caller]:
                if reader is not newcomer:
                    return reader
        return None
