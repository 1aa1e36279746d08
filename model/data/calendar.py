"""Columns that are made of a row's time: the hour of day, the day of the week, the day of the year.

They are features like any other: whoever calls the model sends them.
"""

import numpy as np

from model.data.time_index import in_zone
from model.tasks.task import Calendar

# The period of each, as a cyclic feature has it, and its unit.
PERIODS: dict[Calendar, float] = {"hour_of_day": 24, "day_of_week": 7, "day_of_year": 365.25}
UNITS: dict[Calendar, str] = {"hour_of_day": "h", "day_of_week": "d", "day_of_year": "d"}
MEANINGS: dict[Calendar, str] = {
    "hour_of_day": "hour of day with its fraction, 0 to 24",
    "day_of_week": "day of the week, Monday is 0",
    "day_of_year": "day of the year, January 1 is 1",
}


def calendar_column(times: np.ndarray, what: Calendar, zone: str | None) -> np.ndarray:
    """A column of the calendar.

    Args:
        times: datetime64 `[N]` in UTC.
        what: of the calendar.
        zone: of the clock on the wall; None for UTC.

    Returns:
        float64 `[N]`.
    """
    local = in_zone(times, zone)
    if what == "hour_of_day":
        column = local.hour + local.minute / 60 + local.second / 3600
    else:
        column = local.day_of_week if what == "day_of_week" else local.day_of_year
    return np.asarray(column, np.float64)
