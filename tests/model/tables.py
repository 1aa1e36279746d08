"""Small synthetic tables and tasks on them. Every number is exact in float32."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from model.tasks.task import TaskConfig

START = pd.Timestamp("2020-01-01")
HOUR = pd.Timedelta(hours=1)
# The longer horizon is more than a day of 4 hours: "yesterday" is then two days before the target.
DAY_STEPS = 4
HORIZONS = (1, 5)


def task_fields(data: Path, **changes: Any) -> dict[str, Any]:
    """A task of each kind of column: plain, missing at times, cyclic, and a target of its own."""
    fields: dict[str, Any] = {
        "name": "toy",
        "description": "A toy.",
        "data": data,
        "time": "time",
        "time_step_s": 3600,
        "series": "place",
        "season_steps": DAY_STEPS,
        "train_fraction": 0.5,
        "validation_fraction": 0.25,
        "features": [
            {"name": "temp", "unit": "degC", "maximum": 9000},
            {"name": "wind", "unit": "m/s", "missing": True, "minimum": 0},
            {"name": "hour", "unit": "h", "kind": "cyclic", "period": DAY_STEPS},
        ],
        "outputs": [
            {"name": "temp_1", "unit": "degC", "column": "temp", "horizon": 1, "change": True},
            {"name": "rain_5", "unit": "mm", "column": "rain", "horizon": 5},
        ],
    }
    return fields | changes


def make_task(data: Path, **changes: Any) -> TaskConfig:
    return TaskConfig.model_validate(task_fields(data, **changes))


def make_table(places: dict[str, Iterable[int]]) -> pd.DataFrame:
    """A row for each of the hours of each place; `temp` and `rain` tell where a number is from."""
    rows = []
    for index, (place, hours) in enumerate(places.items()):
        for hour in hours:
            rain = np.nan if hour % 11 == 10 else 2000.0 * index + hour
            wind = np.nan if hour % 7 == 3 else hour % 5
            temp = 1000.0 * index + hour
            rows.append((place, START + hour * HOUR, temp, wind, hour % DAY_STEPS, rain))
    columns = ["place", "time", "temp", "wind", "hour", "rain"]
    return pd.DataFrame(rows, columns=columns)


def write_table(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return path


def hours_of(times: Any) -> list[int]:
    """The hours that times of a table stand for."""
    hours, rest = np.divmod(np.asarray(times) - START.to_datetime64(), HOUR.to_timedelta64())
    assert not rest.astype(int).any()
    return [int(hour) for hour in np.atleast_1d(hours)]


# The second series begins in the hour after a gap of the first begins: by time alone, no gap.
ADJOINING = {"a": [*range(20), *range(60, 80)], "b": list(range(20, 80))}


@st.composite
def gappy_hours(draw: st.DrawFn) -> list[int]:
    """60 to 90 hours with up to five gaps of up to eight hours."""
    count = draw(st.integers(60, 90))
    gaps = draw(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 8)), max_size=5))
    left_out = {start + offset for start, length in gaps for offset in range(length)}
    return [hour for hour in range(count) if hour not in left_out]


def gappy_places() -> st.SearchStrategy[dict[str, list[int]]]:
    return st.dictionaries(st.sampled_from("abc"), gappy_hours(), min_size=1, max_size=3)
