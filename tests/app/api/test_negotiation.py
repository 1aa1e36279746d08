"""Which media type an `Accept` header asks for."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.negotiation import best

OFFERED = ("application/json", "application/x-ndjson", "text/csv")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", 0),
        ("*/*", 0),
        ("application/*", 0),
        ("text/*", 2),
        ("text/html", 0),
        ("application/x-ndjson", 1),
        ("Application/X-NDJSON", 1),
        (" application/x-ndjson ; charset=utf-8", 1),
        ("application/x-ndjson2", 0),
        ("x-application/x-ndjson", 0),
        ("application/json, text/plain, */*", 0),
        ("*/*, text/csv", 2),
        ("text/csv, application/x-ndjson", 2),
        ("application/x-ndjson, text/csv", 1),
        ("application/x-ndjson;q=0.5, text/csv", 2),
        ("application/x-ndjson;q=0.1, */*", 0),
        ("application/x-ndjson;q=0, */*;q=0.1", 0),
        ("application/x-ndjson;q=0", 0),
        ("application/json;q=0, application/*", 1),
        ("application/json;q=0.2, text/csv;q=0.3", 2),
        ("text/csv;q=7", 2),
        ("text/csv;q=nan", 2),
        ("text/csv;q=", 2),
        ("text/csv;Q=0.000, application/x-ndjson;q=0.001", 1),
        (",,;,/*,", 0),
    ],
)
def test_the_best_is_found(accept: str, wanted: int) -> None:
    assert best(accept, OFFERED) == OFFERED[wanted]


@given(st.text(alphabet=st.sampled_from("ajx*/,;q=01. n"), max_size=60))
def test_anything_is_answered_in_something(accept: str) -> None:
    assert best(accept, OFFERED) in OFFERED


def test_nothing_of_a_header_is_kept() -> None:
    """No cache: what callers send would fill it."""
    tracemalloc.start()
    try:
        for number in range(20):
            best(f"text/{number};" + "x" * 50_000, OFFERED)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50_000
