"""`AdmissionControl`: takes a request if there is room and it can be answered in its time.

How long a newcomer waits is known: what is admitted is so many time steps, chunks cost what warm-up
measured, and `Pace` is how many seconds pass for each of those seconds, with all that the rest of
the service does meanwhile. So no limit needs to be tuned for a model that is slower or faster.

A queue of all that can be answered in time is right for callers who are patient, and for bursts. It
is wrong while more comes than can be computed: then it only makes everybody wait, and callers give
up. So while that is so (`is_overloaded`), a newcomer is
taken only if it would wait for `TARGET_S` or less. That is CoDel's control of a standing queue
(Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012), with adaptive LIFO in
`Scheduler`, as Maurer has them together ("Fail at Scale", ACM Queue 2015).
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from app.engine.cost_model import TYPICAL_STEPS, Cost
from app.errors import Overloaded

# Seconds that a newcomer may wait while there is more than can be computed. A longer queue computes
# no more, and what fills it until it is known to be too long waits for longer than callers may.
TARGET_S = 0.2
# There is, where for twice that long all wait for longer than that, and so many times as much comes
# as is computed. A burst is over by then, and callers who wait for their answers send no more.
EXCESS = 1.2
# Looks in that time.
LOOKS = 4
# So many times as many sequences as a chunk has are taken all the same: with fewer, chunks would be
# less than full, and less would be computed.
FULL = 1.25
# Then there is for so many seconds, counted from the last request that is refused for it.
OVERLOAD_S = 1.0
# Seconds of work over which the pace is measured, and its first guess.
PACE_S, FIRST_PACE = 0.2, 1.5
# A pause of the whole machine says nothing about the pace: an interval counts no more than this
# many times what it was expected to take.
MOST_PACE = 50.0
# Beyond the limits on room there is another part of it for callers who have less than their share,
# so that a few who fill the room do not lock the others out.
RESERVED = 4


class Pace:
    """Seconds that pass for each second of a chunk as its cost says, under load."""

    def __init__(self) -> None:
        self.value = FIRST_PACE
        self._passed_s = self._expected_s = 0.0

    def measure(self, passed_s: float, expected_s: float) -> None:
        """Takes in that so much work took so long."""
        self._passed_s += min(passed_s, MOST_PACE * expected_s)
        self._expected_s += expected_s
        if self._passed_s >= PACE_S:
            self.value = (self.value + self._passed_s / self._expected_s) / 2
            self._passed_s = self._expected_s = 0.0


@dataclass(slots=True)
class Held:
    """What is admitted and has not left.

    Attributes:
        sequences: how many.
        steps: time steps of these.
    """

    sequences: int = 0
    steps: int = 0


# Of a caller who has nothing.
NOTHING = Held()


class Flow:
    """Whether more comes than is computed, for some time.

    Args:
        seconds: how long.

    Attributes:
        came, done: time steps since the last look.
    """

    def __init__(self, seconds: float) -> None:
        self.came = self.done = 0
        self._seconds = seconds
        self._parts: deque[tuple[int, int]] = deque(maxlen=LOOKS)
        self._looked = -math.inf

    @property
    def is_filling(self) -> bool:
        """Whether they waited for long at the last look."""
        return bool(self._parts)

    def exceeds(self, now: float, they_wait: bool) -> bool:
        """Looks, some times a second; whether all waited for long, and more came than was computed.

        Args:
            now: seconds.
            they_wait: whether they wait for long now.
        """
        if now - self._looked < self._seconds / LOOKS:
            return False
        if not they_wait or now - self._looked > self._seconds:
            self._parts.clear()
        else:
            self._parts.append((self.came, self.done))
        self._looked, self.came, self.done = now, 0, 0
        if len(self._parts) < LOOKS:
            return False
        came, done = map(sum, zip(*self._parts, strict=True))
        return came > EXCESS * done


class AdmissionControl:
    """Counts what waits and runs, and what was promised room; refuses what goes over the limits.

    Args:
        max_sequences: limit of the sequences.
        max_steps: limit of their time steps together.
        cost: of chunks.
        rows: of a chunk that uses the kernel well.
        clock: now, in seconds.

    Attributes:
        held: by all callers.
        pace: of the work.
    """

    def __init__(
        self,
        max_sequences: int,
        max_steps: int,
        cost: Cost,
        rows: int,
        clock: Callable[[], float],
    ) -> None:
        self._max_sequences = max_sequences
        self._max_steps = max_steps
        # Seconds of a time step of one row, its part of the call included.
        self.step_s = cost.chunk_s(rows, TYPICAL_STEPS) / (rows * TYPICAL_STEPS)
        self._target_s = max(TARGET_S, 2 * cost.shortest_s())
        self._enough = FULL * rows
        self._clock = clock
        self.held = Held()
        self.pace = Pace()
        # Time steps of `held` that are computed.
        self._computed_steps = 0
        self._callers: dict[str, Held] = {}
        self._flow = Flow(2 * self._target_s)
        self._overloaded_until = 0.0
        # Who was refused since something was computed or left, and why.
        self._last_refused: tuple[str, Overloaded] | None = None

    @property
    def is_overloaded(self) -> bool:
        """Whether more comes, or came a moment ago, than can be computed in time."""
        until = self._overloaded_until
        # Nearly always there has been none: the clock need not be asked.
        return until > 0.0 and self._clock() < until

    @property
    def num_callers(self) -> int:
        """Callers of what is held."""
        return len(self._callers)

    @property
    def is_crowded(self) -> bool:
        """Whether a newcomer may be refused that has as long as most have."""
        held = self.held
        left = held.steps - self._computed_steps
        return (
            left * self.step_s * self.pace.value > self._target_s
            or held.sequences >= self._max_sequences
            or held.steps >= self._max_steps
        )

    def check(self, sequences: int, steps: int, caller: str, left_s: float) -> None:
        """As `refusal`; raises it."""
        error = self.refusal(sequences, steps, caller, left_s)
        if error is not None:
            raise error

    def refusal(self, sequences: int, steps: int, caller: str, left_s: float) -> Overloaded | None:
        """Why so many more sequences are not taken: there is no room, or too little time.

        Args:
            sequences: of the request.
            steps: of them together.
            caller: who sends it.
            left_s: seconds until it must be answered.

        Returns:
            None if they are taken.
        """
        held = self.held
        if held.sequences == 0 and sequences <= self._max_sequences and steps <= self._max_steps:
            # Nobody waits: it is computed at once, however long it takes.
            return None
        if self._is_at_ease(sequences, steps, left_s):
            return None
        own = self._callers.get(caller, NOTHING)
        if held.sequences + sequences > self._max_sequences and self._has_no_share(
            held.sequences, own.sequences, sequences, self._max_sequences
        ):
            return _full(held.sequences, "sequences", self._max_sequences)
        if held.steps + steps > self._max_steps and self._has_no_share(
            held.steps, own.steps, steps, self._max_steps
        ):
            return _full(held.steps, "time steps", self._max_steps)
        if held.sequences == 0:
            return None
        return self._is_late(own, steps, left_s)

    def refusal_of_next(self, caller: str, left_s: float) -> Overloaded | None:
        """As `refusal` of a caller's next request, of which nothing is known, while overloaded.

        It is asked thousands of times a second, and answered as before while nothing has changed.

        Args:
            caller: who sends it.
            left_s: seconds until it must be answered, the same at each call.
        """
        if not self.is_overloaded:
            return None
        if self._last_refused is not None and self._last_refused[0] == caller:
            return self._last_refused[1]
        error = self.refusal(1, 0, caller, left_s)
        if error is not None:
            self._last_refused = caller, error
        return error

    def _is_late(self, own: Held, steps: int, left_s: float) -> Overloaded | None:
        """Why a caller's next request would wait for too long; None if it would not."""
        wait_s, now = self._wait_s(own, steps), self._clock()
        if self._flow.exceeds(now, wait_s > self._target_s):
            self._overloaded_until = now + OVERLOAD_S
        if now >= self._overloaded_until:
            self._overloaded_until = 0.0
        most_s = left_s - self._seconds(steps)
        if self._overloaded_until and self._is_too_many(wait_s):
            self._overloaded_until = now + OVERLOAD_S
            most_s = min(most_s, self._target_s)
        if wait_s <= most_s:
            return None
        text = f"it would wait for {wait_s:.1f} s, and {max(0.0, most_s):.1f} s are the most now"
        return Overloaded(text, wait_s - most_s)

    def _is_at_ease(self, sequences: int, steps: int, left_s: float) -> bool:
        """Whether all that is held and a request are soon computed, and nothing has been refused.

        As nearly always: then there is nothing to weigh.
        """
        sequences += self.held.sequences
        steps += self.held.steps
        return (
            self.pace.value * self.step_s * steps <= min(left_s, self._target_s)
            and sequences <= self._max_sequences
            and steps <= self._max_steps
            and not (self._overloaded_until or self._flow.is_filling)
        )

    def take(self, sequences: int, steps: int, caller: str = "", left_s: float = math.inf) -> None:
        """Admits them; as `check`.

        Raises:
            Overloaded: they are not taken.
        """
        self._flow.came += steps
        self.check(sequences, steps, caller, left_s)
        own = self._callers.get(caller)
        if own is None:
            own = self._callers[caller] = Held()
        own.sequences += sequences
        own.steps += steps
        self.held.sequences += sequences
        self.held.steps += steps

    def compute(self, steps: int) -> None:
        """So many time steps of what is held are computed."""
        self._computed_steps += steps
        self._flow.done += steps
        self._last_refused = None

    def restore(self, steps: int) -> None:
        """So many time steps that were computed may have to be computed again."""
        self._computed_steps -= steps

    def give_back(self, steps: int, computed: int, caller: str = "") -> None:
        """One sequence has left.

        Args:
            steps: its time steps.
            computed: those of them that `compute` was told of.
            caller: who sent it.
        """
        self._last_refused = None
        own = self._callers[caller]
        own.sequences -= 1
        own.steps -= steps
        self.held.sequences -= 1
        self.held.steps -= steps
        self._computed_steps -= computed
        if own.sequences == 0:
            del self._callers[caller]

    def _is_too_many(self, wait_s: float) -> bool:
        """Whether nobody is to wait for so long, and there is enough for full chunks."""
        return wait_s > self._target_s and self.held.sequences >= self._enough

    def _wait_s(self, own: Held, steps: int) -> float:
        """Seconds until a caller's next request begins, with slots in turns of the callers."""
        callers = len(self._callers) + (own is NOTHING)
        in_turns = (own.steps + steps) * callers - steps
        return self._seconds(min(self.held.steps - self._computed_steps, in_turns))

    def _seconds(self, steps: int) -> float:
        return self.pace.value * self.step_s * steps

    def _has_no_share(self, held: int, own: int, more: int, limit: int) -> bool:
        """Whether what goes over a limit is not the caller's share of the reserve either."""
        share = limit // (len(self._callers) + 1)
        return held + more > limit + limit // RESERVED or own + more > share


def _full(held: int, what: str, limit: int) -> Overloaded:
    return Overloaded(f"{held} {what} are waiting or running, the limit is {limit}")
