"""`Admission`: a request in the engine, from when it is admitted until all of it has ended."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from app.engine.sequence import Sequence
from app.errors import UnrollError

logger = logging.getLogger(__name__)

# Is called once, on the event loop: with None when all sequences of a request are complete, else
# with the error of the first that failed.
Done = Callable[[UnrollError | None], None]


@dataclass(eq=False, slots=True)
class Admission:
    """A request brings its sequences when it is admitted. A piece of a session is admitted before.

    The piece has waited for its session when its sequence comes, and may come again with another
    one. Its room is its own from `Engine.admit` to `Engine.leave`.

    Attributes:
        steps: time steps of the piece; 0 for a request that brings its sequences.
        sequences: of the request; of the piece the last one.
        left: how many of them have not ended.
        done: is told when they have; None when it was told.
    """

    steps: int = 0
    sequences: list[Sequence] = field(default_factory=list)
    left: int = 0
    done: Done | None = None

    def begin(self, sequences: list[Sequence], done: Done) -> None:
        """New sequences are in the engine; `done` is to be told when they have ended."""
        assert self.left == 0, "this is a bug: the sequences before have not ended"
        assert self.steps in (0, len(sequences[0].inputs)), "this is a bug: it has other room"
        self.sequences = sequences
        self.left = len(sequences)
        self.done = done

    def tell(self, error: UnrollError | None) -> None:
        """Tells `done`, once: what comes later is not told."""
        done, self.done = self.done, None
        if done is None:
            return
        try:
            done(error)
        except Exception:
            # The other requests of the chunk are told all the same.
            logger.exception("this is a bug: a request could not be told that it is done")
