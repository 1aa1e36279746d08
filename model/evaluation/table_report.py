"""What was understood of a table, for people: `python -m model.train --inspect`.

Nothing is trained. The table is read as for a training, cut into its splits, and forecast by the
baselines, so that what would be refused later is refused here.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from model.data import dataset
from model.data.draft import Draft
from model.data.table import left_out, read_table
from model.data.time_index import count_ticks, shown, time_column
from model.evaluation.skill import Skill, evaluate_baselines
from model.evaluation.tables import readable
from model.tasks.task import FeatureConfig, TaskConfig
from model.training.recipe import choose_window, past_steps

# Names of series that are shown, at most.
MOST_NAMES = 5


def inspect(draft: Draft, window_steps: int | None, console: Console) -> None:
    """Prints what was understood of a task's table.

    Args:
        draft: the task, and what was found out when it was drafted.
        window_steps: time steps of a training window; None to choose as a training does.
        console: to print on.

    Raises:
        OSError, DataError: the table cannot be used.
    """
    task = draft.task
    table = read_table(task)
    console.print(f"{task.data}", style="bold", soft_wrap=True, highlight=False)
    console.print(_grid(_of_table(table, draft)))
    console.print(_columns(table, draft))
    past = past_steps(window_steps, task.season_steps)
    splits = dataset.split_table(table, task, past_steps=past)
    steps = window_steps or choose_window(splits, task.season_steps)
    console.print(_splits(splits, task, steps))
    features = dataset.fit_features(task, splits["train"])
    dataset.fit_outputs(task, splits["train"])
    names = [output.name for output in task.outputs]
    try:
        skill = evaluate_baselines(features, names, splits, steps, task.season_steps)
    except ValueError as error:
        console.print(f"No baseline: {error}", highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(_errors(skill, task, steps))
        for note in skill.notes:
            console.print(note, highlight=False, markup=False, soft_wrap=True)


def _grid(rows: Iterable[tuple[str, str]]) -> Table:
    grid = Table(show_header=False, box=box.SIMPLE)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in rows:
        grid.add_row(name, escape(text))
    return grid


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def _of_table(table: pd.DataFrame, draft: Draft) -> Iterable[tuple[str, str]]:
    """Rows, series, span, step, gaps and season."""
    task = draft.task
    times = table[time_column(task)].to_numpy()
    yield "rows", f"{len(table):,}"
    if told := left_out(table):
        yield "left out", told
    if task.missing_values:
        yield "missing", f"for no number stands {', '.join(task.missing_values)}"
    codes = np.zeros(len(table), np.int64)
    if task.series is not None:
        codes, found = pd.factorize(table[task.series])
        names = [str(name) for name in found]
        some = ", ".join(names[:MOST_NAMES]) + (", ..." if names[MOST_NAMES:] else "")
        yield "series", f"{len(names):,} in {task.series!r}: {some}"
    ticks = count_ticks(times, task)
    if task.time is not None:
        first, last = shown(times.min(), task), shown(times.max(), task)
        yield "time", f"{task.time!r}, {_written(task)}"
        yield "span", f"{first} to {last}"
    yield "time step", _step(task)
    yield "gaps", _gaps(ticks.of_rows // ticks.step, codes, times, task)
    shows = ", ".join(f"{s.name} ({s.steps:,} time steps)" for s in draft.seasons)
    yield "season", f"{task.season_steps:,} time steps" + (f"; it shows {shows}" if shows else "")


def _written(task: TaskConfig) -> str:
    if isinstance(task.time_step, float):
        return "a number that counts rows"
    how = (
        task.time_format or (task.time_unit and f"{task.time_unit} from 1970 on") or "as it stands"
    )
    return f"{how}, {'UTC' if task.timezone is None else task.timezone}"


def _step(task: TaskConfig) -> str:
    if task.time is None:
        return "a row: there is no column of times"
    if task.every is not None:
        rules = ", ".join(f"{column}: {rule}" for column, rule in task.every_rules.items())
        return f"{task.every}, a grid ({rules or 'mean'})"
    if task.time_step is not None:
        return f"{task.time_step:g}" if isinstance(task.time_step, float) else task.time_step
    return _seconds(task.time_step_s or 0)


def _seconds(seconds: float) -> str:
    for size, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds / size:g} {word}"
    return f"{seconds:g} s"


def _gaps(places: np.ndarray, codes: np.ndarray, times: np.ndarray, task: TaskConfig) -> str:
    same = np.diff(codes) == 0
    missing = np.where(same, np.diff(places) - 1, 0)
    if not missing.any():
        return "none"
    row = int(np.argmax(missing))
    return (
        f"{int((missing > 0).sum()):,}, the longest of {missing[row]:,} time steps after "
        f"{shown(times[row], task)}"
    )


def _columns(table: pd.DataFrame, draft: Draft) -> Table:
    task = draft.task
    found = _table("Columns")
    for head in ("column", "feature", "kind", "range", "missing", "use"):
        found.add_column(head, justify="right" if head == "missing" else "left", overflow="fold")
    targets = {output.column for output in task.outputs}
    for feature in task.features:
        use = "feature, target" if feature.column in targets else "feature"
        name = "(calendar)" if feature.calendar else feature.column
        cells = (name, feature.name, _kind(feature), *_range(table[feature.column]), use)
        found.add_row(*map(escape, cells))
    for column in sorted(targets - {f.column for f in task.features}):
        found.add_row(escape(column), "", "number", *_range(table[column]), "target")
    for column, why in draft.left_out.items():
        if column not in targets:
            found.add_row(escape(column), "", "", "", "", f"left out: {escape(why)}", style="dim")
    return found


def _kind(feature: FeatureConfig) -> str:
    period = "" if feature.period is None else f" of {feature.period:.6g}"
    unit = f" {feature.unit}" if period else f", {feature.unit}"
    static = ", static" if feature.static else ""
    return f"{feature.kind}{period}{unit if feature.unit else ''}{static}"


def _range(column: pd.Series) -> tuple[str, str]:
    """From the least to the largest number, or the values of a category; and what is missing."""
    missing = float(column.isna().mean())
    share = "" if missing == 0 else f"{missing:.1%}"
    if isinstance(column.dtype, pd.CategoricalDtype):
        values = column.value_counts().index.astype(str)
        more = ", ..." if len(values) > MOST_NAMES else ""
        return f"{len(values):,}: {', '.join(values[:MOST_NAMES])}{more}", share
    return f"{column.min():.6g} to {column.max():.6g}", share


def _splits(splits: dict[str, dataset.Split], task: TaskConfig, steps: int) -> Table:
    found = _table(f"Splits, with windows of {steps} time steps")
    for head in ("split", "from", "to", "rows", "windows"):
        found.add_column(head, justify="right" if head in ("rows", "windows") else "left")
    for name, split in splits.items():
        windows = dataset.windows(split, steps, 1 if name == "train" else max(1, steps // 2))
        first, last = shown(split.own_times.min(), task), shown(split.own_times.max(), task)
        found.add_row(name, first, last, f"{split.own.sum():,}", f"{len(windows):,}")
    return found


def _errors(skill: Skill, task: TaskConfig, steps: int) -> Table:
    title = (
        f"What a model has to beat: mean absolute errors of {skill.test.num_forecasts:,} forecasts "
        f"on the test split, from {steps} time steps each"
    )
    found = _table(title)
    found.add_column("baseline")
    for output in task.outputs:
        found.add_column(f"{output.name} {output.unit}".strip(), justify="right")
    for method, errors in skill.test.errors.items():
        found.add_row(method, *("-" if np.isnan(e) else readable(float(e)) for e in errors))
    return found
