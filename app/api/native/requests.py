"""Requests and answers of the native API, over HTTP and WebSocket."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.api.problems import faults_of
from app.api.schemas import PredictRequest, SessionPart
from app.codec.numbers import echo, may_have_booleans, parse_json
from app.codec.states import StateForm
from app.errors import Fault, InvalidRequest
from app.service.inference import InferenceRequest, InferenceService
from app.sessions.continuation import SessionRef

NUMBERS = {"sequences", "initial_states"}
NO_OPTIONS = PredictRequest(sequences=[])

T = TypeVar("T", bound=BaseModel)


@dataclass(eq=False, kw_only=True)
class Prediction(InferenceRequest):
    """A request of the native API.

    Attributes:
        outputs: which of them the answer has.
        states: in which form the answer has the final states.
    """

    outputs: str
    states: StateForm


def decode(inference: InferenceService, body: bytes) -> Prediction:
    """Understands a body; raises `InvalidRequest` or `Unavailable`."""
    document = parse_object(body)
    if document.keys() <= NUMBERS and "sequences" in document:
        # Most requests have no options, and there is nothing to check.
        given = NO_OPTIONS
    else:
        given = checked(lambda: PredictRequest.model_validate(document))
    wanted, registry = given.model, inference.registry
    ready = registry.current(wanted.name, wanted.version) if wanted else registry.current()
    arrays = ready.codec.sequences.parse(document["sequences"], may_have_booleans(body))
    states = ready.codec.states.parse(document.get("initial_states"), len(arrays))
    work = Prediction(
        ready=ready,
        sequences=inference.sequences(ready, arrays, states),
        outputs=given.outputs,
        states=given.states,
    )
    if given.session is not None:
        if "states" not in given.model_fields_set:
            work.states = "none"
        work.piece = inference.piece(reference(given.session), work.sequences)
    return work


def answer(work: Prediction) -> dict[str, Any]:
    """The whole answer, for `print_json`."""
    made = head(work)
    if work.outputs == "all":
        made["outputs"] = [s.outputs for s in work.sequences]
    elif work.outputs == "last":
        made["outputs"] = [s.outputs[-1] for s in work.sequences]
    return made | tail(work)


def head(work: Prediction) -> dict[str, Any]:
    """What is known before anything is computed."""
    manifest = work.ready.manifest
    return {"model": {"name": manifest.name, "version": manifest.version}}


def tail(work: Prediction) -> dict[str, Any]:
    """What is known when all is computed."""
    made: dict[str, Any] = {}
    if work.states != "none":
        printable = work.ready.codec.states.printable
        made["states"] = [printable(work.states, state) for state in work.final_states]
    return made | session_of(work)


def session_of(work: Prediction) -> dict[str, Any]:
    """Where the session is, if there is one."""
    if work.piece is None:
        return {}
    return {"session": {"id": work.piece.ref.name, "time_step": work.time_step}}


def reference(session: SessionPart) -> SessionRef:
    """A session as a request names it."""
    return SessionRef(session.id, session.time_step, session.key)


def parse_object(body: str | bytes) -> dict[str, Any]:
    """A body that is a JSON object; raises `InvalidRequest`."""
    document = parse_json(body)
    if not isinstance(document, dict):
        raise InvalidRequest(Fault("", f"the body must be an object, got {echo(document)}"))
    return document


def checked(validate: Callable[[], T]) -> T:
    """A request's options; raises `InvalidRequest` where pydantic refuses them."""
    try:
        return validate()
    except ValidationError as error:
        raise InvalidRequest(*faults_of(error.errors(include_url=False))) from None
