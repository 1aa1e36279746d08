"""Written times: which format a column has, found or named, and never a day for a month by guess.

ISO 8601 is read as it is. Other formats are families: one way to write the date, with every way to
write the time of day behind it, so that a date alone is midnight and a second may have a fraction.
A column belongs to a family if all of its cells do. If it belongs to two that read a cell
differently, it is refused.
"""

import re
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from model.data.cells import DataError, Origin, present, shown

_ORDERS = (("%d", "%m", "%Y"), ("%m", "%d", "%Y"), ("%d", "%m", "%y"), ("%m", "%d", "%y"))
DATES = (
    *("%Y/%m/%d", "%Y.%m.%d", "%Y-%m-%d", "%Y%m%d"),
    *(mark.join(order) for mark in "./-" for order in _ORDERS),
    "%y-%m-%d",
    *(f"%d{mark}%b{mark}{year}" for mark in " -./" for year in ("%Y", "%y")),
    *("%d. %b %Y", "%d. %B %Y", "%d %B %Y", "%d-%B-%Y"),
    *(f"%Y{mark}%b{mark}%d" for mark in " -./"),
    *(f"%b{mark}%d{mark}%Y" for mark in " -./"),
    *("%d%b%Y", "%B %d %Y", "%b %Y", "%B %Y", "%b-%Y", "%b-%y", "%b %y", "%b/%Y"),
    *("%Y %b", "%Y-%b", "%Y %B"),
    *("%m/%Y", "%m.%Y", "%m-%Y", "%Y"),
)
CLOCKS = (
    *("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %H:%M:%S,%f", " %H.%M", " %H.%M.%S", " %H"),
    *(" %I:%M %p", " %I:%M:%S %p", " %I:%M:%S.%f %p", " %I %p", " %I:%M%p", " %I:%M:%S%p"),
)
COMPACT_DATE, COMPACT_CLOCKS = "%Y%m%d", ("%H", "%H%M", "%H%M%S", " %H%M", " %H%M%S")
PATTERNS = {
    **dict.fromkeys("dmHI", r"\d{1,2}"),
    **dict.fromkeys("MS", r"\d{2}"),
    **{"Y": r"\d{4}", "y": r"\d{2}", "f": r"\d{1,9}", "b": r"[A-Za-z]{3}", "B": r"[A-Za-z]+"},
    **{"p": r"[AaPp][Mm]", "z": r"(?:[Zz]|[+-]\d{2}:?\d{2})"},
}
OFFSETS = ("", "%z", " %z")
# Cells that a family is looked for with, at first.
SAMPLE = 200
HAS_OFFSET = r"(?:[Zz]|:\d{2}(?:[.,]\d+)?[ ]?[+-]\d{2}:?(?:\d{2})?|[ ][+-]\d{4})$"


@dataclass(frozen=True)
class Reading:
    """One way to read a column.

    Attributes:
        format: of strptime, of most cells; "" for ISO 8601.
        times: datetime64 `[N]`, UTC where a cell has an offset; NaT where it is not read so.
    """

    format: str
    times: pd.Series

    @cached_property
    def wrong(self) -> np.ndarray:
        """bool `[N]`: where a text is not read."""
        return np.asarray(self.times.isna(), bool)


@dataclass(frozen=True)
class _Cells:
    """The cells of a column that are not empty."""

    texts: pa.ChunkedArray
    name: str
    origin: Origin

    @cached_property
    def rows(self) -> np.ndarray:
        """int64 `[K]`: where they stand."""
        return np.flatnonzero(pc.is_valid(self.texts).to_numpy(zero_copy_only=False))

    @cached_property
    def given(self) -> pd.Series:
        """Their texts, `[K]`, as formats have them."""
        texts = pc.drop_null(_normal(self.texts))
        return pd.Series(texts.to_numpy(zero_copy_only=False), dtype=object)

    def told(self, place: int) -> str:
        """Where one of them stands, and what it has."""
        row = int(self.rows[place])
        return f"{self.origin.cell(self.name, row)} has {shown(self.texts[row].as_py())}"


def parse_times(
    column: pa.ChunkedArray, name: str, origin: Origin, time_format: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Reads a column of written times.

    Args:
        column: of text.
        name: of the column, for errors.
        origin: of its rows, for errors.
        time_format: of strptime; None to find it.

    Returns:
        datetime64 `[N]`, NaT where the cell is empty, and bool `[N]`: which have an offset, and
        are in UTC. The others are as they are written.

    Raises:
        DataError: a cell cannot be read, or days and months cannot be told apart.
    """
    texts = present(column, ())
    if time_format is None and (quick := _plain_iso(texts)) is not None:
        return quick
    cells = _Cells(texts, name, origin)
    if time_format is not None:
        reading = read_as(cells.given, _variants(time_format), time_format)
    else:
        reading = _found(cells)
    if reading.wrong.any():
        raise DataError(_unread(reading, cells, named=time_format is not None))
    times = np.full(len(texts), np.datetime64("NaT"), reading.times.to_numpy().dtype)
    times[cells.rows] = reading.times.to_numpy()
    aware = np.zeros(len(texts), bool)
    aware[cells.rows] = cells.given.str.contains(HAS_OFFSET).to_numpy(bool)
    return times, aware


def looks_like_times(texts: pa.ChunkedArray) -> bool:
    """Whether the first cells of a column of text, as `present` gives them, are all times."""
    some = pc.drop_null(texts)[:SAMPLE]
    given = pd.Series(_normal(some).to_numpy(zero_copy_only=False), dtype=object).drop_duplicates()
    # A number alone is a time only for who says so.
    if len(given) < 2 or given.str.fullmatch(r"[+-]?[\d.,]*").any():
        return False
    families = (("",), *(_fitting(date, given) for date in DATES))
    return any(not read_as(given, family, "").wrong.any() for family in families)


def found_format(column: pa.ChunkedArray, name: str, origin: Origin) -> str | None:
    """The format of a column of written times, to be named in a task.

    Returns:
        Of strptime; None where it is ISO 8601, or where one format alone does not say it all.

    Raises:
        DataError: as of `parse_times`.
    """
    texts = present(column, ())
    if _plain_iso(texts) is not None:
        return None
    cells = _Cells(texts, name, origin)
    reading = _found(cells)
    if reading.wrong.any():
        raise DataError(_unread(reading, cells, named=False))
    named = read_as(cells.given, _variants(reading.format), reading.format)
    return None if named.wrong.any() else reading.format or None


def _plain_iso(texts: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray] | None:
    """The usual ISO 8601 at once, with no Python string for a cell; None where it is not that."""
    for unit in ("us", "ns"):
        for zone in (None, "UTC"):
            try:
                times = texts.cast(pa.timestamp(unit, zone))
            except pa.ArrowInvalid:
                continue
            found = times.cast(pa.timestamp(unit)).to_numpy()
            return found, np.full(len(found), zone is not None)
    return None


def _normal(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """One space between date and time of day, and an offset where a text says UTC."""
    for pattern, replacement in (
        (r"\s+", " "),
        (r"^([A-Za-z]{3,9})\.? (\d{1,2}),? ", r"\1 \2 "),  # Jan. 5, 2024
        (r"(\d)(?:T|t|, ?| ?- )(\d{1,2}[:h])", r"\1 \2"),
        (r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? ", ""),
        (r" ?(?:UTC|GMT)$", "Z"),
        (r"^(\d{4})[- ]?[Qq]1$", r"\1-01"),
        (r"^(\d{4})[- ]?[Qq]2$", r"\1-04"),
        (r"^(\d{4})[- ]?[Qq]3$", r"\1-07"),
        (r"^(\d{4})[- ]?[Qq]4$", r"\1-10"),
        (r"^(\d{4})[- ]?[Mm](\d)$", r"\1-0\2"),
        (r"^(\d{4})[- ]?[Mm](\d{2})$", r"\1-\2"),
    ):
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def read_as(texts: pd.Series, formats: tuple[str, ...], named: str) -> Reading:
    """Texts `[N]` read in any of these formats, the first that fits."""
    times = pd.Series(pd.NaT, index=texts.index, dtype="datetime64[us]")
    best, most = named, 0
    for form in formats:
        left = times.isna()
        if not left.any():
            break
        found = pd.to_datetime(texts[left], format=form or "ISO8601", errors="coerce", utc=True)
        found = found.dt.tz_localize(None)
        read = int(found.notna().sum())
        if read and found.dt.unit == "ns":
            times = times.astype("datetime64[ns]")
        if read > most:
            best, most = form, read
        times[left] = found
    return Reading(best, times)


def _family(date: str) -> tuple[str, ...]:
    clocks = (*CLOCKS, *COMPACT_CLOCKS) if date == COMPACT_DATE else CLOCKS
    return tuple(
        f"{date}{clock}{zone}" for clock in clocks for zone in OFFSETS if clock or not zone
    )


def _fitting(date: str, texts: pd.Series) -> tuple[str, ...]:
    """The formats of a family that look like one of these texts; none of most families."""
    if not texts.str.match(_pattern(date)).any():
        return ()
    return tuple(form for form in _family(date) if texts.str.fullmatch(_pattern(form)).any())


@cache
def _pattern(form: str) -> str:
    """What a text in a format of strptime looks like, as a regular expression."""
    return re.sub(r"%(\w)", lambda found: PATTERNS[found[1]], re.escape(form).replace("\\%", "%"))


def _variants(time_format: str) -> tuple[str, ...]:
    """A named format; with a fraction of a second; and of a date at midnight the date alone."""
    date = re.split(r"[ T]%[HI]", time_format)[0]
    return tuple(dict.fromkeys([time_format, time_format.replace("%S", "%S.%f"), date]))


def _found(cells: _Cells) -> Reading:
    """The one reading of a column, or that which most of its cells have."""
    given = cells.given
    iso = read_as(given, ("",), "")
    if not iso.wrong.any():
        return iso
    sample = given.drop_duplicates()
    sample = sample.iloc[np.linspace(0, len(sample) - 1, min(SAMPLE, len(sample))).astype(int)]
    readings = [iso]
    for date in DATES:
        first = _fitting(date, sample)
        if first and read_as(sample, first, date).wrong.mean() < 0.5:
            order = (*first, *(f for f in _family(date) if f not in first))
            readings.append(read_as(given, order, first[0]))
    whole = [reading for reading in readings if not reading.wrong.any()]
    for other in whole[1:]:
        differs = (other.times != whole[0].times).to_numpy()
        if differs.any():
            raise DataError(_ambiguous(whole[0], other, cells, int(np.argmax(differs))))
    return whole[0] if whole else min(readings, key=lambda reading: int(reading.wrong.sum()))


def _ambiguous(one: Reading, other: Reading, cells: _Cells, place: int) -> str:
    readings = " or ".join(
        f'time_format = "{reading.format}" ({reading.times.iloc[place]:%-d %B %Y})'
        for reading in (one, other)
    )
    return (
        f"{cells.told(place)}, and no cell of the column tells the day from the month: say in the "
        f"task, or as --time-format, which it is: {readings}"
    )


def _unread(reading: Reading, cells: _Cells, named: bool) -> str:
    count = int(reading.wrong.sum())
    where = cells.told(int(np.argmax(reading.wrong)))
    more = f" ({count:,} cells of the column are not)" if count > 1 else ""
    if named:
        return f'{where}, which is not written as time_format = "{reading.format}" says{more}'
    if count == len(cells.rows):
        return (
            f"{where}, which is no time of a known format: name it in the task, or as "
            '--time-format, as in time_format = "%d.%m.%Y %H:%M"'
        )
    others = f"written as {reading.format}" if reading.format else "ISO 8601"
    return f"{where}, which is no time{more}; others are {others}: correct it, or leave it empty"
