"""State tokens: read back bit for bit, and every way in which one can be wrong."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from app.codec.state_token import PREFIX, StateTokens
from app.errors import InvalidRequest, OtherModel
from tests.app.running_service import Service, make_service
from tests.app.strategies import finite32

LAYERS = [("lstm", 2, ("h", "c")), ("gru", 1, ("h",))]
SIZE = 5
TOKENS = StateTokens("weather", 3, LAYERS)
states = arrays_of.arrays(np.float32, SIZE, elements=finite32)
STATE = np.arange(SIZE, dtype=np.float32)


def refusal(kind: type[InvalidRequest], token: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        TOKENS.open(token, "/initial_states/0")
    assert type(caught.value) is kind
    (fault,) = caught.value.faults
    assert fault.pointer == "/initial_states/0"
    return fault.message


@given(states)
def test_a_state_is_read_back_bit_for_bit(state: np.ndarray) -> None:
    token = TOKENS.seal(state)
    again = TOKENS.open(token, "")
    assert again.dtype == np.float32
    assert again.tobytes() == state.tobytes()


def test_a_token_fits_into_an_url_and_is_compact() -> None:
    token = StateTokens("weather", 1, [("lstm", 100, ("h", "c"))] * 3).seal(
        np.random.default_rng(0).normal(size=600).astype(np.float32)
    )
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
    # 4 bytes a number, 4 letters for 3 bytes, and less than 64 letters besides.
    assert len(token) < 600 * 4 * 4 / 3 + 64


@given(state=states, data=st.data())
def test_one_damaged_letter_is_found(state: np.ndarray, data: st.DataObject) -> None:
    token = TOKENS.seal(state)
    place = data.draw(st.integers(len(PREFIX), len(token) - 1))
    # The last letter's lowest bits may belong to no byte.
    letters = [x for x in "AQgw-_" if x != token[place]]
    letter = data.draw(st.sampled_from(letters))
    damaged = token[:place] + letter + token[place + 1 :]
    whole = len(token[len(PREFIX) :]) % 4
    if place == len(token) - 1 and whole and _bytes(damaged) == _bytes(token):
        return
    assert "damaged" in refusal(InvalidRequest, damaged)


def _bytes(token: str) -> bytes:
    text = token[len(PREFIX) :]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@given(st.text(max_size=200))
def test_any_text_is_refused(text: str) -> None:
    refusal(InvalidRequest, text)
    refusal(InvalidRequest, PREFIX + text)


@given(st.integers(0, 60))
def test_a_token_cut_short_is_refused(length: int) -> None:
    token = TOKENS.seal(STATE)
    if length < len(token):
        refusal(InvalidRequest, token[:length])


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (StateTokens("weather", 2, LAYERS), "is of 'weather' version 2, but 'weather' version 3"),
        (StateTokens("tides", 3, LAYERS), "is of 'tides' version 3, but 'weather' version 3"),
        (StateTokens("weather", 3, [("lstm", 2, ("h", "c")), ("rnn", 1, ("h",))]), "whose layers"),
    ],
)
def test_a_token_of_another_model_is_refused_with_both_named(
    other: StateTokens, named: str
) -> None:
    assert named in refusal(OtherModel, other.seal(STATE))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_token_with_what_is_no_number_is_refused(bad: float) -> None:
    """Nobody is given one, but anybody can make one."""
    state = STATE.copy()
    state[3] = bad
    assert "not finite" in refusal(InvalidRequest, TOKENS.seal(state))


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir) as service:
        yield service.wait_until_ready()


SEQUENCE = [[1, 0, 0, 0], [2, 0, 0, 0]]


def asked(service: Service, **body: Any) -> Any:
    return service.post("/predict", json=body)


def test_a_service_takes_back_the_token_that_it_gave(service: Service) -> None:
    first = asked(service, sequences=[SEQUENCE], states="token").json()
    (token,) = first["states"]
    assert token.startswith(PREFIX)
    second = asked(service, sequences=[SEQUENCE], initial_states=[token]).json()
    assert second["states"] == [[{"h": [6.0]}]]


def test_a_service_answers_409_to_anothers_token_and_422_to_a_damaged_one(
    service: Service,
) -> None:
    other = StateTokens("tiny", 7, [("rnn", 1, ("h",))]).seal(np.ones(1, np.float32))
    for token, status, named in (
        (other, 409, "version 7, but 'tiny' version 1 is served"),
        (other[:-1], 422, "damaged state token"),
        ("abc", 422, "is no state token"),
    ):
        answer = asked(service, sequences=[SEQUENCE, SEQUENCE], initial_states=[None, token])
        assert answer.status_code == status
        (error,) = answer.json()["errors"]
        assert error["pointer"] == "/initial_states/1"
        assert named in error["message"]
