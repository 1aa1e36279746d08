"""Bodies in Arrow and NPZ."""

import io
import zipfile
from typing import Any

import numpy as np
import pyarrow as pa


def stream_of(columns: dict[str, Any], cuts: int = 1, **options: Any) -> bytes:
    """A stream of some record batches."""
    table = pa.table(columns)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=-(-max(1, len(table)) // cuts))
    return sink.getvalue()


def npy(array: Any) -> bytes:
    """A member of an archive."""
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def zip_of(method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    """An archive of members that need be no arrays."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return sink.getvalue()
