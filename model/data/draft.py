"""A task for a table of which little is said: what is not said is found.

columns -> time axis -> kinds of columns -> series -> time step -> season -> `TaskConfig`
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from model.data import draft_entries
from model.data.cells import DataError
from model.data.formats import FILE
from model.data.kinds import Finding, find_kind
from model.data.names import plain_name
from model.data.schema_inference import TableFinding, understand
from model.data.seasons import Season, find_seasons
from model.data.series_column import is_static
from model.data.time_axis import clock_fields, provisional
from model.data.time_index import count_ticks
from model.network_config import first_error
from model.table_options import TableOptions
from model.tasks.task import TaskConfig, load_task
from model.tasks.time_config import DAY_S
from model.train_config import TrainConfig

WEEK_DAYS = 7
# Of so many series, the longest, seasons are looked for.
SEEN_SERIES = 8
# So many seasons the training split has, at least: of fewer nobody could tell.
FEWEST_SEASONS = 4


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


@cache
def task_of(config: TrainConfig) -> Draft:
    """The task of a training: that of its file, or one drafted of its table, once for all.

    Raises:
        OSError, ValueError: as of `load_task` and `draft_task`.
    """
    if config.data is None:
        return Draft(load_task(config.task), {}, ())
    return draft_task(config, config.name)


def summary(draft: Draft) -> str:
    """In one line, what a training is of that began with a table alone."""
    task = draft.task
    step = task.every or task.time_step or (task.time_step_s and f"{task.time_step_s:g} s")
    when = f"times in {task.time!r}, a time step of {step}" if task.time else "no times"
    series = f", series in {task.series!r}" if task.series else ""
    unused = f"; not used: {', '.join(draft.left_out)}" if draft.left_out else ""
    return (
        f"{task.data}: {when}{series}, a season of {task.season_steps} time steps, features "
        f"{', '.join(f.name for f in task.features)}{unused} (--inspect tells more)"
    )


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
    table = understand(options, options.data)
    findings = _findings(table, options)
    draft_entries.check_targets(options, findings)
    used, left_out = draft_entries.chosen_features(options, findings)
    seasons = _seasons(table, findings[options.target[0]], options.timezone)
    names = draft_entries.names_of(used)
    features = [draft_entries.feature(f, names[f.column], options) for f in used]
    if not options.features:
        features += draft_entries.calendar(seasons, used, set(names.values()))
    fields: dict[str, Any] = {
        "name": name or _name_of(options.data.name),
        "description": _description(options, options.data.name),
        "data": options.data,
        "decimal": table.decimal if table.decimal != "." else None,
        "missing_values": draft_entries.words(used, findings, options),
        **clock_fields(table.axis),
        **table.step,
        "timezone": options.timezone,
        "series": table.series,
        "features": features,
        "outputs": draft_entries.outputs(options, findings, names, features),
    }
    if "every" in fields:
        fields["every_rules"] = draft_entries.rules(used, options.target)
    task = _validated({k: v for k, v in fields.items() if v is not None}, options)
    steps = _season_steps(table, task, seasons)
    return Draft(task.model_copy(update={"season_steps": steps}), left_out, tuple(seasons))


def _name_of(file: str) -> str:
    return plain_name(re.sub(r"[*?\[\]]", "", file).partition(".")[0], ())


def _description(options: TableOptions, file: str) -> str:
    steps = " and ".join(map(str, options.horizons))
    many = "" if options.horizons == (1,) else "s"
    return f"{' and '.join(options.target)}, {steps} time step{many} ahead, from {file}."


def _findings(table: TableFinding, options: TableOptions) -> dict[str, Finding]:
    """What each column is; the values of targets alone are kept."""
    findings = {}
    for column in table.columns.names:
        if column in (*table.axis.columns, table.series):
            continue
        if column == FILE and len(table.columns.origin.files) > 1 and FILE not in options.features:
            continue  # nothing that a caller could know
        array = table.columns.table[column]
        found = find_kind(array, column, table.decimal, table.columns.origin)
        target = column in options.target
        if table.series is not None and not target and not found.why:
            found = replace(found, static=is_static(array, table.codes))
        findings[column] = found if target else replace(found, values=None)
    return findings


def _validated(fields: dict[str, Any], options: TableOptions) -> TaskConfig:
    try:
        return TaskConfig.model_validate(fields)
    except ValidationError as error:
        raise DataError(f"{options.data}: {first_error(error)}") from error


def _seasons(table: TableFinding, target: Finding, zone: str | None) -> list[Season]:
    """The seasons of the target that show in most of its longest series, in the training part."""
    if table.times is None or target.values is None or table.axis.counts:
        return []
    usable = (table.codes >= 0) & ~np.isnat(table.times) & np.isfinite(target.values)
    if not usable.any():
        return []
    task = provisional(table.columns, table.axis, zone)
    task = task.model_copy(update={"time_step_s": None, "time_step": None, **_of_grid(table.step)})
    longest = np.argsort(-np.bincount(table.codes[usable]), kind="stable")[:SEEN_SERIES]
    found: dict[str, list[Season]] = {}
    for series in longest:
        rows = np.flatnonzero(usable & (table.codes == series))
        ticks = count_ticks(table.times[rows], task)
        places = (ticks.of_rows - ticks.of_rows.min()) // ticks.step
        early = places <= task.train_fraction * places.max()
        for season in find_seasons(
            target.values[rows][early],
            places[early],
            task.time_step_s,
            table.step.get("time_step"),
        ):
            found.setdefault(season.name, []).append(season)
    most = [each for each in found.values() if len(each) > len(longest) / 2]
    return [replace(each[0], error=_mean_error(each)) for each in most]


def _mean_error(seasons: list[Season]) -> float:
    return float(np.mean([season.error for season in seasons]))


def _of_grid(step: dict[str, Any]) -> dict[str, Any]:
    """A time step, of a grid in seconds."""
    if "every" not in step:
        return step
    return {"time_step_s": pd.Timedelta(step["every"]).total_seconds()}


def _season_steps(table: TableFinding, task: TaskConfig, seasons: list[Season]) -> int:
    """The season that repeats best, of those that the training split has several of."""
    if table.times is None:
        return 1
    times = table.times[~np.isnat(table.times)] if not table.axis.counts else table.times
    ticks = count_ticks(times, task)
    span = int(ticks.of_rows.max() - ticks.of_rows.min()) // ticks.step

    def fits(steps: int) -> bool:
        return FEWEST_SEASONS * steps + task.max_horizon <= task.train_fraction * span

    best = min((s for s in seasons if fits(s.steps)), key=lambda s: s.error, default=None)
    # A day is no season of days: what shows at first there is the week.
    usual = WEEK_DAYS if task.time_step_s == DAY_S else task.season_steps
    return best.steps if best is not None else usual if fits(usual) else 1
