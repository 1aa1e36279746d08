"""Files to columns: CSV, Parquet, Arrow, Feather and NPZ, one file or all that a pattern finds.

`table.py` reads a task's table with it, and `draft.py` one of which nothing is known yet.
"""

import glob
import re
import tokenize
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from model.data.cells import MISSING, DataError, Decimal, Origin, shown
from model.data.compression import BROKEN, opened
from model.data.dialect import HEAD_BYTES, SPACES, Dialect, find_dialect
from model.data.ready_sequences import ready_sequences

# What pandas, pyarrow and NumPy raise too of a file that is broken or no table: NumPy reads the
# header of an array as an expression of Python.
UNREADABLE = (
    *BROKEN,
    ValueError,
    ImportError,
    LookupError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
)
# What the index of a table of pandas is called that has no name, and which file a row is from
# where there are several.
INDEX, FILE = "index", "file"


# Columns are large and soon gone: their memory is to go back to the system, not into a pool.
pa.set_memory_pool(pa.system_memory_pool())


@dataclass(frozen=True)
class Columns:
    """Columns as a file has them.

    Attributes:
        table: those asked for that there are; text from CSV, whatever type they have elsewhere.
        names: of all columns of the file.
        origin: of the rows.
    """

    table: pa.Table
    names: tuple[str, ...]
    origin: Origin


@dataclass(frozen=True)
class _Quick:
    """Columns of CSV that may come as numbers at once, and how those are written."""

    columns: tuple[str, ...]
    decimal: Decimal
    missing: tuple[str, ...]


def read_columns(
    data: Path,
    wanted: Collection[str] | None = None,
    numeric: Collection[str] = (),
    decimal: Decimal | None = None,
    missing: Sequence[str] = (),
) -> Columns:
    """Reads columns of a file, or of all files of a pattern, one below the other.

    Args:
        data: a path, which may hold the wildcards of `glob`.
        wanted: columns to read; None for all.
        numeric: columns that may come as numbers at once. They come as text where that fails,
            so that the cell that is wrong can be told.
        decimal: what stands before the decimals of those; None to find it.
        missing: texts that stand for no number in those, besides the usual ones.

    Raises:
        OSError: a file cannot be opened.
        DataError: it is broken or no table, or the files do not have the same columns.
    """
    quick = _Quick(tuple(numeric), decimal or ".", (*MISSING, *missing))
    paths = [data] if data.exists() else [Path(p) for p in sorted(glob.glob(str(data)))]
    tables, names = [], None
    for path in paths or [data]:
        table, found = _read_file(path, wanted, quick)
        if names is not None and set(found) != set(names):
            odd = sorted(set(found) ^ set(names))[0]
            here, there = (path, paths[0]) if odd in found else (paths[0], path)
            raise DataError(f"{there}: no column {odd!r}, which {here} has")
        names = names or found
        tables.append(table)
    origin = Origin(tuple((p, len(t)) for p, t in zip(paths or [data], tables, strict=True)), data)
    table = _joined(tables, paths)
    return Columns(
        table, tuple(dict.fromkeys([*(names or ()), *([FILE] if paths[1:] else [])])), origin
    )


def _joined(tables: list[pa.Table], paths: list[Path]) -> pa.Table:
    if len(tables) == 1:
        return tables[0]
    marked = []
    for table, path in zip(tables, paths, strict=True):
        columns = {name: table[name] for name in table.column_names}
        if FILE not in columns:
            columns[FILE] = pa.array([path.name.partition(".")[0]] * len(table), pa.string())
        marked.append(columns)
    joined = {}
    for name in marked[0]:
        parts = [columns[name] for columns in marked]
        if len({part.type for part in parts}) > 1:
            parts = [part.cast(pa.string()) for part in parts]
        chunks = [c for p in parts for c in (p.chunks if isinstance(p, pa.ChunkedArray) else [p])]
        joined[name] = pa.chunked_array(chunks, parts[0].type)
    return pa.table(joined)


def _read_file(
    path: Path, wanted: Collection[str] | None, quick: _Quick
) -> tuple[pa.Table, tuple[str, ...]]:
    """The columns of one file, and the names of all that it has."""
    path.open("rb").close()  # its error names the file
    try:
        match path.suffix.lower():
            case ".parquet" | ".pq":
                table, names = _parquet(path, wanted)
            case ".feather" | ".arrow" | ".ipc":
                table, names = _arrow(path, wanted)
            case ".npz":
                table, names = _sequences(path, wanted)
            case _:
                table, names = _csv(path, wanted, quick)
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path}: cannot be read as a table: {reason}") from error
    if len(set(names)) < len(names):
        again = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: the column {again!r} stands twice: give each a name of its own")
    return _plain(table), names


def _parquet(path: Path, wanted: Collection[str] | None) -> tuple[pa.Table, tuple[str, ...]]:
    with pa.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        table = file.read(columns=_chosen(names, wanted))
    return _with_index(table), tuple(map(_index_name, names))


def _arrow(path: Path, wanted: Collection[str] | None) -> tuple[pa.Table, tuple[str, ...]]:
    """A file of Arrow (Feather's second version), a stream of it, or Feather's first version."""
    try:
        table = pa.feather.read_table(path)
    except pa.ArrowInvalid:
        with pa.OSFile(str(path)) as file:
            table = pa.ipc.open_stream(file).read_all()
    names = table.column_names
    return _with_index(table.select(_chosen(names, wanted))), tuple(map(_index_name, names))


def _index_name(name: str) -> str:
    return INDEX if name == "__index_level_0__" else name


def _with_index(table: pa.Table) -> pa.Table:
    """A table of pandas, whose index without a name gets one."""
    return table.rename_columns([_index_name(name) for name in table.column_names])


def _chosen(names: Collection[str], wanted: Collection[str] | None) -> list[str]:
    return [name for name in names if wanted is None or _index_name(name) in wanted]


def _plain(table: pa.Table) -> pa.Table:
    """Columns without dictionaries and views of text, which few functions know."""
    plain = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_string_view(column.type):
            column = column.cast(pa.string())
        plain[name] = column
    return pa.table(plain)


def _sequences(path: Path, wanted: Collection[str] | None) -> tuple[pa.Table, tuple[str, ...]]:
    columns = ready_sequences(path)
    table = pa.table(columns)
    return table.select(_chosen(table.column_names, wanted)), tuple(columns)


def _csv(
    path: Path, wanted: Collection[str] | None, quick: _Quick
) -> tuple[pa.Table, tuple[str, ...]]:
    with opened(path) as file:
        dialect = find_dialect(file.read(HEAD_BYTES))
    names = tuple(
        name or (INDEX if place == 0 else f"column_{place + 1}")
        for place, name in enumerate(dialect.names)
    )
    if not dialect.has_rows:
        return pa.table({name: pa.array([], pa.string()) for name in _chosen(names, wanted)}), names
    for encoding in dict.fromkeys((dialect.encoding, "cp1252", "latin-1")):
        for numeric in dict.fromkeys([quick.columns, ()]):
            try:
                return _csv_as(path, dialect, encoding, names, wanted, quick, numeric), names
            except UnicodeDecodeError:
                break  # a byte far below is none of this encoding
            except pa.ArrowInvalid as error:
                if "invalid UTF8" in str(error):
                    break
                if "conversion error" not in str(error) or not numeric:
                    raise ValueError(_told(str(error), dialect)) from error
    raise ValueError("it is no text")


def _told(error: str, dialect: Dialect) -> str:
    """What pyarrow says of a row, which it counts from the first line on."""
    found = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", error, re.DOTALL)
    if not found:
        return error
    row = int(found[1]) - dialect.skipped_lines - 1
    return f"row {row} has {found[3]} fields, not {found[2]}: {shown(found[4])}"


def _csv_as(
    path: Path,
    dialect: Dialect,
    encoding: str,
    names: tuple[str, ...],
    wanted: Collection[str] | None,
    quick: _Quick,
    numeric: tuple[str, ...],
) -> pa.Table:
    with opened(path) as file:
        if dialect.separator == SPACES:
            frame = pd.read_csv(
                file, sep=r"\s+", dtype=str, keep_default_na=False, encoding=encoding,
                skiprows=dialect.skipped_lines + 1, names=list(names), index_col=False,
            )  # fmt: skip
            table = pa.Table.from_pandas(frame, preserve_index=False)
            return table.select(_chosen(table.column_names, wanted))
        return pa.csv.read_csv(
            file,
            # One thread is as fast here, holds less at once, and counts rows where one is wrong.
            pa.csv.ReadOptions(
                use_threads=False,
                encoding=encoding,
                column_names=names,
                skip_rows=dialect.skipped_lines + 1,
            ),
            pa.csv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True),
            pa.csv.ConvertOptions(
                column_types={n: pa.float64() if n in numeric else pa.string() for n in names},
                include_columns=_chosen(names, wanted),
                null_values=quick.missing,
                decimal_point=quick.decimal,
            ),
        )
