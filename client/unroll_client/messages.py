"""`Messages`: a conversation over WebSocket. No input or output of its own."""

from dataclasses import dataclass
from typing import Any

from unroll_client import decode, encode
from unroll_client.encode import Rows
from unroll_client.errors import NoAnswer, Problem
from unroll_client.results import Numbers, Outputs, State


@dataclass(eq=False)
class _Part:
    """What is said from one beginning to the next.

    Attributes:
        saved: the last state that was asked for; before that, the initial one.
        begins: what a message says to begin it; nothing once the service has.
    """

    saved: State | None
    begins: dict[str, Any]


class Messages:
    """What is said on a stream: a message, its answer, the next message.

    Args:
        initial_state: to begin from; None for zeros.
    """

    def __init__(self, initial_state: State | None) -> None:
        self._part = _Part(None, {})
        # The part of a message that is not answered yet.
        self._asked: _Part | None = None
        self._single = False
        self._outputs: Outputs = "all"
        if initial_state is not None:
            self.begin(initial_state)

    @property
    def saved(self) -> State | None:
        """The last state that was asked for; before that, the initial one."""
        return self._part.saved

    def begin(self, initial_state: State | None) -> None:
        """Lets the next message begin anew from a state, or from zeros.

        Any thread may call it at any time: an answer under way belongs to the part before.
        """
        self._part = _Part(initial_state, {"initial_state": encode.state(initial_state)})

    def ask(self, sequence: Rows, outputs: Outputs, save: bool) -> str:
        """The next message.

        Raises:
            InvalidInput: it cannot be sent.
            NoAnswer: that to an earlier one did not come, so nobody knows where the stream is.
        """
        if self._asked is not None:
            raise NoAnswer("an earlier answer did not come: open another stream from `saved`")
        rows, self._single = encode.piece(sequence)
        part = self._part
        self._asked, self._outputs = part, outputs
        states = "token" if save else "none"
        message = {"sequence": rows, "outputs": outputs, "states": states}
        return encode.to_json(message | part.begins).decode()

    def take(self, text: str | bytes) -> Numbers:
        """The outputs in an answer.

        Raises:
            Problem: the service refused the message; the stream is where it was.
            NotUnderstood: it is no answer of Unroll.
        """
        result, state = decode.stream_answer(text)
        part, self._asked = self._asked, None
        assert part is not None, "this is a bug: nothing was asked"
        if isinstance(result, Problem):
            raise result
        part.begins = {}
        if state is not None:
            part.saved = state
        if self._outputs == "last":
            return result.reshape(-1)
        return encode.one_of(result, self._single, self._outputs)
