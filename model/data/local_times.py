"""Local times without an offset to UTC: the hour that stands twice is told by the order of rows."""

import numpy as np
import pandas as pd

from model.data.cells import DataError, Origin


def to_utc(
    local: np.ndarray, series: np.ndarray, zone: str, name: str, origin: Origin
) -> np.ndarray:
    """Times of a zone's clock, which is put forward in spring and back in autumn, to UTC.

    Where the clock is put back an hour stands twice. A row is of its second time if its series had
    the same time already, or has gone back since.

    Args:
        local: datetime64 `[N]` in the order of the file, NaT where there is none.
        series: which series a row is of, int `[N]`.
        zone: its name, such as `Europe/Berlin`.
        name: of the column, for errors.
        origin: of its rows, for errors.

    Returns:
        datetime64 `[N]`.

    Raises:
        DataError: a time is in the hour that the zone's clock left out.
    """
    index = pd.DatetimeIndex(local)
    first, second = (
        index.tz_localize(zone, ambiguous=np.full(len(local), summer), nonexistent="NaT")
        for summer in (True, False)
    )
    skipped = first.isna() & ~index.isna()
    if skipped.any():
        row = int(np.argmax(skipped))
        raise DataError(
            f"{origin.cell(name, row)} has {index[row]}, which the clock of {zone} left out when "
            "it was put forward: the column is not in that zone, or has no daylight saving time"
        )
    utc = np.array(first.tz_convert(None))
    twice = np.flatnonzero((first != second) & ~index.isna())
    later = _second_time(pd.Series(local[twice]), pd.Series(series[twice]), _falls(local, series))
    utc[twice[later]] = second.tz_convert(None).to_numpy()[twice[later]]
    return utc


def _falls(local: np.ndarray, series: np.ndarray) -> bool:
    """Whether the file begins with the last row."""
    steps = np.diff(local)[series[1:] == series[:-1]]
    return int((steps < np.timedelta64(0)).sum()) > int((steps > np.timedelta64(0)).sum())


def _second_time(times: pd.Series, series: pd.Series, falls: bool) -> np.ndarray:
    """bool `[K]`: which rows of the hours that stand twice are of the second, in file order."""
    if falls:
        times, series = times[::-1], series[::-1]
    groups = [series, times.dt.floor("D")]
    again = times.groupby([series, times]).cumcount() > 0
    back = times.groupby(groups).diff() < pd.Timedelta(0)
    later = again | (back.groupby(groups).cumsum() > 0)
    return np.asarray(later.sort_index(), bool)
