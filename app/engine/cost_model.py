"""`Cost`: how long a chunk takes, as measured at warm-up. The scheduler cuts chunks by it."""

from collections.abc import Sequence as Row
from dataclasses import dataclass

# A lane's work around a call, in seconds: choosing, packing, unpacking. It is about the same for
# every model, so it is not measured.
LANE_S = 0.1e-3
ROW_S = 10e-6
# Rows are enough when a chunk of so many time steps reaches this part of what more would reach.
TYPICAL_STEPS = 20
ENOUGH = 0.77
# The same where more rows hold nobody up: all rows end together, or many sequences wait anyhow.
AMPLE = 0.9
# A chunk takes at most so many seconds, since newcomers wait for it, but has at least so many time
# steps, so that it is worth its call.
QUANTUM_S = 16e-3
# The same while several callers share the engine: what one of them sends must not make the others
# wait for many times as long as they would without it.
SHARED_QUANTUM_S = 1e-3
MIN_STEPS = 8
# The most rows that `shortest_s` reckons with.
MAX_ENOUGH = 64
# Of all lengths of a chunk that reach this part of the best rate the longest is chosen: long
# sequences, whose callers wait longest, have fewer turns to wait for.
NEARLY = 0.95


@dataclass(frozen=True)
class Cost:
    """Seconds of a chunk: `call + rows * ROW_S + steps * (time_step + rows * row_step)`.

    Attributes:
        call_s: of a call, whatever its shape; above 0.
        time_step_s: of a time step, however many rows.
        row_step_s: of a time step of one row.
    """

    call_s: float
    time_step_s: float
    row_step_s: float

    @classmethod
    def fit(cls, rows: int, steps: int, one_s: float, long_s: float, full_s: float) -> "Cost":
        """From three measured calls; a difference that noise makes negative counts as 0.

        Args:
            rows: of the full call.
            steps: of the long and the full call.
            one_s: seconds of 1 row, 1 time step.
            long_s: seconds of 1 row, `steps` time steps.
            full_s: seconds of `rows` rows, `steps` time steps.
        """
        lone = max(0.0, long_s - one_s) / max(1, steps - 1)
        row = lone if rows == 1 else max(0.0, full_s - long_s) / ((rows - 1) * steps)
        return cls(one_s + LANE_S, max(0.0, lone - row), row)

    def chunk_s(self, rows: int, steps: int) -> float:
        """Seconds of a chunk."""
        a_step = self.time_step_s + rows * self.row_step_s
        return self.call_s + rows * ROW_S + steps * a_step

    def shortest_s(self) -> float:
        """Seconds of the shortest chunk that is worth its call when there are enough rows."""
        return self.chunk_s(self.enough_rows(MAX_ENOUGH), MIN_STEPS)

    def enough_rows(self, most: int, steps: int = TYPICAL_STEPS, enough: float = ENOUGH) -> int:
        """The fewest rows up to `most` that use the kernel well in a chunk of so many time steps.

        More rows would hold their callers for longer and gain little. `enough` is the part of a
        chunk's seconds that is spent on its rows.
        """
        for rows in range(1, most):
            useful = rows * (ROW_S + steps * self.row_step_s)
            if useful >= enough * self.chunk_s(rows, steps):
                return rows
        return most

    def best_steps(self, remaining: Row[int], most: int) -> int:
        """How long a chunk should be: the most useful time steps a second, or nearly.

        A row that ends within a chunk is computed to the chunk's end in vain; one that goes on pays
        for another call.

        Args:
            remaining: time steps left of each row, ascending, at least one row.
            most: the limit.
        """
        rows, most = len(remaining), self.most_steps(len(remaining), most)
        if remaining[0] == remaining[-1]:
            # No row ends before the others.
            return min(remaining[0], most)
        ended = 0
        rates: list[tuple[float, int]] = []
        # The rate can be best only where a row ends, or at the limit.
        for row, left in enumerate(remaining):
            steps = min(left, most)
            useful = ended + (rows - row) * steps
            rates.append((useful / self.chunk_s(rows, steps), steps))
            if steps == most:
                break
            ended += steps
        best = max(rate for rate, _ in rates)
        return next(steps for rate, steps in reversed(rates) if rate >= NEARLY * best)

    def most_steps(self, rows: int, most: int, quantum_s: float = QUANTUM_S) -> int:
        """The limit, or less where so many time steps would take longer than the quantum."""
        a_step = self.time_step_s + rows * self.row_step_s
        if a_step * most <= quantum_s:
            return most
        return min(most, max(MIN_STEPS, int(quantum_s / a_step)))
