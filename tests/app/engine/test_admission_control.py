"""What is taken and what is refused: by room, by time, by callers. The clock stands until set."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.admission import (
    EXCESS,
    FIRST_PACE,
    LOOKS,
    MOST_PACE,
    OVERLOAD_S,
    PACE_S,
    RESERVED,
    TARGET_S,
    AdmissionControl,
    Flow,
    Pace,
)
from app.engine.cost_model import Cost
from app.errors import Overloaded
from tests.app.engine.scheduling import Clock

# A thousand time steps a second, however many rows; the pace is 1 once it is measured.
COST = Cost(call_s=1e-9, time_step_s=0.0, row_step_s=1e-3 - 1e-5 / 20)
PATIENT_S = 1e6


def control(
    sequences: int = 10**6, steps: int = 10**9, clock: Clock | None = None
) -> AdmissionControl:
    made = AdmissionControl(sequences, steps, COST, 1, clock or Clock())
    made.pace.value = 1.0
    return made


def refused(made: AdmissionControl, steps: int, caller: str = "", left_s: float = 1e6) -> bool:
    try:
        made.check(1, steps, caller, left_s)
    except Overloaded:
        return True
    return False


def test_a_request_is_taken_if_it_can_be_answered_in_its_time() -> None:
    made = control()
    made.take(1, 10_000)
    # Ten seconds of others, and one of its own.
    assert made.step_s == pytest.approx(1e-3)
    assert not refused(made, 1000, left_s=11.01)
    assert refused(made, 1000, left_s=10.99)
    assert refused(made, 1020, left_s=11.01)
    made.compute(5_000)
    assert not refused(made, 1000, left_s=6.01)
    made.give_back(10_000, 5_000)
    assert made.held.sequences == made.held.steps == 0


def test_who_is_alone_is_taken_however_long_it_takes() -> None:
    """Else a pace that was measured wrong would refuse all, and never be measured again."""
    made = control()
    made.pace.value = 1e9
    assert not refused(made, 10**6, left_s=0.1)
    made.take(1, 1)
    assert refused(made, 10**6, left_s=0.1)


def test_a_refusal_says_when_it_would_not_be_refused() -> None:
    clock = Clock()
    made = control(clock=clock)
    made.take(1, 10_000)
    with pytest.raises(Overloaded, match="would wait for 10.0 s, and 3.0 s are the most") as error:
        made.check(1, 1000, "", 4.0)
    seconds = error.value.retry_after_s
    assert seconds == pytest.approx(7.0)
    made.compute(int(seconds * 1000) + 1)
    clock.now += 2 * OVERLOAD_S
    assert not refused(made, 1000, left_s=4.0)


@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
def test_no_limit_depends_on_how_fast_the_model_is(factor: float) -> None:
    """What was measured beside the chunks, printing and parsing, counts as they do."""
    made = control()
    for _ in range(400):
        made.pace.measure(PACE_S * factor, PACE_S)
    assert made.pace.value == pytest.approx(factor, rel=1e-3)
    made.take(1, int(5_000 / factor))
    assert not refused(made, 0, left_s=5.1)
    assert refused(made, 0, left_s=4.9)


def test_a_pause_of_the_machine_does_not_make_the_pace() -> None:
    pace = Pace()
    pace.measure(3600.0, 0.01)
    assert pace.value <= (FIRST_PACE + MOST_PACE) / 2


def test_more_than_can_be_computed_is_known_after_a_second() -> None:
    flow, now = Flow(1.0), 100.0
    for look in range(2 * LOOKS):
        flow.came, flow.done = int(1000 * EXCESS) + 10, 1000
        assert flow.exceeds(now, they_wait=True) == (look >= LOOKS)
        assert not flow.exceeds(now, they_wait=True), "it was looked just now"
        now += 1 / LOOKS


@pytest.mark.parametrize("case", ["as much is computed", "they do not wait", "long ago"])
def test_a_burst_is_not_more_than_can_be_computed(case: str) -> None:
    """Nor are callers who each wait for their answer, however many."""
    flow, now = Flow(1.0), 100.0
    for look in range(20):
        flow.came, flow.done = (5000 if look == 0 else 1000), 1000
        if case == "they do not wait":
            flow.came = 5000
        if case == "long ago":
            flow.came, now = 5000, now + 2.0
        assert not flow.exceeds(now, they_wait=case != "they do not wait" or look % LOOKS > 0)
        now += 1 / LOOKS


def overloaded(clock: Clock) -> AdmissionControl:
    """Twice as much comes as is computed; in the end ten seconds of it wait."""
    made = control(clock=clock)
    made.take(1, 8_000)
    with suppress(Overloaded):
        for _ in range(20):
            assert not made.is_overloaded
            made.take(1, 200)
            made.compute(100)
            clock.now += 0.1
    assert made.is_overloaded
    made.compute(made.held.steps - made._computed_steps - 10_000)
    return made


def test_while_overloaded_nobody_waits_for_long() -> None:
    clock = Clock()
    made = overloaded(clock)
    assert refused(made, 1, left_s=PATIENT_S)
    made.compute(10_000 - int(TARGET_S * 900))
    assert not refused(made, 1, left_s=PATIENT_S)
    assert refused(made, 1, left_s=TARGET_S / 2), "its own time holds as well"


def test_the_next_is_weighed_anew_once_something_has_changed() -> None:
    clock = Clock()
    made = overloaded(clock)
    first = made.refusal_of_next("", PATIENT_S)
    assert first is not None
    assert made.refusal_of_next("", PATIENT_S) is first
    assert made.refusal_of_next("another", PATIENT_S) is None, "it has its own share"
    made.compute(10_000)
    assert made.refusal_of_next("", PATIENT_S) is None
    made.restore(10_000)
    again = made.refusal_of_next("", PATIENT_S)
    assert again is not None
    assert again is not first
    clock.now += 2 * OVERLOAD_S
    assert made.refusal_of_next("", PATIENT_S) is None, "it is overloaded no more"


def test_overload_ends_a_moment_after_the_last_who_was_refused() -> None:
    clock = Clock()
    made = overloaded(clock)
    for _ in range(5):
        clock.now += 0.9 * OVERLOAD_S
        assert refused(made, 1, left_s=PATIENT_S)
    clock.now += 1.1 * OVERLOAD_S
    assert not made.is_overloaded
    assert not refused(made, 1, left_s=PATIENT_S)


def test_a_caller_waits_for_its_own_share_only() -> None:
    """One who sends much waits for what it sent; another takes turns with it."""
    made = control()
    made.take(100, 100_000, "greedy")
    assert refused(made, 100, "greedy", left_s=50.0)
    assert not refused(made, 100, "modest", left_s=0.5)
    # It would be third, after two of the same length.
    made.take(1, 100, "another")
    assert not refused(made, 100, "modest", left_s=0.31)
    assert refused(made, 100, "modest", left_s=0.29)


def test_many_callers_of_one_request_each_wait_for_all() -> None:
    made = control()
    for number in range(1000):
        made.take(1, 100, f"caller {number}")
    assert refused(made, 100, "one more", left_s=99.0)
    assert not refused(made, 100, "one more", left_s=101.0)


def test_who_fills_the_room_leaves_some_for_others() -> None:
    made = control(sequences=100)
    made.take(100, 100, "greedy")
    assert refused(made, 1, "greedy")
    spare = 100 // RESERVED
    for number in range(spare):
        assert not refused(made, 1, f"modest {number}")
        made.take(1, 1, f"modest {number}")
    assert refused(made, 1, "too late")
    for number in range(spare):
        made.give_back(1, 0, f"modest {number}")
    for _ in range(100):
        made.give_back(1, 0, "greedy")
    assert not refused(made, 1, "greedy")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50), st.booleans()), max_size=60))
def test_what_is_held_is_what_was_taken_and_not_given_back(
    calls: list[tuple[str, int, bool]],
) -> None:
    made, held = control(sequences=8, steps=200), []
    for caller, steps, leaves in calls:
        if leaves and held:
            of, its = held.pop(steps % len(held))
            made.give_back(its, 0, of)
            continue
        try:
            made.take(1, steps, caller)
        except Overloaded:
            pass
        else:
            held.append((caller, steps))
        assert made.held.sequences == len(held) <= 8 + 8 // RESERVED
        assert made.held.steps == sum(its for _, its in held) <= 200 + 200 // RESERVED
