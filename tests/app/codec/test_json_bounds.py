"""What is counted in a JSON text before it is parsed: all that is valid passes, attacks do not."""

import json
from typing import Any

import numpy as np
import pytest

from app.api import endpoint
from app.codec.json_bounds import ENVELOPE, UNCOUNTED_BYTES, JSONBounds
from app.errors import InvalidRequest

SEQUENCES = 16
NAMES = ("a", 'quo"ted', "brackets[{")
SIZE = 1 << 20
# A caller may give names that are all quotes or brackets.
OPTIONS = {"outputs": "all", "states": "none", "session": {"id": '"' * 256, "key": "[" * 256}}
STATES = {
    "layered": [[{"h": [0], "c": [0]}] * 3] * SEQUENCES,
    "row": [[0] * 6] * SEQUENCES,
    "token": ["u1.x"] * SEQUENCES,
}


def text_of(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def bounds_of(names: tuple[str, ...]) -> JSONBounds:
    return JSONBounds.of(names, 3, SEQUENCES)


@pytest.mark.parametrize("names", [NAMES, ("a",), NAMES * 10])
@pytest.mark.parametrize("steps", [1, 500])
@pytest.mark.parametrize("form", ["rows", "columns", "rows of /v1", "columns of /v1", "/v2"])
def test_the_densest_valid_requests_pass(names: tuple[str, ...], steps: int, form: str) -> None:
    rows = [[0] * len(names)] * steps
    columns = {f"{name}{number}": [0] * steps for number, name in enumerate(names)}
    state = {f"state_{layer}_{part}": [0] for layer in range(3) for part in "hc"}
    documents: dict[str, list[Any]] = {
        "rows": [{**OPTIONS, "sequences": [rows] * SEQUENCES, "initial_states": states}
                 for states in STATES.values()],
        "columns": [{**OPTIONS, "sequences": [columns] * SEQUENCES, "initial_states": states}
                    for states in STATES.values()],
        "rows of /v1": [{"instances": [{"sequences": rows, "lengths": 1, **state}] * SEQUENCES}],
        "columns of /v1": [{"inputs": {"sequences": [rows] * SEQUENCES,
                                       **{name: [[0]] * SEQUENCES for name in state}}}],
        "/v2": [{"inputs": [{"name": "sequences", "datatype": "FP32", "shape": [1, 1, 1],
                             "data": [rows] * SEQUENCES}]}],
    }  # fmt: skip
    bounds = bounds_of(tuple(columns))
    for document in documents[form]:
        # Nothing is so short that it is not counted.
        bounds.check(text_of(document).ljust(UNCOUNTED_BYTES + 1))


@pytest.mark.parametrize(
    ("item", "what"),
    [(b"[[]],", "arrays"), (b"[],", "arrays"), (b"{},", "objects"), (b'"",', "quotes")],
)
def test_what_no_request_of_the_model_has_is_refused_and_never_parsed(
    item: bytes, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "parse_json", lambda _: pytest.fail("it was parsed"))
    body = b'{"sequences":[' + item * (SIZE // len(item))
    with pytest.raises(InvalidRequest, match=rf"the body has \d+ {what}, the limit is \d+ in"):
        endpoint.parse_object(body, bounds_of(NAMES))


def test_many_keys_are_refused() -> None:
    body = b"{%s}" % b",".join(b'"k%d":1' % number for number in range(100_000))
    with pytest.raises(InvalidRequest, match="quotes"):
        bounds_of(NAMES).check(body)


def test_more_bytes_may_have_more_time_steps_but_no_more_of_anything_else() -> None:
    bounds = bounds_of(NAMES)
    row = b"[0,0,0],"
    assert len(row) == bounds.row_bytes
    bounds.check(row * (SIZE // len(row)))
    with pytest.raises(InvalidRequest):
        bounds.check((row * (SIZE // len(row))).replace(b",0,", b",[]"))
    assert bounds.objects < 2 * ENVELOPE


def test_a_short_text_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "count_nonzero", lambda _: pytest.fail("it was counted"))
    assert endpoint.parse_object(b"{}".ljust(UNCOUNTED_BYTES), bounds_of(NAMES)) == {}
    with pytest.raises(pytest.fail.Exception):
        endpoint.parse_object(b"{}".ljust(UNCOUNTED_BYTES + 1), bounds_of(NAMES))
