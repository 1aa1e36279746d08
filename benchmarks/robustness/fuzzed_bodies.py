"""Bodies for every decoder of the service: valid ones, most of them changed somewhere."""

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from app.api.protocols.native.stream import PATH as STREAM
from app.codec.state_token import StateTokens
from tests.app.fuzz_formats import arrow_body, change, npz_body
from tests.app.fuzz_open_inference import ODD, broken, change_bytes, change_document

# Of the model that is asked: two features, of which the second may be missing; one unit.
TOKENS = StateTokens("tiny", 1, [("rnn", 1, ("h",))])
# Of a thousand bodies so many are a piece of themselves, repeated to at most so many bytes.
REPEATED, MAX_BYTES = 5, 1 << 18
OUTPUTS = ["all", "last", "none"]
STATES = ["per_layer", "concatenated", "token", "none"]
# Digits and signs that numbers are changed to.
NUMBERS = ["1" * 400, "1e400", "-0", "1E-400", "0." + "0" * 400 + "1", "1e99999999", "Infinity"]


class Asked(NamedTuple):
    """A request, or a message of a stream.

    Attributes:
        path: that it goes to.
        body: of it.
        headers: besides its length, names in lower case.
        query: of its options.
    """

    path: str
    body: bytes
    headers: dict[str, str] = {}
    query: str = ""


class Kind(NamedTuple):
    """A kind of bodies: what makes one, and how many there are beside the others."""

    make: Callable[[random.Random], Asked]
    weight: int


def rows_of(chance: random.Random) -> list[list[float | None]]:
    """The time steps of a sequence."""
    steps = chance.choice([1, 1, 2, 5, 40])
    return [[float(step), chance.choice([1.5, None])] for step in range(steps)]


def sequence_of(chance: random.Random) -> Any:
    """A sequence as rows or as columns."""
    rows = rows_of(chance)
    if chance.random() < 0.7:
        return rows
    return {"a": [row[0] for row in rows], "b": [row[1] for row in rows]}


def state_of(chance: random.Random) -> Any:
    """An initial state in any form; of a token a character may be another one."""
    token = TOKENS.seal(np.array([chance.random()], np.float32))
    if chance.random() < 0.3:
        place = chance.randrange(len(token))
        token = token[:place] + chance.choice("Aa_-.=\x00\u00e9") + token[place + 1 :]
    return chance.choice([None, [0.5], [{"h": [0.5]}], token])


def changed(document: dict[str, Any], chance: random.Random) -> bytes:
    """A document as JSON, changed in a few places of it and of its text, or not at all."""
    changes = chance.choices(["document", "text"], [6, 1], k=chance.choice([0, 1, 1, 2, 4]))
    for _ in range(changes.count("document")):
        if document:
            change_document(document, chance)
    text = json.dumps(document).encode()
    for _ in range(changes.count("text")):
        text = change_bytes(text, chance)
    if chance.random() < 0.02:
        text = text.replace(b"1.0", chance.choice(NUMBERS).encode(), 1)
    return repeated(text, chance)


def repeated(text: bytes, chance: random.Random) -> bytes:
    """Seldom a piece of it again and again: deep, long, with many keys."""
    if chance.random() >= REPEATED / 1000 or not text:
        return text
    start = chance.randrange(len(text))
    piece = text[start : start + chance.choice([1, 1, 2, 3, 8, 100])]
    return text[:start] + piece * (chance.randint(1, MAX_BYTES) // len(piece)) + text[start:]


def predict(chance: random.Random) -> Asked:
    """JSON of `POST /predict`."""
    count = chance.randint(1, 3)
    document: dict[str, Any] = {"sequences": [sequence_of(chance) for _ in range(count)]}
    if chance.random() < 0.3:
        document["initial_states"] = [state_of(chance) for _ in range(count)]
    if chance.random() < 0.3:
        document |= {"outputs": chance.choice(OUTPUTS), "states": chance.choice(STATES)}
    if chance.random() < 0.2:
        session = {"id": chance.choice("abc"), "time_step": 0, "key": "k", "must_exist": False}
        document["session"] = dict(chance.sample(sorted(session.items()), chance.randint(1, 4)))
    if chance.random() < 0.1:
        document["model"] = chance.choice(["tiny", {"name": "tiny", "version": 1}])
    return Asked("/predict", changed(document, chance))


def in_lines(chance: random.Random) -> Asked:
    """The same, answered line by line."""
    return predict(chance)._replace(headers={"accept": "application/x-ndjson"})


def _binary(body: bytes, media_type: str, chance: random.Random) -> Asked:
    query = chance.choice(
        ["", "", "outputs=last&states=token", "session=a&time_step=0", "session=b&must_exist=0"]
    )
    if chance.random() < 0.1:
        query += chance.choice(["&", "&states=x", "&time_step=-1", "%00=1", "&=&=", "session=%ff"])
    if chance.random() < 0.5:
        body = change(body, chance)
    return Asked("/predict", repeated(body, chance), {"content-type": media_type}, query)


def npz(chance: random.Random) -> Asked:
    """NPZ of `POST /predict`."""
    return _binary(npz_body(chance), "application/x-npz", chance)


def arrow(chance: random.Random) -> Asked:
    """Arrow of `POST /predict`."""
    return _binary(arrow_body(chance), "application/vnd.apache.arrow.stream", chance)


def open_inference(chance: random.Random) -> Asked:
    """`/v2`, in JSON and in bytes."""
    body, headers = broken(chance)
    return Asked("/v2/models/tiny/infer", repeated(body, chance), headers)


def tensorflow_serving(chance: random.Random) -> Asked:
    """`/v1`, by rows and by columns."""
    sequences = [rows_of(chance) for _ in range(chance.randint(1, 3))]
    named = {"sequences": sequences, "lengths": [1] * len(sequences)}
    document: dict[str, Any] = chance.choice(
        [
            {"instances": sequences},
            {"instances": [{"sequences": rows, "state_0_h": [0.5]} for rows in sequences]},
            {"inputs": sequences},
            {"inputs": named, "signature_name": "serving_default"},
        ]
    )
    return Asked("/v1/models/tiny:predict", changed(document, chance))


def stream_message(chance: random.Random) -> Asked:
    """A message of `WS /stream`."""
    document: dict[str, Any] = {"sequence": sequence_of(chance)}
    if chance.random() < 0.3:
        document["initial_state"] = state_of(chance)
    if chance.random() < 0.3:
        document |= {"outputs": chance.choice(OUTPUTS), "states": chance.choice(STATES)}
    if chance.random() < 0.3:
        document["id"] = chance.choice([7, "x", *ODD])
    return Asked(STREAM, changed(document, chance))


KINDS: dict[str, Kind] = {
    "JSON": Kind(predict, 5),
    "lines": Kind(in_lines, 1),
    "NPZ": Kind(npz, 3),
    "Arrow": Kind(arrow, 3),
    "/v2": Kind(open_inference, 4),
    "/v1": Kind(tensorflow_serving, 2),
    "stream": Kind(stream_message, 2),
}
