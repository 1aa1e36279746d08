"""`Tensor`: numbers with a name, a datatype and a shape (Open Inference Protocol)."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from app.codec.json_numbers import (
    Faults,
    echo,
    float32_copy,
    invalid,
    nullable_numbers,
    quick_numbers,
    wrong_numbers,
)
from app.errors import Fault, InvalidRequest

# As bytes: little-endian, row by row.
FLOATS: dict[str, np.dtype] = {"FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
INTEGERS: dict[str, np.dtype] = {"INT32": np.dtype("<i4"), "INT64": np.dtype("<i8")}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a request; nothing of it but its name is checked.

    Attributes:
        name: of it.
        datatype: as the protocol names it.
        shape: each at least 1.
        content: its bytes, or the array that JSON has, nested or flat.
        pointer: JSON pointer to it in its request, for errors.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: object
    pointer: str

    def check_shape(self, *expected: int | str) -> None:
        """Whether its shape is the expected one; a letter stands for any size.

        Raises:
            InvalidRequest: it is another.
        """
        fits = len(self.shape) == len(expected) and all(
            isinstance(wanted, str) or size == wanted
            for size, wanted in zip(self.shape, expected, strict=True)
        )
        if not fits:
            text = ", ".join(map(str, expected))
            raise self._invalid("shape", f"must be [{text}], got {list(self.shape)}")

    def floats(self, nullable: bool = False) -> np.ndarray:
        """float32 of its shape. Bytes may hold what is not finite, and so may what was FP64.

        Args:
            nullable: null in JSON is NaN.

        Raises:
            InvalidRequest: datatype, shape and numbers do not fit together.
        """
        if isinstance(self.content, memoryview):
            return float32_copy(self._view(FLOATS)).reshape(self.shape)
        self._itemtype(FLOATS)
        numbers = self._flat()
        array = quick_numbers(numbers)
        if array is None and nullable:
            array = nullable_numbers(numbers)
        if array is None:
            self._refuse(numbers, nullable)
        return array.reshape(self.shape)

    def integers(self) -> list[int]:
        """Its numbers, row by row; raises as `floats`."""
        if isinstance(self.content, memoryview):
            return list(self._view(INTEGERS).tolist())
        self._itemtype(INTEGERS)
        numbers = self._flat()
        whole = [number for number in numbers if type(number) is int]
        if len(whole) < len(numbers):
            other = next(number for number in numbers if type(number) is not int)
            raise self._invalid("data", f"must hold whole numbers, got {echo(other)}")
        return whole

    def _itemtype(self, allowed: Mapping[str, np.dtype]) -> np.dtype:
        if self.datatype not in allowed:
            raise self._invalid(
                "datatype", f"must be {' or '.join(allowed)}, got {echo(self.datatype)}"
            )
        return allowed[self.datatype]

    def _view(self, allowed: Mapping[str, np.dtype]) -> np.ndarray:
        """The bytes as numbers, `[N]`, not copied."""
        assert isinstance(self.content, memoryview), "it is JSON"
        itemtype = self._itemtype(allowed)
        # Python's whole numbers do not overflow, and nothing is allocated for what a shape says.
        expected = math.prod(self.shape) * itemtype.itemsize
        if len(self.content) != expected:
            raise self._invalid(
                "parameters/binary_data_size",
                f"shape {list(self.shape)} of {self.datatype} has {expected} bytes, "
                f"got {len(self.content)}",
            )
        return np.frombuffer(self.content, itemtype)

    def _flat(self) -> list[object]:
        """The elements of JSON row by row, as many as the shape says, not checked themselves."""
        data = self.content
        if not isinstance(data, list):
            raise self._invalid("data", f"must be an array, got {echo(data)}")
        if data and isinstance(data[0], list):
            level: list[object] = [data]
            for size in self.shape:
                lists = [item for item in level if isinstance(item, list) and len(item) == size]
                if len(lists) < len(level):
                    raise self._invalid("data", f"is not of shape {list(self.shape)}")
                level = list(itertools.chain.from_iterable(lists))
            return level
        if len(data) != math.prod(self.shape):
            raise self._invalid(
                "data",
                f"holds {len(data)} numbers, shape {list(self.shape)} has {math.prod(self.shape)}",
            )
        return data

    def _refuse(self, numbers: list[object], nullable: bool) -> NoReturn:
        """Raises with the places of the elements that are wrong."""
        faults = Faults()
        faults.extend(self._wrong(numbers, nullable))
        faults.raise_any()
        raise AssertionError("what has no faults is quick")

    def _wrong(self, numbers: list[object], nullable: bool) -> Iterator[Fault]:
        for place, message in wrong_numbers(numbers, np.broadcast_to(nullable, len(numbers))):
            indices = np.unravel_index(place, self.shape)
            yield Fault("".join(f"/{part}" for part in (self.name, *indices)), message)

    def _invalid(self, field: str, message: str) -> InvalidRequest:
        return invalid(f"{self.pointer}/{field}", f"{self.name}: {message}")
