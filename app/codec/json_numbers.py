"""JSON and the numbers in it: parsed, checked, printed.

Checking is quick where all is well: types and ranges of many numbers at once. Only blocks in which
that finds something wrong are gone through one by one, to say where: each of them has a fault, and
after `MAX_FAULTS` nobody looks further.
"""

import itertools
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import orjson

from app.errors import Fault, InvalidRequest, NotJSON

MAX_FAULTS = 10
MAX_ECHO = 80
# Numbers that are checked at once when it is known that something is wrong.
BLOCK = 1024
FLOAT32_MAX = float(np.finfo(np.float32).max)

NUMBERS = frozenset({float, int})
NUMBERS_OR_NULL = frozenset({float, int, type(None)})


def parse_json(body: str | bytes) -> Any:
    """Parses a body.

    Raises:
        NotJSON: with the position of the first byte that is not.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # -Infinity gives the second of these messages.
        odd = error.msg.startswith(("unexpected character", "no digit after sign"))
        hint = "; NaN and Infinity are not JSON" if odd else ""
        raise NotJSON(Fault("", f"{error}{hint}")) from None


def echo(value: object) -> str:
    """A value as an error message shows it: short, and never what is inside of a container."""
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    text = orjson.dumps(value).decode()
    return text if len(text) <= MAX_ECHO else text[: MAX_ECHO - 3] + "..."


def escaped(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def print_json(value: object) -> bytes:
    """Prints an answer; float32 as its shortest decimal that reads back the same.

    Arrays must be finite: JSON has no other numbers.
    """
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


class Faults:
    """Collects faults and stops looking after `MAX_FAULTS`."""

    def __init__(self) -> None:
        self._found: list[Fault] = []

    def add(self, pointer: str, message: str) -> None:
        """Takes one."""
        self.extend([Fault(pointer, message)])

    def extend(self, faults: Iterable[Fault]) -> None:
        """Takes as many as there is room for; raises when there is no more."""
        room = MAX_FAULTS - len(self._found)
        self._found += itertools.islice(faults, room)
        if len(self._found) >= MAX_FAULTS:
            self.raise_any()

    def raise_any(self) -> None:
        """Raises `InvalidRequest` if there are any."""
        if self._found:
            raise InvalidRequest(*self._found)


def may_have_booleans(body: bytes) -> bool:
    """Whether `true` or `false` could be in a JSON text; a letter of each is found at once."""
    return b"t" in body or b"f" in body


def quick_numbers(numbers: list[object], booleans: bool = True) -> np.ndarray | None:
    """float32 `[N]`, or None if anything is not a number within the range of float32.

    `struct` is twice as fast as NumPy from a list, and refuses what rounds to infinity.

    Args:
        numbers: anything that JSON has.
        booleans: whether some may be: only they look like numbers and are none.
    """
    if booleans and not set(map(type, numbers)) <= NUMBERS:
        return None
    try:
        # Only the form with a byte order refuses what does not fit.
        return np.frombuffer(struct.pack(f"<{len(numbers)}f", *numbers), "<f4")
    except (OverflowError, struct.error):
        return None


def nullable_numbers(numbers: list[object]) -> np.ndarray | None:
    """As `quick_numbers`, but null is NaN."""
    if not set(map(type, numbers)) <= NUMBERS_OR_NULL:
        return None
    # Beyond float32 a number becomes infinite.
    with np.errstate(over="ignore"):
        array = np.array(numbers, np.float32)
    return None if np.isinf(array).any() else array


def float32_copy(array: np.ndarray) -> np.ndarray:
    """Numbers that came as bytes as float32, row by row; infinite where float32 cannot hold them.

    A copy even of float32: nothing of the body is kept.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, order="C")


def invalid(pointer: str, message: str) -> InvalidRequest:
    """The error of a single fault."""
    return InvalidRequest(Fault(pointer, message))


def vector(value: object, size: int, pointer: str, faults: Faults) -> np.ndarray | None:
    """float32 `[size]`, or None with the faults recorded."""
    if not isinstance(value, list) or len(value) != size:
        faults.add(pointer, f"must be an array of {size} numbers, got {echo(value)}")
        return None
    array = quick_numbers(value)
    if array is not None:
        return array
    faults.extend(number_faults(value, pointer, np.zeros(size, bool)))
    return None


def number_faults(numbers: list[object], pointer: str, nullable: np.ndarray) -> Iterator[Fault]:
    """What is wrong with numbers; `nullable` says of each whether it may be null."""
    for index, message in wrong_numbers(numbers, nullable):
        yield Fault(f"{pointer}/{index}", message)


def wrong_numbers(numbers: list[object], nullable: np.ndarray) -> Iterator[tuple[int, str]]:
    """As `number_faults`: the index of each that is wrong, and what is wrong."""
    for start in range(0, len(numbers), BLOCK):
        block, may_be_null = numbers[start : start + BLOCK], nullable[start : start + BLOCK]
        if _are_fine(block, may_be_null):
            continue
        for index, value in enumerate(block):
            if value is None:
                if not may_be_null[index]:
                    yield start + index, "must be a number; null is not allowed here"
            elif type(value) not in NUMBERS:
                yield start + index, f"must be a number, got {echo(value)}"
            elif not _fits_float32(value):
                range_ = f"the range of float32, {FLOAT32_MAX:.4g}"
                yield start + index, f"{echo(value)} is beyond {range_}"


def _are_fine(numbers: list[object], nullable: np.ndarray) -> bool:
    if quick_numbers(numbers) is not None:
        return True
    array = nullable_numbers(numbers)
    return array is not None and not (np.isnan(array) & ~nullable).any()


def _fits_float32(value: Any) -> bool:
    if -FLOAT32_MAX <= value <= FLOAT32_MAX:
        return True
    # A number above the largest one by less than half a unit in its last place is rounded down.
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.float32(value)))
