"""Where a table is cut into training, validation and test.

It is cut by time, at the same moment for every series, with a gap of the longest horizon between
the splits. Where a table has many series and no times, each series is in one split as a whole.
"""

from typing import NamedTuple

import numpy as np

from model.data.cells import DataError
from model.data.time_index import Ticks, shown
from model.tasks.task import TaskConfig

# Without times, so many series are split as wholes; of fewer each is cut.
MANY_SERIES = 10
SPLITS = ("train", "validation", "test")
# A split that is so many pasts long has enough rows behind its first ones.
LONG = 10


class Rows(NamedTuple):
    """Which rows a split has.

    Attributes:
        all: int64 `[K]`, with those before it.
        own: bool `[K]`: which are of the split itself.
    """

    all: np.ndarray
    own: np.ndarray


def cut(
    times: np.ndarray,
    ticks: Ticks,
    series: np.ndarray,
    task: TaskConfig,
    left_out: str,
    part: float = 1.0,
    past_steps: int = 0,
) -> dict[str, Rows]:
    """The rows of each split.

    Args:
        times: `[N]`, for errors.
        ticks: where the rows stand.
        series: which series a row is of, int `[N]`, counted from 0.
        task: says how large the splits are.
        left_out: of the table, for errors.
        part: of the time covered, from its beginning; what is later is in no split.
        past_steps: so many time steps before validation and test come with them where they are
            short, unless series are in one split as a whole.

    Returns:
        By the name of the split.

    Raises:
        DataError: a split has no row.
    """
    whole = task.time is None and int(series.max()) + 1 >= MANY_SERIES
    # In an order that nothing in the table tells: a file may be sorted by what is to be learnt.
    drawn = np.random.default_rng(0).permutation(int(series.max()) + 1)
    places = drawn[series] if whole else ticks.of_rows
    spans = _spans(places, 0 if whole else task.max_horizon * ticks.step, task, part)
    wanted = 0 if whole else past_steps * ticks.step
    rows = {}
    for name, (start, end) in spans.items():
        past = wanted if end - start < LONG * wanted else 0
        found = np.flatnonzero((places >= start - past) & (places < end))
        rows[name] = Rows(found, places[found] >= start)
        if not rows[name].own.any():
            told = _told(times, ticks, spans, task)
            because = f" ({left_out})" if left_out else ""
            raise DataError(f"the {name} split is empty: {told}{because}")
    return rows


def _spans(
    places: np.ndarray, gap: int, task: TaskConfig, part: float
) -> dict[str, tuple[float, float]]:
    """From which place on, and up to which, each split goes."""
    first = int(places.min())
    last = first + int(part * (int(places.max()) - first))
    cuts = [
        first + (last - first) * fraction
        for fraction in (task.train_fraction, task.train_fraction + task.validation_fraction)
    ]
    return dict(
        zip(
            SPLITS,
            [(first, cuts[0]), (cuts[0] + gap, cuts[1]), (cuts[1] + gap, last + 1)],
            strict=True,
        )
    )


def _told(
    times: np.ndarray, ticks: Ticks, spans: dict[str, tuple[float, float]], task: TaskConfig
) -> str:
    """What each split spans or would span, and what helps."""
    order = np.argsort(ticks.of_rows, kind="stable")

    def time_at(place: float) -> str:
        found = int(np.searchsorted(ticks.of_rows[order], place))
        return shown(times[order[min(found, len(order) - 1)]], task)

    told = [
        f"{name} from {time_at(start)} to {time_at(end)}" if start < end else f"{name} none at all"
        for name, (start, end) in spans.items()
    ]
    return (
        "the table is too short for its longest horizon, which is left out before validation and "
        f"before test ({task.max_horizon} time steps), or has a gap there: {', '.join(told)}. Give "
        "a longer table, a shorter horizon, or larger parts (train_fraction, validation_fraction)"
    )
