"""`Lines`: an answer that comes line by line, chunk by chunk. No input or output of its own."""

from unroll_client import decode
from unroll_client.errors import NoAnswer, NotUnderstood
from unroll_client.results import Chunk, ModelRef, State

MEDIA_TYPE = "application/x-ndjson"


class Lines:
    """Takes bytes as they come, cut anywhere.

    Attributes:
        model: that computes; None before the first line.
        states: the final states, if they were asked for, after the last line.
    """

    def __init__(self) -> None:
        self.model: ModelRef | None = None
        self.states: list[State] = []
        self._rest = b""
        self._ended = False

    def take(self, data: bytes) -> list[Chunk]:
        """The chunks that are whole now.

        Raises:
            Problem: the service failed after it had begun to answer.
            NotUnderstood: it is no answer of Unroll.
        """
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [made for line in whole if (made := self._line(line)) is not None]

    def end(self) -> None:
        """To be called when no more comes; raises `NoAnswer` if that is too early."""
        if not self._ended:
            raise NoAnswer("the answer broke off before its last line")

    def _line(self, line: bytes) -> Chunk | None:
        if self._ended:
            raise NotUnderstood("this is no answer of Unroll: it goes on after its last line")
        answer = decode.document(line)
        if self.model is None:
            self.model = decode.head(answer)
        elif "sequence" in answer:
            return decode.chunk(answer)
        else:
            self._ended = True
            self.states = decode.states(answer)
        return None
