"""The task's table: CSV or Parquet, read, cleaned, and refused where training could not use it."""

import lzma
import tarfile
import zipfile
import zlib

import numpy as np
import pandas as pd

from model.data.columns import flags, texts
from model.tasks.task import FeatureConfig, TaskConfig

# What pandas, pyarrow and the decompressors raise on a file that is broken or no table. A package
# that a format needs and that is not there is an ImportError, a ZIP with a password a RuntimeError.
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    ImportError,
    RuntimeError,
    LookupError,
    TypeError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)

# What stands for no number or no time in CSV: what pandas takes for it.
MISSING = [
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
]


# Where a table's `attrs` have what was left out of it.
LEFT_OUT = "left_out"


class DataError(ValueError):
    """The table does not fit the task; the message says which column and why."""


def read_table(task: TaskConfig) -> pd.DataFrame:
    """Reads the task's table, clean and sorted by series and time.

    Rows are left out that have no time or no series, where a feature that is never missing is
    missing, or where a feature is infinite or out of the task's limits; they become gaps.
    `left_out` of the table tells how many and why.

    Raises:
        OSError: the file cannot be opened.
        DataError: it is broken, a column is absent or of another type, a number is beyond float32,
            a time stands twice, or nothing is left.
    """
    path = task.data
    table = _read(task)
    columns, categories = _numeric_columns(task), _categories(task)
    key = [task.series] if task.series else []
    for column in [task.time, *key, *columns, *categories]:
        if column not in table.columns:
            raise DataError(f"{path}: no column {column!r}; it has {', '.join(map(str, table))}")
    if table.empty:
        raise DataError(f"{path}: no usable row")
    for column in categories:
        table[column] = texts(table[column])
    _read_flags(table, task)
    for column in columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise DataError(f"{path}: column {column!r} is not numeric")
    table[task.time] = _times(table[task.time], task)
    faults = _faults(table, task)
    keep = ~np.any(list(faults.values()), axis=0)
    for column in columns:
        _check_float32(table[column], keep, f"{path}: column {column!r}")
    told = _told(faults, keep)
    table = table[keep].sort_values([*key, task.time]).reset_index(drop=True)
    if table.empty:
        raise DataError(f"{path}: no usable row{because(told)}")
    _check_times_differ(table, task)
    _check_static(table, task)
    table.attrs[LEFT_OUT] = told
    return table


def left_out(table: pd.DataFrame) -> str:
    """How many rows `read_table` left out, and for what; empty if it left out none."""
    return str(table.attrs[LEFT_OUT])


def because(left_out: str) -> str:
    """What was left out, to end an error with; empty if that was nothing."""
    return f" ({left_out})" if left_out else ""


def _numeric_columns(task: TaskConfig) -> list[str]:
    features = [f.column for f in task.features if f.kind != "category"]
    return list(dict.fromkeys([*features, *(o.column for o in task.outputs)]))


def _categories(task: TaskConfig) -> list[str]:
    return list(dict.fromkeys(f.column for f in task.features if f.kind == "category"))


def _read_flags(table: pd.DataFrame, task: TaskConfig) -> None:
    """Makes the columns of flags 0 and 1."""
    for feature in task.features:
        if feature.kind == "flag":
            try:
                table[feature.column] = flags(table[feature.column])
            except ValueError as error:
                value, row = error.args
                raise DataError(
                    f"{task.data}: column {feature.column!r}, row {row + 1} has {str(value)!r}: a "
                    "flag is true or false, yes or no, 1 or 0"
                ) from None


def _check_static(table: pd.DataFrame, task: TaskConfig) -> None:
    """Refuses a static column that changes within a series."""
    for feature in task.features:
        if not feature.static:
            continue
        column = table[feature.column]
        first = column.groupby(table[task.series].astype(str)).transform("first")
        changed = (column != first) & column.notna()
        if changed.any():
            row = int(np.argmax(changed.to_numpy()))
            raise DataError(
                f"{task.data}: column {feature.column!r} is static, but in the series "
                f"{str(table[task.series].iloc[row])!r} it changes from {first.iloc[row]} to "
                f"{column.iloc[row]} at {table[task.time].iloc[row]}: leave static out"
            )


def _read(task: TaskConfig) -> pd.DataFrame:
    path = task.data
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        numeric = _numeric_columns(task)
        # A series, or the value of a category, may be called 007 or NA: it is text, and nothing
        # but an empty cell is missing.
        text = [*([task.series] if task.series else []), *_categories(task)]
        return pd.read_csv(
            path,
            dtype={column: str for column in text if column not in numeric},
            keep_default_na=False,
            na_values=dict.fromkeys([task.time, *numeric], MISSING),
        )
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # it names the file itself
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path}: cannot be read as a table: {reason}") from error


def _times(column: pd.Series, task: TaskConfig) -> pd.Series:
    """The times in UTC, datetime64 without a zone; NaT where there is none."""
    where, unit = f"{task.data}: column {task.time!r}", task.time_unit
    numeric = pd.api.types.is_numeric_dtype(column)
    if numeric and unit is None and column.notna().any():
        raise DataError(
            f"{where} holds numbers: if they count from 1970-01-01 UTC, say in the task what, "
            'time_unit = "s" (or "ms", "us", "ns"); else write times, such as 2020-01-31 13:00'
        )
    if unit is not None and not numeric:
        raise DataError(f"{where} holds no numbers, but the task has time_unit = {unit!r}")
    try:
        times = pd.to_datetime(column, unit=unit, utc=True).dt.tz_localize(None)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{where} is not of times: {reason}") from error
    # Seconds with a fraction are told to a quarter of a microsecond by float64, and a difference
    # that is not exactly a time step would be a gap.
    return times.dt.round("us") if pd.api.types.is_float_dtype(column) else times


def _faults(table: pd.DataFrame, task: TaskConfig) -> dict[str, np.ndarray]:
    """The rows, bool `[N]`, that cannot be used, by what is wrong with them."""
    faults = {f"{task.time} is missing": table[task.time].isna().to_numpy()}
    if task.series:
        series = table[task.series]
        nameless = series.isna() | (series.astype(str).str.strip() == "")
        faults[f"{task.series} is missing"] = nameless.to_numpy(bool)
    for feature in task.features:
        faults |= _faults_of(table[feature.column], feature)
    return faults


def _faults_of(column: pd.Series, feature: FeatureConfig) -> dict[str, np.ndarray]:
    name = feature.column
    if feature.kind == "category":
        return {} if feature.missing else {f"{name} has no value": column.isna().to_numpy()}
    numbers = column.to_numpy(np.float64, na_value=np.nan)
    infinite = np.isinf(numbers)
    faults = {f"{name} is infinite": infinite}
    if not feature.missing:
        faults[f"{name} has no number"] = np.isnan(numbers)
    if feature.minimum is not None:
        faults[f"{name} is below its minimum"] = ~infinite & (numbers < feature.minimum)
    if feature.maximum is not None:
        faults[f"{name} is above its maximum"] = ~infinite & (numbers > feature.maximum)
    return faults


def _told(faults: dict[str, np.ndarray], keep: np.ndarray) -> str:
    """In one line, how many rows are left out and for what."""
    if keep.all():
        return ""
    reasons = [f"{fault} in {rows.sum():,}" for fault, rows in faults.items() if rows.any()]
    return f"{(~keep).sum():,} of {len(keep):,} rows left out: {', '.join(reasons)}"


def _check_times_differ(table: pd.DataFrame, task: TaskConfig) -> None:
    """Refuses a time that stands twice in one series."""
    key = [task.series] if task.series else []
    again = table[table.duplicated([*key, task.time])]
    if again.empty:
        return
    first = again.iloc[0]
    of_series = f" of the series {str(first[task.series])!r}" if task.series else ""
    raise DataError(
        f"{task.data}: {first[task.time]} stands twice in column {task.time!r}{of_series}"
    )


def _check_float32(column: pd.Series, keep: np.ndarray, where: str) -> None:
    """Refuses a number that would be infinite in training: its loss would be too, after hours."""
    numbers = column.to_numpy(np.float64, na_value=np.nan)
    with np.errstate(over="ignore"):
        wrong = np.isinf(numbers.astype(np.float32)) & keep
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{where}, row {row + 1} has {float(numbers[row])!r}, more than float32 can hold "
            "(3.4e+38): correct it, or leave it empty if it is not known"
        )
