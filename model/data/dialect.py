"""How a CSV file is written: its encoding, what separates its fields, where its names stand.

Nothing of it is asked of the user; all of it is found in the file's first bytes.
"""

import codecs
import csv
from collections import Counter
from dataclasses import dataclass

# What is looked at. A row of hundreds of columns has some kilobytes.
HEAD_BYTES = 2**18
MOST_LINES = 100

SEPARATORS = (",", ";", "\t", "|", "^", "~", "!", "&")
SPACES = " "  # any number of them

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Dialect:
    """How a file is written.

    Attributes:
        encoding: as Python calls it.
        separator: between fields; `SPACES` for any number of spaces.
        skipped_lines: lines before the one with the names.
        names: of the columns, as they stand in the file; where rows have one field more than there
            are names, that is the name of a row, and stands first without a name.
        has_rows: whether there is a row below.
    """

    encoding: str
    separator: str
    skipped_lines: int
    names: tuple[str, ...]
    has_rows: bool = True


def find_dialect(head: bytes) -> Dialect:
    """Finds how a file is written.

    Args:
        head: its first bytes, decompressed, `HEAD_BYTES` where it has so many.

    Raises:
        ValueError: it is empty, or no text.
    """
    encoding = find_encoding(head)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head).lstrip("\ufeff")
    if any(ord(c) < 32 and c not in "\t\r\n\f\x1a" for c in text[:4096]):
        raise ValueError("it is no text")
    lines = text.splitlines()
    if len(head) >= HEAD_BYTES:
        lines = lines[:-1]  # it may be cut
    skipped = 0
    separators = [*SEPARATORS, SPACES]
    for line in lines:
        if line.lower().startswith("sep=") and len(line) == 5:  # as Excel has it
            separators = [line[4]]
        elif line.strip() and not line.startswith("#"):
            break
        skipped += 1
    lines = [line for line in lines[skipped:] if line.strip()][:MOST_LINES]
    if not lines:
        raise ValueError("it is empty")
    marks = lines[0].replace(SPACES, "")  # names have spaces in them
    separator = max(separators, key=lambda s: (*_rank(lines, s), marks.count(s)))
    names, *rows = _fields(lines, separator)
    if rows and _usual(rows) == len(names) + 1:
        names = ["", *names]
    return Dialect(
        encoding, separator, skipped, tuple(name.strip() for name in names), has_rows=bool(rows)
    )


def find_encoding(head: bytes) -> str:
    """The encoding of a text that begins so: what its mark says, UTF-8, or else Windows-1252."""
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    zeros = [head[start::2].count(0) / max(1, len(head) // 2) for start in (0, 1)]
    if max(zeros) > 0.5 > 0.1 > min(zeros):  # a letter of ASCII has one byte of zero
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    for encoding in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(head)  # a character may be cut
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


def _fields(lines: list[str], separator: str) -> list[list[str]]:
    if separator == SPACES:
        return [line.split() for line in lines]
    return list(csv.reader(lines, delimiter=separator))


def _usual(rows: list[list[str]]) -> int:
    return Counter(map(len, rows)).most_common(1)[0][0]


def _rank(lines: list[str], separator: str) -> tuple[float, int]:
    """How well a separator explains the lines: the part of equal length, then the fields."""
    # Spaces separate only where nothing else does: names and times have some in them.
    if separator == SPACES and any(other in lines[0] for other in SEPARATORS):
        return 0.0, 0
    names, *rows = _fields(lines, separator)
    usual = _usual(rows) if rows else len(names)
    if usual < 2 or usual - len(names) not in (0, 1):
        return 0.0, 0
    equal = sum(len(row) == usual for row in rows) / max(1, len(rows))
    return round(equal, 1), usual
