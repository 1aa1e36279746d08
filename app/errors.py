"""The errors of the service. They know no HTTP: `app/api/problems.py` maps them to answers.

UnrollError
+-- InvalidRequest          the caller's mistake, with the place of each
|   +-- NotHTTP             what was sent is no request
|   +-- UnknownCoding       a transfer coding that is not chunked
|   +-- HeadTooLarge        more bytes before the body than allowed
|   +-- HeadTooSlow         the head did not arrive in time
|   +-- NotJSON             the body is not JSON at all
|   +-- EncodedBody         the body is compressed
|   +-- BodyTooLarge        more bytes than allowed
|   +-- BodyTooSlow         the body did not arrive in time
|   +-- UnknownModel        no such model or version
|   +-- OtherModel          a state token of another model or version
|   +-- UnknownSession      no such session
|   +-- SessionConflict     the session is not where the caller believes
|   +-- NotFinite           the numbers are too large for the model to compute with
+-- Unavailable             try again later
|   +-- NotReady            no model is loaded yet
|   +-- Overloaded          there is no room, or too little time
|   +-- Expired             waited longer than allowed
|   +-- ShuttingDown        the service is stopping
|   +-- TooManySessions     no more sessions are kept
|   +-- SessionsUnavailable the store of sessions does not answer
|   +-- TooManyConnections  there are as many connections as there can be
+-- Cancelled               the caller has gone
+-- RunFailed               the kernel failed on this sequence: our fault
+-- ModelRefused            a model folder is not whole, or not what its manifest says
    +-- DeviceFailed        a device has no memory left, or fails
"""

from dataclasses import dataclass
from typing import Self

MAX_QUOTE = 80


def quoted(text: str) -> str:
    """A word of the caller's as messages have it: in quotes, and cut if it is long."""
    return repr(text if len(text) <= MAX_QUOTE else text[: MAX_QUOTE - 3] + "...")


class UnrollError(Exception):
    """Any error that the service means to raise."""


@dataclass(frozen=True)
class Fault:
    """One mistake in a request: a JSON pointer (RFC 6901) to the place, and what is wrong."""

    pointer: str
    message: str

    def __str__(self) -> str:
        return f"{self.pointer}: {self.message}" if self.pointer else self.message


class InvalidRequest(UnrollError):
    """The request cannot be computed as it is.

    Args:
        faults: each mistake found, at least one.
    """

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(str(fault) for fault in faults))
        self.faults = faults


class NotHTTP(InvalidRequest):
    """What was sent is no request."""


class UnknownCoding(InvalidRequest):
    """The body has a transfer coding that this service does not undo."""


class HeadTooLarge(InvalidRequest):
    """The head of a request, its path and headers, has more bytes than allowed."""


class HeadTooSlow(InvalidRequest):
    """The head of a request did not arrive in time."""


class NotJSON(InvalidRequest):
    """The body is not JSON."""


class EncodedBody(InvalidRequest):
    """The body is compressed, which this service does not undo."""


class BodyTooLarge(InvalidRequest):
    """The body has more bytes than allowed."""


class BodyTooSlow(InvalidRequest):
    """The body did not arrive in time."""


class UnknownModel(InvalidRequest):
    """There is no such model, or not this version of it."""


class OtherModel(InvalidRequest):
    """A state token belongs to another model, or another version of it."""


class UnknownSession(InvalidRequest):
    """There is no such session."""


class SessionConflict(InvalidRequest):
    """A piece does not fit to where its session is."""


class NotFinite(InvalidRequest):
    """An output or state is infinite or not a number."""


class Unavailable(UnrollError):
    """The service cannot answer now, but may later."""


class NotReady(Unavailable):
    """No model is loaded; the message says why."""


class Overloaded(Unavailable):
    """There is no room for a request, or it could not be answered in time.

    Attributes:
        retry_after_s: seconds until one like it would be taken, if no other comes.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Expired(Unavailable):
    """A sequence was not finished within its time."""


class ShuttingDown(Unavailable):
    """The service finishes what it has and takes no more."""


class TooManySessions(Unavailable):
    """As many sessions are kept as may be."""

    @classmethod
    def at(cls, limit: int) -> Self:
        """The error at a limit."""
        return cls(
            f"{limit} sessions are kept, which is the limit; end some, or wait until idle ones go"
        )


class SessionsUnavailable(Unavailable):
    """The store of sessions does not answer."""


class TooManyConnections(Unavailable):
    """The service has as many connections as it can, and requests on all of them."""


class Cancelled(UnrollError):
    """Nobody waits for the sequence any more."""


class RunFailed(UnrollError):
    """The kernel failed on this sequence alone."""


class ModelRefused(UnrollError):
    """A model folder cannot be trusted or loaded; the message says which file and why."""


class DeviceFailed(ModelRefused):
    """A device has no memory left for a model, or fails; later it may be otherwise."""
