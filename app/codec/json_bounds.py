"""`JSONBounds`: how many arrays, objects and strings a JSON text may have, counted before parsing.

A parser makes an object of Python's for each of them, which takes up to a hundred times as long as
to count them: 8 MiB of `[[]]` 0.3 s, of which a millisecond tells that they are no sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from app.codec.json_numbers import invalid

# Nothing of this size takes a millisecond, whatever it holds.
UNCOUNTED_BYTES = 16 << 10
# Quotes and brackets that a request has once: its options, and names that may be all quotes.
ENVELOPE = 2000


@dataclass(frozen=True)
class JSONBounds:
    """What the largest request of a model has; more is refused. Whatever is valid is within them.

    Attributes:
        row_bytes: of the shortest time step, with its comma.
        row_quotes: of a time step.
        arrays, objects, quotes: those that are not time steps.
    """

    row_bytes: int
    row_quotes: int
    arrays: int
    objects: int
    quotes: int

    @classmethod
    def of(
        cls, names: Sequence[str], layers: int, max_sequences: int, values: Sequence[str] = ()
    ) -> Self:
        """The bounds of a model.

        Args:
            names: of the features, which are keys where a sequence comes as columns.
            layers: L; a state has an object, or two arrays and their names, for each.
            max_sequences: in a request.
            values: the one with the most quotes of each feature that is text.
        """
        text, features = "".join(names), len(names)
        keys = features + 4 * layers + 4
        return cls(
            # `[0,0],`
            row_bytes=2 * features + 2,
            row_quotes=sum(2 + value.count('"') for value in values),
            arrays=ENVELOPE + max_sequences * (2 + features + 3 * layers + text.count("[")),
            objects=ENVELOPE + max_sequences * (1 + layers + text.count("{")),
            quotes=ENVELOPE + max_sequences * (2 * keys + text.count('"')),
        )

    def check(self, text: bytes) -> None:
        """Looks at each byte three times, without Python: 1 ms for 8 MiB.

        There is nothing to gain from a text of `UNCOUNTED_BYTES` or less.

        Raises:
            InvalidRequest: it has more than the largest valid request of its length.
        """
        size = len(text)
        characters = np.frombuffer(text, np.uint8)
        rows = size // self.row_bytes
        for sign, limit, what in (
            (b"[", self.arrays + rows, "arrays"),
            (b"{", self.objects, "objects"),
            (b'"', self.quotes + rows * self.row_quotes, "quotes"),
        ):
            count = np.count_nonzero(characters == sign[0])
            if count > limit:
                raise invalid(
                    "",
                    f"the body has {count} {what}, the limit is {limit} in {size} bytes: more are "
                    "no sequences of this model",
                )
