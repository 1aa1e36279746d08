"""What a model is asked to do: which columns of which table go in, and what comes out.

A task is data, not code: a TOML file (`model/tasks/weather.toml` is the default).
`data/dataset.py` reads it to fit the transforms, and `train.py` to name and describe the model.
"""

import glob
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from model.network_config import Frozen, first_error
from model.tasks.time_config import TimeConfig

# The columns of states in Arrow streams, see `app/codec/arrow.py`; what features and outputs are
# called is the rest of such a stream's columns.
STATE_IN_REQUESTS, STATE_IN_ANSWERS = "initial_state", "state"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


# What a feature may take of its row's time: the hour with its fraction, Monday 0, January 1st 1.
Calendar = Literal["hour_of_day", "day_of_week", "day_of_year"]


def _name(fields: dict[str, Any]) -> str:
    """The name, if that is valid; `fields` are those validated so far."""
    return str(fields.get("name", ""))


class FeatureConfig(Frozen):
    """One input column.

    Attributes:
        name: what callers know it by.
        column: of the table; by default the one that has its name.
        unit: unit of the raw column, as callers send it; a flag and a category have none.
        kind: `number` is standardised; `cyclic` (an angle, an hour of day) becomes sine and cosine;
            `flag` is true or false; `category` is text or a code, of which the values of the
            training split are known and all others are one, unknown.
        period: of a cyclic column, in its own unit.
        calendar: what the column is, where the table has none and it is made of the row's time, on
            the clock of the task's `timezone`; callers send it.
        missing: whether a caller may send null; then the network also sees a flag.
        minimum, maximum: rows of the *table* outside are faulty and left out of training.
        ahead: time steps after the row from which the column's value is; 0 is now.
        static: whether each series has one value, which callers may send with the first row alone.
    """

    name: Name
    column: str = Field(default_factory=_name)
    unit: str = ""
    description: str = ""
    kind: Literal["number", "cyclic", "flag", "category"] = "number"
    period: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    calendar: Calendar | None = None
    missing: bool = False
    minimum: float | None = None
    maximum: float | None = None
    ahead: Annotated[int, Field(ge=0)] = 0
    static: bool = False

    @model_validator(mode="after")
    def _options_go_together(self) -> Self:
        of = f"feature {self.name!r}"
        if (self.kind == "cyclic") != (self.period is not None):
            raise ValueError(f"{of}: kind 'cyclic' and a period go together")
        if self.is_measured and "unit" not in self.model_fields_set:
            raise ValueError(f"{of}: its unit is missing")
        if not self.is_measured and (self.minimum, self.maximum) != (None, None):
            raise ValueError(f"{of}: kind {self.kind!r} has no minimum and no maximum")
        if self.static and self.ahead:
            raise ValueError(f"{of}: what is static is the same ahead: leave out ahead")
        return self

    @property
    def is_measured(self) -> bool:
        """Whether it has a unit."""
        return self.kind in ("number", "cyclic")


class OutputConfig(Frozen):
    """One output: a column so many time steps ahead.

    Attributes:
        change: predict the change from the column's present value, which is added back in the
            graph; the column must then be a feature that is never missing. None to choose by the
            validation split.
    """

    name: Name
    unit: str
    column: str
    horizon: Annotated[int, Field(ge=0)]
    change: bool | None = None


class TaskConfig(TimeConfig):
    """A table, its time axis (see `TimeConfig`), its features and its outputs.

    Attributes:
        data: CSV (also compressed), Parquet, Arrow, Feather or NPZ, relative to the working
            directory; with `*`, `?` or `[` all files that it finds.
        decimal: what stands before the decimals in text; None to find it.
        missing_values: texts, or numbers as text, that stand for no number besides the usual ones.
        series: column that tells one series from another (a station), or None.
        train_fraction, validation_fraction: of the time covered; what is left is the test split.
        example_steps: time steps of the example that the manifest carries.
    """

    name: Name
    description: str
    source: str = ""
    data: Path
    decimal: Literal[".", ","] | None = None
    missing_values: tuple[str, ...] = ()
    series: str | None = None
    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.7
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15
    example_steps: Annotated[int, Field(ge=1, le=100)] = 3
    features: Annotated[tuple[FeatureConfig, ...], Field(min_length=1)]
    outputs: Annotated[tuple[OutputConfig, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for group in (self.features, self.outputs):
            names = [entry.name for entry in group]
            if len(set(names)) != len(names):
                raise ValueError(f"names must differ: {names}")
        if self.train_fraction + self.validation_fraction >= 1:
            raise ValueError("train_fraction + validation_fraction must leave a test split")
        self._check_names()
        self._check_kinds()
        for output in self.outputs:
            if output.change and output.column not in self.always_known:
                raise ValueError(
                    f"output {output.name!r} is a change of {output.column!r}, "
                    "which is not a number feature that is never missing"
                )
        return self

    def _check_names(self) -> None:
        """Raises ValueError for a name or a column that is taken for something else."""
        for kind, group, reserved in (
            ("feature", self.features, STATE_IN_REQUESTS),
            ("output", self.outputs, STATE_IN_ANSWERS),
        ):
            for entry in group:
                if entry.name == reserved:
                    raise ValueError(
                        f"no {kind} may be called {reserved!r}: so is the column of states in "
                        "Arrow streams"
                    )
                if entry.column == self.time:
                    raise ValueError(
                        f"{kind} {entry.name!r}: column {entry.column!r} has the times: add a "
                        "column of numbers, such as the hour of day"
                    )

    def _check_kinds(self) -> None:
        """Raises ValueError for a feature that cannot be what its kind says."""
        for feature in self.features:
            if feature.calendar and (self.time is None or isinstance(self.time_step, float)):
                raise ValueError(
                    f"feature {feature.name!r}: its calendar is of times, and the task has none"
                )
            if (
                feature.kind == "category"
                and self.every_rules.get(feature.column, "last") != "last"
            ):
                raise ValueError(f"every_rules: column {feature.column!r} is a category: say last")
            if feature.static and self.series is None:
                raise ValueError(
                    f"feature {feature.name!r} is static, the same for all of a series, but the "
                    "task has no series: leave static out"
                )
            for output in self.outputs:
                if output.column != feature.column:
                    continue
                if feature.kind == "category":
                    raise ValueError(
                        f"output {output.name!r}: column {output.column!r} is a category, and "
                        "outputs are numbers"
                    )
                if feature.ahead and feature.ahead >= output.horizon:
                    raise ValueError(
                        f"feature {feature.name!r} tells what output {output.name!r} is to "
                        f"forecast: both are of {feature.column!r}, {feature.ahead} and "
                        f"{output.horizon} time steps ahead"
                    )

    @property
    def always_known(self) -> dict[str, str]:
        """The columns that a change may be counted from, and the features that they are."""
        return {
            f.column: f.name
            for f in self.features
            if f.kind == "number" and not f.missing and not f.ahead
        }

    @property
    def max_horizon(self) -> int:
        """The longest horizon, in time steps."""
        return max(output.horizon for output in self.outputs)


def load_task(path: Path) -> TaskConfig:
    """Reads a task from TOML.

    Returns:
        The task; where its table is not in the working directory but beside the file, `data` is
        that path.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not TOML, or not a task.
    """
    try:
        task = TaskConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ValueError(f"{path}: {first_error(error)}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ValueError(f"{path}: {error}") from error
    beside = path.parent / task.data
    if not _is_there(task.data) and _is_there(beside):
        return task.model_copy(update={"data": beside})
    return task


def _is_there(data: Path) -> bool:
    """Whether a file is there, or one that a pattern finds."""
    return data.exists() or any(glob.iglob(str(data)))
