"""Written times in every format: read, or refused with the cell and with what to do."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.cells import DataError, Origin
from model.data.dataset import load
from model.data.table import read_table
from model.data.time_formats import parse_times
from tests.model.tables import make_table, make_task, write_table

HOURS = pd.date_range("2023-12-29", periods=60, freq="h")  # into the next year, past the 12th


def read(times: Any, folder: Path, **changes: Any) -> list[pd.Timestamp]:
    table = make_table({"a": range(len(times))}).assign(time=list(times))
    path = write_table(table, folder / "times.csv")
    return list(read_table(make_task(path, **changes))["time"])


FORMATS = [
    "%d.%m.%Y %H:%M", "%d.%m.%y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M %p",
    "%m/%d/%Y %I:%M:%S %p", "%m-%d-%Y %H:%M", "%d %b %Y %H:%M", "%d-%b-%y %H:%M", "%b %d, %Y %H:%M",
    "%B %d, %Y %I:%M %p", "%A, %d %B %Y %H:%M", "%Y%m%d %H%M", "%Y%m%dT%H%M%S",
    "%Y/%m/%d %H:%M:%S", "%Y.%m.%d %H:%M", "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%dT%H:%M:%SZ",
    "%d.%m.%Y %H:%M +0000", "%d.%m.%Y, %H:%M", "%Y-%m-%d %H:%M UTC", "%d.%m.%Y %H.%M",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_formats_are_found(tmp_path: Path, form: str) -> None:
    assert read(HOURS.strftime(form), tmp_path) == list(HOURS)


MONTHS = [
    "%b-%d-%Y", "%b/%d/%Y", "%b %d %Y", "%Y-%b-%d", "%d%b%Y", "%Y %b", "%Y-%b", "%b-%Y", "%b/%Y",
    "%Y %B", "%YM%m", "%Y-M%m",
]  # fmt: skip


@pytest.mark.parametrize("form", MONTHS)
def test_months_are_found(tmp_path: Path, form: str) -> None:
    months = pd.date_range("2022-03-01", periods=40, freq="MS")
    assert read(months.strftime(form), tmp_path, time_step_s=None, time_step="month") == list(
        months
    )


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M", "%Y-%m-%d %H:%M:%S"])
def test_a_date_alone_is_midnight_and_a_second_may_have_a_fraction(
    tmp_path: Path, form: str
) -> None:
    """As spreadsheets write them; named or found."""
    texts = [time.strftime(form.partition(" ")[0] if time.hour == 0 else form) for time in HOURS]
    texts[5] = f"{HOURS[5]:{form.replace(':%S', '')}}:00.250"
    expected = list(HOURS)
    expected[5] += pd.Timedelta(milliseconds=250)
    assert read(texts, tmp_path) == expected
    assert read(texts[:5] + texts[6:], tmp_path, time_format=form) == expected[:5] + expected[6:]


def test_an_ambiguous_day_is_refused_with_both_readings_of_a_cell(tmp_path: Path) -> None:
    """No day above the 12th: it was read as January 2nd by some, as February 1st by others."""
    times = pd.date_range("2024-01-01", periods=200, freq="h")
    texts = times.strftime("%d/%m/%Y %H:%M")
    with pytest.raises(DataError) as error:
        read(texts, tmp_path)
    text = str(error.value)
    assert "column 'time', row 25 has '02/01/2024 00:00', and no cell of the column tells" in text
    assert 'time_format = "%d/%m/%Y %H:%M" (2 January 2024)' in text
    assert 'time_format = "%m/%d/%Y %H:%M" (1 February 2024)' in text
    assert read(texts, tmp_path, time_format="%d/%m/%Y %H:%M") == list(times)


@given(
    start=st.dates(datetime.date(1990, 1, 1), datetime.date(2035, 1, 1)),
    days=st.integers(1, 400),
    form=st.sampled_from(["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%m-%d-%y"]),
)
@settings(max_examples=40, deadline=None)
def test_a_day_is_never_taken_for_a_month(start: datetime.date, days: int, form: str) -> None:
    """Whatever days there are: read as written, or refused."""
    times = pd.date_range(start, periods=days, freq="D")
    texts = pa.chunked_array([times.strftime(form).tolist()])
    why, found = "", None
    try:
        found, _ = parse_times(texts, "time", Origin(((Path("t.csv"), days),), Path("t.csv")), None)
    except DataError as error:
        why = str(error)
    assert "tells the day from the month" in why or (found == times.to_numpy()).all()


def test_a_wrong_time_among_many_is_named_with_its_row(tmp_path: Path) -> None:
    texts = list(HOURS.strftime("%d.%m.%Y %H:%M"))
    texts[20] = "31.02.2024 00:00"
    with pytest.raises(
        DataError, match=r"row 21 has '31\.02\.2024 00:00', which is no time; other"
    ):
        read(texts, tmp_path)
    with pytest.raises(
        DataError, match=r"row 21 has '31\.02.*, which is not written as time_format"
    ):
        read(texts, tmp_path, time_format="%d.%m.%Y %H:%M")
    texts[30] = "soon"
    with pytest.raises(DataError, match=r"row 21 has .*\(2 cells of the column are not\)"):
        read(texts, tmp_path)


def test_times_of_no_known_format_are_refused_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1 has 'day 0', which is no time .* --time-format"):
        read([f"day {n}" for n in range(60)], tmp_path)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["2020Q1", "2020Q2", "2020-Q3", "2020 Q4"], [1, 4, 7, 10]),
        (["2020-01", "2020-04", "2020-07", "2020-10"], [1, 4, 7, 10]),
        (["Jan 2020", "Apr 2020", "Jul 2020", "Oct 2020"], [1, 4, 7, 10]),
        (["Jan-20", "Apr-20", "Jul-20", "Oct-20"], [1, 4, 7, 10]),
    ],
)
def test_months_and_quarters_are_times(
    tmp_path: Path, column: list[str], expected: list[int]
) -> None:
    found = read(column, tmp_path, time_step_s=None, time_step="month")
    assert [(time.year, time.month, time.day) for time in found] == [(2020, m, 1) for m in expected]


@pytest.mark.parametrize("dtype", ["int64", "str"])
def test_years_and_dates_without_a_separator_have_a_format(tmp_path: Path, dtype: str) -> None:
    """As numbers they might count anything."""
    years = pd.Series(range(1950, 2010))
    task = {"time_step_s": None, "time_step": "year"}
    with pytest.raises(DataError, match=r"'time' holds numbers: .* time_format = \"%Y\""):
        read(years, tmp_path, **task)
    assert [t.year for t in read(years, tmp_path, time_format="%Y", **task)] == list(years)
    days = pd.date_range("2024-01-01", periods=60)
    found = read(days.strftime("%Y%m%d").astype(dtype), tmp_path, time_format="%Y%m%d")
    assert found == list(days)


def test_offsets_may_differ_from_row_to_row(tmp_path: Path) -> None:
    offsets = ["+02:00" if n % 2 else "-05:00" for n in range(60)]
    texts = [
        (time + pd.Timedelta(hours=int(offset[:3]))).strftime("%Y-%m-%d %H:%M") + offset
        for time, offset in zip(HOURS, offsets, strict=True)
    ]
    assert read(texts, tmp_path) == list(HOURS)
    assert read(texts, tmp_path, timezone="Europe/Berlin") == list(HOURS), "an offset says it all"


def test_a_clock_that_was_never_set_is_named_with_the_span_it_would_make(tmp_path: Path) -> None:
    for wrong, years in (("1970-01-01 00:00:00", 54), ("2099-12-31 00:00:00", 76)):
        texts = list(HOURS.strftime("%Y-%m-%d %H:%M:%S"))
        texts[0 if years == 54 else 59] = wrong
        row = 1 if years == 54 else 60
        message = f"row {row} has {wrong}, far from all others .* span {years} years and not 2 days"
        with pytest.raises(DataError, match=message):
            read(texts, tmp_path)


def test_days_of_a_zone_have_23_to_25_hours(tmp_path: Path) -> None:
    """Midnight in Berlin is at 22:00 or 23:00 UTC."""
    days = pd.date_range("2024-01-01", periods=360, freq="D").strftime("%d.%m.%Y")
    path = write_table(make_table({"a": range(360)}).assign(time=days), tmp_path / "days.csv")
    zone = {"timezone": "Europe/Berlin", "train_fraction": 0.7}
    seconds = load(make_task(path, time_step_s=86_400, **zone))["train"]
    assert len(np.unique(seconds.run_starts)) == 2, "before and after the day of 23 hours"
    train = load(make_task(path, time_step_s=None, time_step="day", **zone))["train"]
    assert not train.run_starts.any()


def test_a_long_gap_is_no_broken_clock(tmp_path: Path) -> None:
    times = pd.date_range("2020-01-01", periods=100, freq="h").append(
        pd.date_range("2024-01-01", periods=20, freq="h")
    )
    assert read(times, tmp_path) == list(times)


def test_a_number_that_is_no_year_of_its_unit_is_refused(tmp_path: Path) -> None:
    """Milliseconds, taken for seconds, were the year 55840."""
    numbers = 1_700_000_000_000 + 3_600_000 * np.arange(60)
    with pytest.raises(DataError, match=r"row 1 has 1700000000000, .* does time_unit = \"s\" hold"):
        read(numbers, tmp_path, time_unit="s")


# Germany's clock went from 3 back to 2 on 2024-10-27, and from 2 to 3 on 2024-03-31.
AUTUMN = pd.date_range("2024-10-26 12:00", periods=30, freq="h", tz="UTC")


def local_texts(times: pd.DatetimeIndex) -> list[str]:
    return list(times.tz_convert("Europe/Berlin").strftime("%Y-%m-%d %H:%M"))


@pytest.mark.parametrize("turned", [False, True])
def test_the_hour_that_stands_twice_is_told_by_the_order_of_rows(
    tmp_path: Path, turned: bool
) -> None:
    texts = local_texts(AUTUMN)
    assert texts.count("2024-10-27 02:00") == 2
    expected = list(AUTUMN.tz_localize(None))
    found = read(texts[::-1] if turned else texts, tmp_path, timezone="Europe/Berlin")
    assert found == expected
    with pytest.raises(
        DataError, match="02:00:00 stands twice .* the zone of local times as timez"
    ):
        read(texts, tmp_path)


@pytest.mark.parametrize("lost", [None, 0, 3, 5, 7])
def test_quarters_of_the_hour_that_stands_twice_come_in_blocks_or_in_pairs(
    tmp_path: Path, lost: int | None
) -> None:
    """A file sorted by the local clock has 02:00 twice before 02:15; and any row may be lost."""
    quarters = pd.date_range("2024-10-26 22:00", periods=24, freq="15min", tz="UTC")
    twice = [n for n, text in enumerate(local_texts(quarters)) if " 02:" in text]
    kept = quarters if lost is None else quarters.delete(twice[lost])
    found = read(local_texts(kept), tmp_path, timezone="Europe/Berlin", time_step_s=900)
    assert found == list(kept.tz_localize(None))
    pairs = pd.Series(quarters, local_texts(quarters)).sort_index(kind="stable")
    assert read(pairs.index, tmp_path, timezone="Europe/Berlin") == list(quarters.tz_localize(None))


def test_each_series_has_its_own_hour_twice(tmp_path: Path) -> None:
    table = pd.concat([make_table({place: range(30)}) for place in "ab"])
    table["time"] = local_texts(AUTUMN) * 2
    mixed = table.sort_values("temp", key=lambda t: t % 1000, kind="stable")
    path = write_table(mixed, tmp_path / "two.csv")
    found = read_table(make_task(path, timezone="Europe/Berlin"))
    assert list(found["time"]) == list(AUTUMN.tz_localize(None)) * 2


def test_a_time_that_the_clock_left_out_is_refused(tmp_path: Path) -> None:
    texts = list(pd.date_range("2024-03-30", periods=60, freq="h").strftime("%Y-%m-%d %H:%M"))
    with pytest.raises(
        DataError, match=r"row 27 has 2024-03-31 02:00:00, which the clock of Europe"
    ):
        read(texts, tmp_path, timezone="Europe/Berlin")


def test_local_times_across_a_change_of_the_clock_have_no_gap(tmp_path: Path) -> None:
    hours = pd.date_range("2024-03-20", periods=300, freq="h", tz="UTC")
    table = make_table({"a": range(300)}).assign(time=local_texts(hours))
    path = write_table(table, tmp_path / "spring.csv")
    train = load(make_task(path, timezone="Europe/Berlin", train_fraction=0.7))["train"]
    assert not train.run_starts.any()
