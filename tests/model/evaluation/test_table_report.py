"""What is told of a table before anything is trained."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from model.data.draft import draft_task
from model.evaluation.table_report import inspect
from model.table_options import TableOptions


def inspected(table: pd.DataFrame, folder: Path, steps: int = 24, **said: object) -> list[str]:
    """The lines of the tables, those of their cells that are not empty apart by a bar."""
    table.to_csv(folder / "t.csv", index=False)
    options = {"data": folder / "t.csv", "target": ("y",), **said}
    printed = io.StringIO()
    draft = draft_task(TableOptions.model_validate(options))
    inspect(draft, steps, Console(file=printed, width=200))
    return ["|".join(re.split(r"\s{2,}", line.strip())) for line in printed.getvalue().splitlines()]


def hourly() -> pd.DataFrame:
    """Two places, 40 days of a daily wave; one has a gap of 5 hours."""
    random = np.random.default_rng(0)
    hour = np.arange(960)
    parts = [
        pd.DataFrame(
            {
                "time": pd.date_range("2024-01-01", periods=960, freq="h"),
                "place": place,
                "y": 10 * np.sin(2 * np.pi * hour / 24) + random.normal(size=960).round(3),
                "wind": np.where(hour % 4, hour % 9, np.nan),
                "same": 7,
            }
        )
        for place in ("a", "b")
    ]
    return pd.concat([parts[0].drop(index=range(100, 105)), parts[1]])


def test_all_that_was_understood_is_told(tmp_path: Path) -> None:
    lines = inspected(hourly(), tmp_path, horizons=(1, 24))
    for expected in (
        "rows|1,915",
        "series|2 in 'place': a, b",
        "time|'time', as it stands, UTC",
        "span|2024-01-01 00:00 to 2024-02-09 23:00",
        "time step|1 h",
        "gaps|1, the longest of 5 time steps after 2024-01-05 03:00",
        "season|24 time steps; it shows a day (24 time steps)",
        "column|feature|kind|range|missing|use",
        "wind|wind|number|0 to 8|25.0%|feature",
        "(calendar)|hour_of_day|cyclic of 24 h|0 to 23|feature",
        "same|left out: is 7 throughout",
        "split|from|to|rows|windows",
        "train|2024-01-01 00:00|2024-01-28 23:00|1,339|1,270",
        "baseline|y_1|y_24",
    ):
        assert expected in lines, "\n".join(lines)
    (y,) = [line for line in lines if line.startswith("y|")]
    assert y.endswith("|feature, target")
    # Noise of 1 twice over: 1.13; and the wave moves by up to 2.6 an hour.
    errors = {line.split("|")[0]: line.split("|")[1:] for line in lines}
    assert 0.9 < float(errors["same time last season"][0]) < 1.3
    assert 1.4 < float(errors["persistence"][0]) < 2.4


def test_why_there_is_no_baseline_is_told(tmp_path: Path) -> None:
    lines = inspected(hourly(), tmp_path, steps=999)
    assert any(line.startswith("train|") for line in lines)
    (why,) = [line for line in lines if line.startswith("No baseline: ")]
    assert "--window-steps" in why


def test_a_table_without_times_is_told_of(tmp_path: Path) -> None:
    table = pd.DataFrame({"y": np.random.default_rng(0).normal(size=400)})
    lines = inspected(table, tmp_path)
    assert "time step|a row: there is no column of times" in lines
    assert "gaps|none" in lines
    assert "train|row 0|row 279|280|257" in lines
