"""Files, decompressed by their suffix."""

import bz2
import contextlib
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

# What decompressors raise of a file that is broken. A ZIP with a password is a RuntimeError.
BROKEN = (
    OSError,
    EOFError,
    RuntimeError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file, decompressed by its suffix; of an archive the one file that is in it."""
    with contextlib.ExitStack() as stack:
        match path.suffix.lower():
            case ".gz":
                file: Any = stack.enter_context(gzip.open(path))
            case ".xz":
                file = stack.enter_context(lzma.open(path))
            case ".bz2":
                file = stack.enter_context(bz2.open(path))
            case ".zst":
                file = stack.enter_context(pa.CompressedInputStream(str(path), "zstd"))
            case ".zip":
                archive = stack.enter_context(zipfile.ZipFile(path))
                file = stack.enter_context(archive.open(_only(archive.namelist())))
            case ".tar":
                packed = stack.enter_context(tarfile.open(path))
                member = packed.extractfile(_only(packed.getnames()))
                if member is None:
                    raise ValueError("it holds no file")
                file = stack.enter_context(member)
            case _:
                file = stack.enter_context(path.open("rb"))
        yield file


def _only(names: list[str]) -> str:
    if len(names) != 1:
        raise ValueError(f"it holds {len(names)} files: pack one alone")
    return names[0]
