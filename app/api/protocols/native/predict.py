"""`PredictEndpoint`: bodies and answers of `POST /predict`."""

import math
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from starlette.datastructures import QueryParams
from starlette.types import Scope

from app.api.endpoint import (
    Endpoint,
    Headers,
    Printing,
    Reply,
    checked,
    header_of,
    parse_object,
    print_object,
)
from app.api.negotiation import ANY, best
from app.api.protocols.native.formats import JSON, NDJSON, OFFERED, WRITERS, Reader, reader_of
from app.api.schemas import PredictRequest, QueryOptions, SessionPart
from app.codec.binary_bodies import AnswerArrays
from app.codec.json_numbers import may_have_booleans
from app.codec.model_codec import Codec, check_name
from app.codec.states import State, StateForm
from app.registry.registry import LoadedModel
from app.service.inference import InferenceRequest, InferenceService, new_sequences
from app.service.large_bodies import Decoder
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


class Parts(NamedTuple):
    """What a body is read as: float32 `[T, F]` and initial states, and its options."""

    arrays: list[np.ndarray]
    states: list[State | None]
    outputs: str
    form: StateForm
    session: SessionRef | None
    timeout_s: float


class PredictEndpoint(Endpoint[Prediction]):
    """Bodies and answers in the formats that the head names, nearly always JSON."""

    _ready: LoadedModel | None = None
    _json: Decoder[Parts, Prediction]

    def decoder(self, scope: Scope) -> Decoder[Parts, Prediction]:
        """See `Endpoint`."""
        inference = self.inference
        ready = inference.registry.current()
        content_type = header_of(scope, b"content-type") or JSON
        reader = None if content_type == JSON else reader_of(content_type)
        if reader is None:
            return self._of_json(ready)
        make = partial(prediction, inference, ready)
        query = dict(QueryParams(scope["query_string"]))
        given = checked(lambda: QueryOptions.model_validate(query))
        check_name(given.model, ready.codec.name)
        ready.codec.check_version(given.version)
        read = partial(read_binary, ready.codec, reader, given, inference.max_body_bytes)
        return Decoder(read, make, reader.size, given.timeout_s or math.inf)

    def _of_json(self, ready: LoadedModel) -> Decoder[Parts, Prediction]:
        # Kept: nearly all requests have this one.
        if self._ready is not ready:
            self._ready = ready
            make = partial(prediction, self.inference, ready)
            self._json = Decoder(partial(read_json, ready.codec), make)
        return self._json

    def encode(self, scope: Scope, request: Prediction) -> Printing[Any]:
        """See `Endpoint`."""
        media_type = self.media_type(scope)
        if media_type in WRITERS:
            return Printing(partial(print_arrays, media_type), answer_arrays(request))
        return Printing(print_object, answer(request))

    def takes(self, headers: Headers) -> bool:
        """See `Endpoint`. An answer in lines needs ASGI's way."""
        if b"accept" in dict(headers) and any(
            name == b"accept" and value not in USUAL and _may_want_lines(value.lower())
            for name, value in headers
        ):
            return False
        return super().takes(headers)

    def media_type(self, scope: Scope) -> str:
        """Of the answer."""
        accept = header_of(scope, b"accept") or ANY
        return JSON if accept in (ANY, JSON) else best(accept, OFFERED)


def _may_want_lines(accept: bytes) -> bool:
    return bool(WEIGHED.search(accept)) or NDJSON.encode() in accept


def read_json(codec: Codec, body: bytes) -> Parts:
    """Understands a body; raises `InvalidRequest`."""
    document = parse_object(body, codec.bounds)
    given, states = NO_OPTIONS, NO_OPTIONS.states
    # Most requests have no options, and there is nothing to check.
    if not document.keys() <= NUMBERS or "sequences" not in document:
        options = {name: None if name in NUMBERS else value for name, value in document.items()}
        given = checked(lambda: PredictRequest.model_validate(options))
        if wanted := given.model:
            check_name(wanted.name, codec.name)
            codec.check_version(wanted.version)
        states = given.states
        if given.session is not None and "states" not in given.model_fields_set:
            states = "none"
    arrays = codec.sequences.parse(document["sequences"], may_have_booleans(body))
    initial = codec.states.parse(document.get("initial_states"), len(arrays))
    session = reference(given.session) if given.session else None
    wait_s = given.timeout_s or math.inf
    return Parts(arrays, initial, given.outputs, states, session, wait_s)


def read_binary(
    codec: Codec, reader: Reader, given: QueryOptions, limit: int, body: bytes
) -> Parts:
    """Understands a body that is no JSON; raises `InvalidRequest`.

    Args:
        codec: of the model.
        reader: of the body's format.
        given: options of the request.
        limit: bytes that the body may unpack to.
        body: of the request.
    """
    arrays = reader.read(body, codec, limit)
    states = given.states or ("none" if given.session else "concatenated")
    session = None
    if given.session is not None:
        part = SessionPart(
            id=given.session,
            time_step=given.time_step,
            key=given.key,
            must_exist=given.must_exist,
        )
        session = reference(part)
    wait_s = given.timeout_s or math.inf
    return Parts(arrays.sequences, arrays.states, given.outputs, states, session, wait_s)


def prediction(inference: InferenceService, ready: LoadedModel, parts: Parts) -> Prediction:
    """The request that a body's parts are; raises `InvalidRequest`."""
    work = Prediction(
        ready=ready,
        sequences=new_sequences(parts.arrays, parts.states),
        outputs=parts.outputs,
        states=parts.form,
        timeout_s=parts.timeout_s,
    )
    if parts.session is not None:
        work.piece = inference.piece(parts.session, work.sequences)
    return work


def answer(work: Prediction) -> dict[str, Any]:
    """The whole answer, for `print_json`."""
    made = head(work)
    if work.outputs == "all":
        made["outputs"] = [s.outputs for s in work.sequences]
    elif work.outputs == "last":
        made["outputs"] = [s.outputs[-1] for s in work.sequences]
    if work.ready.codec.bases is not None and "outputs" in made:
        made |= told(work, made["outputs"])
    return made | tail(work)


def told(work: InferenceRequest, outputs: Any) -> dict[str, Any]:
    """Outputs as callers are told them: with their bases, if some have one.

    Args:
        work: the request.
        outputs: float32, of a sequence or a list of several.
    """
    bases = work.ready.codec.bases
    if bases is None:
        return {"outputs": outputs}
    whole = [bases.add(o) for o in outputs] if isinstance(outputs, list) else bases.add(outputs)
    return {"outputs": whole, "dtype": "float64"}


def print_arrays(media_type: str, arrays: AnswerArrays) -> Reply:
    """An answer in a format that is no JSON."""
    return WRITERS[media_type](arrays), ((b"content-type", media_type.encode()),)


def answer_arrays(work: Prediction) -> AnswerArrays:
    """The whole answer, for a format that is no JSON."""
    outputs: list[np.ndarray] | None = None
    states: np.ndarray | list[str] | None = None
    if work.outputs != "none":
        outputs = [s.outputs if work.outputs == "all" else s.outputs[-1:] for s in work.sequences]
        outputs = told(work, outputs)["outputs"]
    if work.states == "token":
        states = [work.ready.codec.states.tokens.seal(state) for state in work.final_states]
    elif work.states != "none":
        # Layer by layer they would be as many columns: here they are one row.
        states = np.stack(work.final_states)
    about: dict[str, Any] = head(work) | session_of(work)
    names = tuple(output.name for output in work.ready.manifest.outputs)
    return AnswerArrays(about, names, outputs, states)


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
