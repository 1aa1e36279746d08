"""Ready sequences in an NPZ file, as requests have them, with the names of their columns."""

from pathlib import Path

import numpy as np

# The column that tells which sequence a row is of.
SEQUENCE = "sequence"


def ready_sequences(path: Path) -> dict[str, np.ndarray]:
    """All sequences one below the other.

    Args:
        path: of an archive with `sequences`, `[B, T, F]` or `[sum of T, F]`, with `lengths`, `[B]`,
            where they differ, and the names of their columns in `columns`, `[F]`.

    Returns:
        Columns, `[sum of T]` each: `SEQUENCE`, counted from 0, and those of the file.

    Raises:
        ValueError: it has no such arrays.
    """
    with np.load(path, allow_pickle=False) as arrays:
        if "sequences" not in arrays:
            raise ValueError(f"it has no array 'sequences', but {', '.join(arrays)}")
        sequences, lengths = arrays["sequences"], arrays.get("lengths")
        names = [str(name) for name in arrays["columns"]] if "columns" in arrays else None
    if sequences.ndim not in (2, 3):
        raise ValueError(
            f"'sequences' has the shape {list(sequences.shape)}; it may have [rows, columns] with "
            "'lengths', or [sequences, time steps, columns]"
        )
    rows, lengths = _rows_of(sequences, lengths)
    names = names or [f"column_{index}" for index in range(rows.shape[1])]
    if len(names) != rows.shape[1]:
        raise ValueError(f"'columns' has {len(names)} names for {rows.shape[1]} columns")
    columns = {SEQUENCE: np.repeat(np.arange(len(lengths)), lengths)}
    return columns | {name: rows[:, index] for index, name in enumerate(names)}


def _rows_of(sequences: np.ndarray, lengths: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """All rows one after the other, `[rows, columns]`, and the lengths of the sequences."""
    if sequences.ndim == 2:
        if lengths is None or int(lengths.sum()) != len(sequences):
            raise ValueError(f"'lengths' must be there and sum up to {len(sequences):,} rows")
        return sequences, lengths
    count, most, _ = sequences.shape
    if lengths is None:
        lengths = np.full(count, most)
    if lengths.shape != (count,) or lengths.max(initial=0) > most:
        raise ValueError(f"'lengths' must have {count:,} numbers of at most {most:,}")
    return sequences[np.arange(most) < lengths[:, None]], lengths
