"""`PredictEndpoint`: bodies and answers of `POST /predict`."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from starlette.datastructures import QueryParams
from starlette.types import Scope

from app.api.endpoint import Endpoint, Headers, Reply, checked, header_of, parse_object
from app.api.native.formats import JSON, NDJSON, OFFERED, WRITERS, Reader, reader_of
from app.api.negotiation import ANY, best
from app.api.schemas import PredictRequest, QueryOptions, SessionPart
from app.codec.binary_bodies import AnswerArrays
from app.codec.json_numbers import may_have_booleans, print_json
from app.codec.states import StateForm
from app.service.inference import InferenceRequest, InferenceService, new_sequences
from app.sessions.continuation import SessionRef

NUMBERS = {"sequences", "initial_states"}
NO_OPTIONS = PredictRequest(sequences=[])

# Values of Accept that clients send who want JSON.
USUAL = frozenset(
    {
        b"*/*",
        b"application/json",
        b"application/json, */*",
        b"application/json, text/plain, */*",
    }
)
# Where it weighs formats or names a kind of them, lines may be wanted, which need ASGI.
WEIGHED = re.compile(rb"\*|;[ \t]*q[ \t]*=")


@dataclass(eq=False, kw_only=True)
class Prediction(InferenceRequest):
    """A request of the native API.

    Attributes:
        outputs: which of them the answer has.
        states: in which form the answer has the final states.
    """

    outputs: str
    states: StateForm


class PredictEndpoint(Endpoint[Prediction]):
    """Bodies and answers in the formats that the head names, nearly always JSON."""

    def decoder(self, scope: Scope) -> Callable[[bytes], Prediction]:
        """See `Endpoint`."""
        content_type = header_of(scope, b"content-type") or JSON
        read = None if content_type == JSON else reader_of(content_type)
        if read is None:
            return partial(decode, self.inference)
        query = dict(QueryParams(scope["query_string"]))
        return lambda body: decode_binary(self.inference, body, read, query)

    def encode(self, scope: Scope, request: Prediction) -> Reply:
        """See `Endpoint`."""
        media_type = self.media_type(scope)
        if media_type in WRITERS:
            body = encode_binary(request, media_type)
        else:
            body = print_json(answer(request))
        return body, ((b"content-type", media_type.encode()),)

    def takes(self, headers: Headers) -> bool:
        """See `Endpoint`. An answer in lines needs ASGI's way."""
        return super().takes(headers) and not any(
            name == b"accept" and value not in USUAL and _may_want_lines(value.lower())
            for name, value in headers
        )

    def media_type(self, scope: Scope) -> str:
        """Of the answer."""
        accept = header_of(scope, b"accept") or ANY
        return JSON if accept in (ANY, JSON) else best(accept, OFFERED)


def _may_want_lines(accept: bytes) -> bool:
    return bool(WEIGHED.search(accept)) or NDJSON.encode() in accept


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
        sequences=new_sequences(arrays, states),
        outputs=given.outputs,
        states=given.states,
        timeout_s=given.timeout_s or math.inf,
    )
    if given.session is not None:
        if "states" not in given.model_fields_set:
            work.states = "none"
        work.piece = inference.piece(reference(given.session), work.sequences)
    return work


def decode_binary(
    inference: InferenceService, body: bytes, read: Reader, query: Mapping[str, str]
) -> Prediction:
    """Understands a body that is no JSON; raises `InvalidRequest` or `Unavailable`."""
    given = checked(lambda: QueryOptions.model_validate(query))
    ready = inference.registry.current(given.model, given.version)
    arrays = read(body, ready.codec, inference.max_body_bytes)
    work = Prediction(
        ready=ready,
        sequences=new_sequences(arrays.sequences, arrays.states),
        outputs=given.outputs,
        states=given.states or ("none" if given.session else "concatenated"),
        timeout_s=given.timeout_s or math.inf,
    )
    if given.session is not None:
        session = SessionPart(
            id=given.session,
            time_step=given.time_step,
            key=given.key,
            must_exist=given.must_exist,
        )
        work.piece = inference.piece(reference(session), work.sequences)
    return work


def answer(work: Prediction) -> dict[str, Any]:
    """The whole answer, for `print_json`."""
    made = head(work)
    if work.outputs == "all":
        made["outputs"] = [s.outputs for s in work.sequences]
    elif work.outputs == "last":
        made["outputs"] = [s.outputs[-1] for s in work.sequences]
    return made | tail(work)


def encode_binary(work: Prediction, media_type: str) -> bytes:
    """The whole answer in a format that is no JSON."""
    outputs: list[np.ndarray] | None = None
    states: np.ndarray | list[str] | None = None
    if work.outputs != "none":
        outputs = [s.outputs if work.outputs == "all" else s.outputs[-1:] for s in work.sequences]
    if work.states == "token":
        states = [work.ready.codec.states.tokens.seal(state) for state in work.final_states]
    elif work.states != "none":
        # Layer by layer they would be as many columns: here they are one row.
        states = np.stack(work.final_states)
    about: dict[str, Any] = head(work) | session_of(work)
    names = tuple(output.name for output in work.ready.manifest.outputs)
    return WRITERS[media_type](AnswerArrays(about, names, outputs, states))


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
    return SessionRef(session.id, session.time_step, session.key, must_exist=session.must_exist)
