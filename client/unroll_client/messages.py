"""`Messages`: a conversation over WebSocket. No input or output of its own."""

from typing import Any

from unroll_client import decode, encode
from unroll_client.encode import Rows
from unroll_client.errors import NoAnswer, Problem
from unroll_client.results import Array, Outputs, State


class Messages:
    """What is said on a stream: a message, its answer, the next message.

    Args:
        initial_state: to begin from; None for zeros.

    Attributes:
        saved: the last state that was asked for; before that, the initial one.
    """

    def __init__(self, initial_state: State | None) -> None:
        self.saved = initial_state
        self._begins: dict[str, Any] = {}
        self._asked = False
        self._single = False
        self._outputs: Outputs = "all"
        if initial_state is not None:
            self.begin(initial_state)

    def begin(self, initial_state: State | None) -> None:
        """Lets the next message begin anew from a state, or from zeros."""
        self._begins = {"initial_state": encode.state(initial_state)}
        self.saved = initial_state

    def ask(self, sequence: Rows, outputs: Outputs, save: bool) -> str:
        """The next message.

        Raises:
            InvalidInput: it cannot be sent.
            NoAnswer: that to an earlier one did not come, so nobody knows where the stream is.
        """
        if self._asked:
            raise NoAnswer("an earlier answer did not come: open another stream from `saved`")
        rows, self._single = encode.piece(sequence)
        self._asked, self._outputs = True, outputs
        states = "token" if save else "none"
        message = {"sequence": rows, "outputs": outputs, "states": states}
        return encode.to_json(message | self._begins).decode()

    def take(self, text: str | bytes) -> Array:
        """The outputs in an answer.

        Raises:
            Problem: the service refused the message; the stream is where it was.
            NotUnderstood: it is no answer of Unroll.
        """
        result, state = decode.stream_answer(text)
        self._asked = False
        if isinstance(result, Problem):
            raise result
        self._begins = {}
        if state is not None:
            self.saved = state
        if self._outputs == "last":
            return result.reshape(-1)
        return encode.one_of(result, self._single, self._outputs)
