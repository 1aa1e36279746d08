"""An answer line by line is the same wherever the network cuts it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll_client import ModelRef, NoAnswer, NotUnderstood, Unavailable
from unroll_client.lines import Lines

HEAD = {"model": {"name": "tiny\u2028", "version": 1}}
FIRST = {"sequence": 0, "time_step": 0, "outputs": [[1.0], [2.0]]}
SECOND = {"sequence": 1, "time_step": 64, "outputs": [[3.5]]}
LAST = {"states": ["u1.a", "u1.b"]}
STOPPING = {"error": {"title": "The service is stopping", "status": 503, "detail": "it stops"}}


def lines(*documents: Any) -> bytes:
    return b"".join(json.dumps(d, ensure_ascii=False).encode() + b"\n" for d in documents)


@given(st.lists(st.integers(0, 200)))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    data, taken, chunks = lines(HEAD, FIRST, SECOND, LAST), Lines(), []
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    for start, end in zip([0, *ends], ends, strict=False):
        chunks += taken.take(data[start:end])
    taken.end()
    assert [(c.sequence, c.time_step, c.outputs.tolist()) for c in chunks] == [
        (0, 0, [[1.0], [2.0]]),
        (1, 64, [[3.5]]),
    ]
    assert taken.model == ModelRef("tiny\u2028", 1)
    assert taken.states == ["u1.a", "u1.b"]


@pytest.mark.parametrize(
    "data", [b"", lines(HEAD), lines(HEAD, FIRST), lines(HEAD, FIRST, LAST)[:-1]]
)
def test_an_answer_without_its_last_line_is_no_answer(data: bytes) -> None:
    taken = Lines()
    taken.take(data)
    with pytest.raises(NoAnswer, match="before its last line"):
        taken.end()


def test_an_error_after_the_first_outputs_is_raised() -> None:
    taken = Lines()
    taken.take(lines(HEAD, FIRST))
    with pytest.raises(Unavailable, match="it stops"):
        taken.take(lines(STOPPING))


@pytest.mark.parametrize(
    "data",
    [
        b"<html>\n",
        lines([1]),
        lines(FIRST),
        lines(HEAD, {"sequence": 0}),
        lines(HEAD, LAST, FIRST),
        lines({"error": "text"}),
    ],
)
def test_what_is_not_unrolls_is_not_understood(data: bytes) -> None:
    with pytest.raises(NotUnderstood, match="no answer of Unroll"):
        Lines().take(data)
