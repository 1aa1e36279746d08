"""Names that callers can send, made of what columns are called."""

import re
import unicodedata
from collections.abc import Collection

MOST_LETTERS = 64
# Letters that have no plain one below their mark.
PLAIN = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "ł": "l", "Ł": "L"})


def plain_name(column: str, taken: Collection[str]) -> str:
    """A name of letters, digits, `_`, `.` and `-` that is not taken: `Temp (°C)` becomes `Temp_C`.

    Args:
        column: what a column is called.
        taken: names that others have, or that may not be used.
    """
    plain = (
        unicodedata.normalize("NFKD", column.translate(PLAIN)).encode("ascii", "ignore").decode()
    )
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).strip("_.-")[:MOST_LETTERS] or "column"
    count, found = 1, name
    while found in taken:
        count += 1
        found = f"{name[: MOST_LETTERS - 1 - len(str(count))]}_{count}"
    return found
