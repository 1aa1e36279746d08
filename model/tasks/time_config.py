"""The time axis of a task: how its times are written, and what a time step is."""

from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

import pandas as pd
from pydantic import AliasChoices, Field, field_validator, model_validator

from model.network_config import Frozen

DAY_S = 86_400
# Steps of the calendar, and how many of them a season has by default. pandas calls them D, W, M, Q,
# Y and B. A day of a zone has 23 to 25 hours.
CalendarStep = Literal["day", "week", "month", "quarter", "year", "business day"]
SEASONS: dict[CalendarStep, int] = {
    "day": 7,
    "week": 52,
    "month": 12,
    "quarter": 4,
    "year": 1,
    "business day": 5,
}
# What becomes of rows that share a place on the grid of `every`. The mean of angles is circular.
Rule = Literal["mean", "last", "sum"]


def _seconds_of_grid(fields: dict[str, Any]) -> float | None:
    """The time step of `every`; `fields` are those validated so far."""
    every = fields.get("every")
    return None if every is None else float(pd.Timedelta(every).total_seconds())


def _steps_of_season(fields: dict[str, Any]) -> int:
    """Time steps of a day, or of a season of the calendar; `fields` are those validated so far."""
    seconds = fields.get("time_step_s")
    if seconds is not None:
        return max(1, round(DAY_S / float(seconds)))
    step = fields.get("time_step")
    return SEASONS.get(step, 1) if isinstance(step, str) else 1  # type: ignore[call-overload]


class TimeConfig(Frozen):
    """When rows are.

    Attributes:
        time: column of times; None where there is none, and rows follow each other as they stand.
        time_of_day: column of text with the time of day, where `time` has the date alone.
        time_unit: what a numeric `time` counts from 1970-01-01 UTC; None for written times.
        time_format: of written times, as of strptime; None to find it.
        timezone: of times without an offset, such as `Europe/Berlin`; None for UTC.
        every: puts rows on a grid of this step, such as `5min`; then it is `time_step_s` too.
        every_rules: what becomes of a column there; `mean` if it is not named.
        time_step_s: seconds between two time steps. Any other difference is a gap.
        time_step: in its place, a step of the calendar; or by how much a number rises that counts
            rows and is no time.
        season_steps: time steps after which the columns come round again, for the baseline "same
            time last season"; by default those that come nearest to a day. `day_steps`, its name
            before, is taken too.
    """

    time: str | None = None
    time_of_day: str | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    time_format: Annotated[str, Field(min_length=2)] | None = None
    timezone: str | None = None
    every: str | None = None
    every_rules: dict[str, Rule] = {}
    # What times can tell apart, and 31 years.
    time_step_s: Annotated[float, Field(ge=1e-9, le=1e9)] | None = Field(
        default_factory=_seconds_of_grid
    )
    time_step: CalendarStep | Annotated[float, Field(gt=0, le=1e15)] | None = None
    season_steps: Annotated[int, Field(ge=1)] = Field(
        default_factory=_steps_of_season, validation_alias=AliasChoices("season_steps", "day_steps")
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        if zone is not None:
            try:
                ZoneInfo(zone)
            except (OSError, ValueError, KeyError) as error:
                raise ValueError(
                    f"no time zone is called {zone!r}; one is Europe/Berlin"
                ) from error
        return zone

    @field_validator("every")
    @classmethod
    def _step_of_grid(cls, every: str | None) -> str | None:
        if every is not None:
            try:
                seconds = pd.Timedelta(every).total_seconds()
            except ValueError:
                seconds = 0.0
            if not seconds > 0:
                raise ValueError(f"{every!r} is no step of a grid, such as 5min, 1h or 1D")
        return every

    @model_validator(mode="after")
    def _time_has_a_step(self) -> Self:
        if self.time is None:
            for name in (
                "time_of_day",
                "time_unit",
                "time_format",
                "timezone",
                "every",
                "time_step_s",
                "time_step",
            ):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is of the column of times: name it as time")
        elif (self.time_step_s is None) == (self.time_step is None):
            raise ValueError(
                "give either time_step_s, in seconds, or time_step: day, week, month, quarter, "
                "year, business day, or by how much a number rises that counts rows"
            )
        if self.every is not None and self.time_step_s != _seconds_of_grid({"every": self.every}):
            raise ValueError("every is the time step: leave time_step_s and time_step out")
        if self.every_rules and self.every is None:
            raise ValueError("every_rules are of a grid: give its step as every")
        if isinstance(self.time_step, float) and (self.time_unit or self.time_format):
            raise ValueError(
                "a time_step that is a number is of numbers that count rows: leave time_unit and "
                "time_format out"
            )
        return self
