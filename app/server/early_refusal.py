"""`early_refusal`: of a request, before it is parsed, while the service is overloaded.

Then most requests are refused, and what a refusal costs is lost for those that are answered: one
that is parsed first costs three times as much. What is not plainly a request to an endpoint
goes the usual way, and is refused there.
"""

import math
import re
from collections.abc import Container
from functools import lru_cache
from typing import NamedTuple

from app.api.problems import problem_of
from app.errors import Overloaded
from app.server.head_buffer import END
from app.stats.answer_counts import route_of

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})\r\n", re.IGNORECASE)
# Headers that change what follows the head or the answer, or how long the caller waits. Of a plain
# request there is one of them: the length.
SPECIAL = re.compile(
    rb"\r\n(?:connection|content-length|expect|prefer|transfer-encoding|upgrade)[ \t]*:",
    re.IGNORECASE,
)
VERSION = b" HTTP/1.1\r\n"
# Bytes of a first line up to its version, at most.
LONGEST = 512
# Bytes of a body that may come behind its refusal, and are thrown away.
MOST_MISSING = 1 << 20
# Seconds of `Retry-After`, at most.
MOST_S = 60


class Refusal(NamedTuple):
    """An answer.

    Attributes:
        missing: bytes of the request that still come.
        route: for which it is counted.
        status: of the answer.
        rest: of the answer behind the server's own headers: other headers, an empty line, a body.
    """

    missing: int
    route: int
    status: int
    rest: bytes


def early_refusal(
    data: bytes, endpoints: Container[tuple[str, str]], error: Overloaded
) -> Refusal | None:
    """The refusal of a request; None if it is to go the usual way.

    Args:
        data: all that was read, between two requests.
        endpoints: methods and paths of those that compute.
        error: why it is refused.
    """
    line = data[: max(0, data.find(VERSION, 0, LONGEST))].decode("latin-1")
    method, _, path = line.partition(" ")
    end = data.find(END)
    if end < 0 or (method, path) not in endpoints:
        return None
    length = LENGTH.search(data, 0, end + 2)
    if length is None:
        return None
    missing = end + len(END) + int(length[1]) - len(data)
    if not 0 <= missing <= MOST_MISSING:
        return None
    if len(SPECIAL.findall(data, 0, end)) > 1:
        return None
    refusal = _refusal(method, path, min(MOST_S, math.ceil(error.retry_after_s)))
    return refusal._replace(missing=missing) if missing else refusal


# Of the endpoints' paths, never of what callers send.
@lru_cache
def _refusal(method: str, path: str, seconds: int) -> Refusal:
    text = "more comes than can be computed, and others would be before it for too long"
    made = problem_of(Overloaded(text, seconds), path)
    headers = b"".join(b"%b: %b\r\n" % header for header in made.raw_headers)
    rest = headers + b"\r\n" + bytes(made.body)
    return Refusal(0, route_of(method, path), made.status_code, rest)
