"""A task for a table of which little is said: what is not said is found.

columns -> time axis -> kinds of columns -> series -> time step -> season -> `TaskConfig`
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from model.config import first_error
from model.data.calendar import MEANINGS, PERIODS, UNITS
from model.data.cells import DataError, Decimal, find_decimal, is_text
from model.data.clock import count_ticks
from model.data.formats import Columns, read_columns
from model.data.kinds import Finding, find_kind
from model.data.names import plain_name
from model.data.seasons import Season, find_seasons
from model.data.series_column import find_series, series_codes
from model.data.time_axis import Axis, clock_fields, find_axis, find_step, provisional
from model.data.time_formats import found_format
from model.data.times import read_times
from model.table_options import TableOptions
from model.tasks.task import STATE_IN_ANSWERS, STATE_IN_REQUESTS, TaskConfig

# Of a target so few rows may be without a number: they are left out, and it is a feature that is
# never missing, from which a change can be forecast.
FEW_MISSING = 0.02
# A column of which more is missing is of no use.
MOST_MISSING = 0.9
# Time steps of past that a season leaves in the shortest split, at least.
LEAST_PAST = 16


@dataclass(frozen=True)
class Draft:
    """A task, and what was understood on the way.

    Attributes:
        task: drafted.
        left_out: columns that are not used, each with the reason.
        seasons: that show in the first target.
    """

    task: TaskConfig
    left_out: dict[str, str]
    seasons: tuple[Season, ...]


@dataclass(frozen=True)
class _Table:
    """A table as far as it is understood: its columns, its time axis, its series."""

    columns: Columns
    decimal: Decimal
    axis: Axis
    series: str | None
    times: np.ndarray | None
    codes: np.ndarray
    step: dict[str, Any]


def draft_task(options: TableOptions, name: str | None = None) -> Draft:
    """Drafts a task of a table.

    Args:
        options: the table, what is to be forecast, and all that is said besides.
        name: of the model; None for that of the file.

    Raises:
        OSError: a file cannot be opened.
        DataError: it is no table, a column is absent, or what is not said cannot be found.
    """
    if options.data is None:
        raise AssertionError("this is a bug: no table to draft a task of")
    table = _understand(options, options.data)
    findings = {}
    for column in table.columns.names:
        if column not in (table.axis.time, table.series):
            array = table.columns.table[column]
            found = find_kind(array, column, table.decimal, table.columns.origin)
            findings[column] = found if column in options.target else replace(found, values=None)
    for target in options.target:
        if target not in findings or not findings[target].of_numbers:
            why = findings[target].why if target in findings else "tells when or of what a row is"
            raise DataError(f"{options.data}: column {target!r} {why}: a target is of numbers")
    used, left_out = _features(options, findings)
    seasons = _seasons(table, findings[options.target[0]])
    fields: dict[str, Any] = {
        "name": name
        or plain_name(re.sub(r"[*?\[\]]", "", options.data.name).partition(".")[0], ()),
        "description": f"{' and '.join(options.target)}, {_ahead(options)}.",
        "data": options.data,
        "decimal": table.decimal if table.decimal != "." else None,
        "missing_values": _words(used, findings, options),
        **clock_fields(table.axis),
        **table.step,
        "timezone": options.timezone,
        "series": table.series,
    }
    names = _names(used, options)
    fields["features"] = [_feature(f, names[f.column], options) for f in used]
    if not options.features:
        fields["features"] += _calendar(seasons, used, set(names.values()))
    fields["outputs"] = _outputs(options, findings, names, fields["features"])
    if "every" in fields:
        fields["every_rules"] = {
            c: "last" if findings[c].kind == "flag" else "mean"
            for c in dict.fromkeys([*(f.column for f in used), *options.target])
        }
    task = _validated({k: v for k, v in fields.items() if v is not None}, options.data)
    steps = _season_steps(table, task, seasons)
    return Draft(task.model_copy(update={"season_steps": steps}), left_out, tuple(seasons))


def _ahead(options: TableOptions) -> str:
    steps = ", ".join(map(str, options.horizons))
    return f"{steps} time step{'' if options.horizons == (1,) else 's'} ahead"


def _understand(options: TableOptions, data: Path) -> _Table:
    """Reads the table and finds its time axis, its series and its time step."""
    columns = read_columns(data)
    said = [*options.target, *options.features, *filter(None, [options.time, options.series])]
    for column in said:
        if column not in columns.names:
            raise DataError(f"{data}: no column {column!r}; it has {', '.join(columns.names)}")
    if len(columns.table) == 0:
        raise DataError(f"{data}: no usable row")
    texts = [(name, columns.table[name]) for name in columns.names if is_text(columns.table[name])]
    decimal = find_decimal(texts, columns.origin)
    others = {*options.target, *options.features, *filter(None, [options.series])}
    axis = _with_format(columns, find_axis(columns, options.time, others), options)
    series, times = options.series, None
    if axis.time is not None:
        times = _times(columns, axis, options.timezone, series_codes(columns, series))
    if series is None:
        series = find_series(columns, times, {*options.target, *filter(None, [axis.time])})
    codes = series_codes(columns, series)
    if times is None:
        return _Table(columns, decimal, axis, series, None, codes, {})
    if series is not None and options.timezone is not None:
        times = _times(columns, axis, options.timezone, codes)
    step = {"every": options.every} if options.every else find_step(times, codes)
    return _Table(columns, decimal, axis, series, times, codes, step)


def _with_format(columns: Columns, axis: Axis, options: TableOptions) -> Axis:
    """The axis with the format of its written times, where one format says it all."""
    form = options.time_format or axis.time_format
    if axis.time is not None and axis.time_unit is None and not axis.counts and form is None:
        column = columns.table[axis.time]
        form = found_format(column, axis.time, columns.origin) if is_text(column) else None
    return replace(axis, time_format=form)


def _times(columns: Columns, axis: Axis, zone: str | None, codes: np.ndarray) -> np.ndarray:
    task = provisional(columns, axis, zone)
    return read_times(columns.table[axis.time], task, codes, columns.origin)


def _features(
    options: TableOptions, findings: dict[str, Finding]
) -> tuple[list[Finding], dict[str, str]]:
    """The columns to forecast from, and those that are left out, with the reason."""
    if options.features:
        for column in options.features:
            if column not in findings or not findings[column].of_numbers:
                why = (
                    findings[column].why if column in findings else "tells when or of what a row is"
                )
                raise DataError(f"{options.data}: column {column!r} {why}: it can be no feature")
        unused = {c: "is not among --features" for c in findings if c not in options.features}
        return [findings[c] for c in options.features], unused
    used, left_out = [], {}
    for column, finding in findings.items():
        if finding.why:
            left_out[column] = finding.why
        elif not finding.of_numbers:
            left_out[column] = "is text"
        elif finding.missing > MOST_MISSING:
            left_out[column] = f"is missing in {finding.missing:.0%} of the rows"
        else:
            used.append(finding)
    if not used:
        raise DataError(f"{options.data}: no column to forecast from")
    return used, left_out


def _words(
    used: list[Finding], findings: dict[str, Finding], options: TableOptions
) -> tuple[str, ...]:
    """What stands for no number in the columns that are used."""
    columns = dict.fromkeys([*(f.column for f in used), *options.target])
    return tuple(dict.fromkeys(word for c in columns for word in findings[c].words))


def _names(used: list[Finding], options: TableOptions) -> dict[str, str]:
    """What callers know each feature by."""
    names: dict[str, str] = {}
    for finding in used:
        names[finding.column] = plain_name(
            finding.name, {*names.values(), STATE_IN_REQUESTS, STATE_IN_ANSWERS}
        )
    return names


def _feature(finding: Finding, name: str, options: TableOptions) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": name, "column": finding.column, "unit": finding.unit}
    if finding.kind == "cyclic":
        fields |= {"kind": "cyclic", "period": finding.period}
    few = FEW_MISSING if finding.column in options.target else 0.0
    return fields | ({"missing": True} if finding.missing > few else {})


def _calendar(seasons: list[Season], used: list[Finding], taken: set[str]) -> list[dict[str, Any]]:
    """A feature for each season that shows, if no column tells the place within it."""
    there = {finding.period for finding in used}
    return [
        {
            "name": plain_name(season.calendar, taken),
            "unit": UNITS[season.calendar],
            "description": MEANINGS[season.calendar],
            "kind": "cyclic",
            "period": PERIODS[season.calendar],
            "calendar": season.calendar,
        }
        for season in seasons
        if PERIODS[season.calendar] not in there
    ]


def _outputs(
    options: TableOptions,
    findings: dict[str, Finding],
    names: dict[str, str],
    features: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """An output for each target and horizon; the change from now, where now is always known."""
    known = {f["column"] for f in features if "column" in f and not {"missing", "kind"} & set(f)}
    outputs: list[dict[str, Any]] = []
    for target in options.target:
        name = names.get(target) or plain_name(findings[target].name, ())
        for horizon in options.horizons:
            taken = {STATE_IN_ANSWERS, *(output["name"] for output in outputs)}
            outputs.append(
                {
                    "name": plain_name(f"{name}_{horizon}", taken),
                    "unit": findings[target].unit,
                    "column": target,
                    "horizon": horizon,
                    "change": target in known and horizon > 0,
                }
            )
    return outputs


def _validated(fields: dict[str, Any], data: Path) -> TaskConfig:
    try:
        return TaskConfig.model_validate(fields)
    except ValidationError as error:
        raise DataError(f"{data}: {first_error(error)}") from error


def _seasons(table: _Table, target: Finding) -> list[Season]:
    """The seasons of the target in the training part of its longest series."""
    if table.times is None or target.values is None or table.axis.counts:
        return []
    usable = (table.codes >= 0) & ~np.isnat(table.times)
    longest = np.bincount(table.codes[usable]).argmax()
    rows = np.flatnonzero(usable & (table.codes == longest))
    task = provisional(table.columns, table.axis, None)
    task = task.model_copy(update={"time_step_s": None, "time_step": None, **_of_grid(table.step)})
    ticks = count_ticks(table.times[rows], task)
    places = (ticks.of_rows - ticks.of_rows.min()) // ticks.step
    early = places <= task.train_fraction * places.max()
    return find_seasons(
        target.values[rows][early], places[early], task.time_step_s, table.step.get("time_step")
    )


def _of_grid(step: dict[str, Any]) -> dict[str, Any]:
    """A time step, of a grid in seconds."""
    if "every" not in step:
        return step
    from pandas import Timedelta

    return {"time_step_s": Timedelta(step["every"]).total_seconds()}


def _season_steps(table: _Table, task: TaskConfig, seasons: list[Season]) -> int:
    """The season that repeats best, of those that leave enough of the shortest split."""
    if table.times is None:
        return 1
    times = table.times[~np.isnat(table.times)] if not table.axis.counts else table.times
    ticks = count_ticks(times, task)
    span = int(ticks.of_rows.max() - ticks.of_rows.min()) // ticks.step
    shortest = min(task.validation_fraction, 1 - task.train_fraction - task.validation_fraction)
    room = shortest * span - 2 * task.max_horizon - LEAST_PAST

    def fits(steps: int) -> bool:
        return -(-max(1, task.max_horizon) // steps) * steps - task.max_horizon <= room

    best = min((s for s in seasons if fits(s.steps)), key=lambda s: s.error, default=None)
    if best is not None:
        return best.steps
    return task.season_steps if fits(task.season_steps) else 1
