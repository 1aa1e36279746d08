"""`Core` and `SessionCore`: everything that a client does but sending it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from unroll_client import decode, encode, lines
from unroll_client.encode import Batch, Rows
from unroll_client.errors import MAX_TEXT, InvalidInput, NotFound
from unroll_client.plans import Answered, Call, Plan
from unroll_client.results import (
    Document,
    ModelInfo,
    ModelRef,
    Numbers,
    Outputs,
    Prediction,
    SequencePrediction,
    SessionInfo,
    State,
    States,
)

T = TypeVar("T")

JSON = {"Content-Type": "application/json"}


class Core:
    """Makes the plans of a client's calls.

    Args:
        answered: makes plans that send until there is an answer.
    """

    def __init__(self, answered: Answered) -> None:
        self._answered = answered

    def predict(
        self,
        sequences: Batch,
        initial_states: Sequence[State | None] | None,
        outputs: Outputs,
        states: States,
        model: ModelRef | str | None,
    ) -> Plan[Prediction]:
        """As `Client.predict`."""
        content = encode.body(
            encode.batch(sequences), initial_states, model, outputs=outputs, states=states
        )
        return self.read(_predict(content), decode.prediction)

    def predict_one(
        self,
        sequence: Rows,
        initial_state: State | None,
        outputs: Outputs,
        states: States,
        model: ModelRef | str | None,
    ) -> Plan[SequencePrediction]:
        """As `Client.predict_one`."""
        content = encode.body(
            [encode.rows(sequence)], [initial_state], model, outputs=outputs, states=states
        )
        return self.read(_predict(content), decode.sequence_prediction)

    def predict_in_chunks(
        self,
        sequences: Batch,
        initial_states: Sequence[State | None] | None,
        states: States,
        model: ModelRef | str | None,
    ) -> Plan[httpx.Response]:
        """As `Client.predict_in_chunks`: a response to read line by line."""
        content = encode.body(encode.batch(sequences), initial_states, model, states=states)
        call = Call("POST", "/predict", content, JSON | {"Accept": lines.MEDIA_TYPE}, stream=True)
        return self._answered(call, lambda response: response)

    def model(self) -> Plan[ModelInfo]:
        """As `Client.model`."""
        return self.read(Call("GET", "/models"), decode.ready_model)

    def session_info(self, path: str) -> Plan[SessionInfo]:
        """What is kept of a session."""
        return self.read(Call("GET", path), decode.session_info)

    def delete(self, path: str) -> Plan[None]:
        """Ends a session."""
        return self._answered(Call("DELETE", path), lambda _: None, gone_is_done=True)

    def read(self, call: Call, understand: Callable[[Document], T]) -> Plan[T]:
        """Sends a call until it is answered, and understands the answer."""
        return self._answered(call, lambda response: understand(decode.document(response.content)))


class SessionCore:
    """A session: where it is, and the plans of its calls.

    Args:
        core: of the client.
        id: of the session.
        initial_state: that the session begins from, if the service does not know it.
        must_exist: whether to raise `NotFound` rather than begin it.

    Attributes:
        id: as given.
        time_step: time steps so far; None until that is known.
    """

    def __init__(self, core: Core, id: str, initial_state: State | None, must_exist: bool) -> None:
        if not id:
            raise InvalidInput("a session needs an id")
        self.id = id
        self.time_step: int | None = None
        self._core = core
        self._initial_state = initial_state
        self._must_exist = must_exist
        self._path = _path_of(id)

    def send(self, sequence: Rows, outputs: Outputs, model: ModelRef | str | None) -> Plan[Numbers]:
        """As `Session.send`."""
        rows, single = encode.piece(sequence)
        if self.time_step is None:
            self.time_step = yield from self._find()
        begins: dict[str, Any] = {"id": self.id, "time_step": self.time_step}
        first = [self._initial_state] if self._initial_state is not None else None
        content = encode.body([rows], first, model, outputs=outputs, session=begins)
        made, self.time_step = yield from self._core.read(_predict(content), decode.session_piece)
        self._initial_state = None
        return encode.one_of(made, single, outputs)

    def info(self) -> Plan[SessionInfo]:
        """As `Session.info`."""
        return self._core.session_info(self._path)

    def end(self) -> Plan[None]:
        """As `Session.end`."""
        yield from self._core.delete(self._path)
        self.time_step = 0

    def _find(self) -> Plan[int]:
        """Where the service has the session; 0 for one that begins.

        From then on every piece says where it begins. Above 0 it is refused if the session has
        gone, so that one which has begun never begins anew.
        """
        try:
            found = yield from self._core.session_info(self._path)
        except NotFound:
            if self._must_exist:
                raise
            return 0
        self._initial_state = None
        return found.time_step


def _path_of(id: str) -> str:
    try:
        # httpx would take a dot for a folder.
        return "/sessions/" + quote(id, safe="").replace(".", "%2E")
    except UnicodeError as error:
        raise InvalidInput(f"the id {id[:MAX_TEXT]!r} cannot be sent: {error}") from None


def _predict(content: bytes) -> Call:
    return Call("POST", "/predict", content, JSON)
