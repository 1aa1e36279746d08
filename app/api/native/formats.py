"""The formats of `POST /predict` beside JSON, and what reads and prints each.

A request is in the format that its `Content-Type` says, with its options in the query string; the
answer is in the one of `OFFERED` that its `Accept` prefers. Without either it is JSON.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from app.api.native import ndjson
from app.api.native.requests import Prediction, answer, checked, head, reference, session_of
from app.api.schemas import QueryOptions, SessionPart
from app.codec import arrow, npz
from app.codec.binary_bodies import AnswerArrays, RequestArrays
from app.codec.model_codec import Codec
from app.codec.numbers import print_json
from app.service.inference import InferenceService

JSON = "application/json"
OFFERED = (JSON, ndjson.MEDIA_TYPE, arrow.MEDIA_TYPE, npz.MEDIA_TYPE)

Reader = Callable[[bytes, Codec, int], RequestArrays]

READERS: dict[str, Reader] = {
    arrow.MEDIA_TYPE: lambda body, codec, _: arrow.read(body, codec),
    npz.MEDIA_TYPE: npz.read,
}
WRITERS: dict[str, Callable[[AnswerArrays], bytes]] = {
    arrow.MEDIA_TYPE: arrow.write,
    npz.MEDIA_TYPE: npz.write,
}


def reader_of(content_type: str) -> Reader | None:
    """Who reads a body of this type; None for JSON."""
    return READERS.get(content_type.partition(";")[0].strip().lower())


def decode_batch(
    inference: InferenceService, body: bytes, read: Reader, query: Mapping[str, str]
) -> Prediction:
    """Understands a body that is no JSON; raises `InvalidRequest` or `Unavailable`."""
    given = checked(lambda: QueryOptions.model_validate(query))
    ready = inference.registry.current(given.model, given.version)
    batch = read(body, ready.codec, inference.max_body_bytes)
    work = Prediction(
        ready=ready,
        sequences=inference.sequences(ready, batch.sequences, batch.states),
        outputs=given.outputs,
        states=given.states or ("none" if given.session else "concatenated"),
    )
    if given.session is not None:
        session = SessionPart(id=given.session, time_step=given.time_step, key=given.key)
        work.piece = inference.piece(reference(session), work.sequences)
    return work


def encode(work: Prediction, media_type: str) -> bytes:
    """Prints the answer."""
    if media_type not in WRITERS:
        return print_json(answer(work))
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
