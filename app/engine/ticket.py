"""`Ticket`: a request in the engine, and whom to tell when it is done."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from app.engine.sequence import Sequence
from app.errors import UnrollError

logger = logging.getLogger(__name__)

# Is called once, on the event loop: with None when all sequences of a request are complete, else
# with the error of the first that failed.
Done = Callable[[UnrollError | None], None]


@dataclass(eq=False)
class Ticket:
    """See the module.

    Attributes:
        sequences: of the request.
        left: how many of them have not ended.
        done: whom to tell; None when that is done.
    """

    sequences: list[Sequence]
    left: int
    done: Done | None

    def tell(self, error: UnrollError | None) -> None:
        """Tells once; what comes later is not told."""
        done, self.done = self.done, None
        if done is None:
            return
        try:
            done(error)
        except Exception:
            # The others of its chunk are told all the same.
            logger.exception("this is a bug: a request could not be told that it is done")
