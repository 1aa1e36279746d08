"""`best`: the media type that an `Accept` header asks for (RFC 9110, section 12.5.1)."""

import re
from functools import lru_cache

WEIGHT = re.compile(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", re.IGNORECASE)


@lru_cache(1024)
def best(accept: str, offered: tuple[str, ...]) -> str:
    """The media type to answer in.

    Args:
        accept: the header; empty if there is none.
        offered: in lower case; the first is the usual one.

    Returns:
        The one of the highest weight. Among equals, the one that is named more exactly, then the
        one that is named first. The first that is offered if none is wanted: an answer in another
        format is more use than none.
    """
    ranked = [(0.0, 0, 0, offered[0])]
    ranges = [_range(part) for part in accept.split(",")]
    for media_type in offered:
        matches = [
            (exactness, -place, weight)
            for place, (wanted, weight) in enumerate(ranges)
            if (exactness := _exactness(wanted, media_type))
        ]
        # The most exact range decides, even where it says less than another.
        exactness, place, weight = max(matches, default=(0, 0, 0.0))
        if weight > 0:
            ranked.append((weight, exactness, place, media_type))
    # `max` keeps the first of equals, which was offered first.
    return max(ranked, key=lambda entry: entry[:3])[3]


def _range(part: str) -> tuple[str, float]:
    """A media range and its weight; one that is no weight counts as none given."""
    name, *parameters = part.split(";")
    found = [match for text in parameters if (match := WEIGHT.fullmatch(text))]
    return name.strip().lower(), min(1.0, float(found[-1][1])) if found else 1.0


def _exactness(wanted: str, media_type: str) -> int:
    """How exactly a range names a media type; 0 if it does not."""
    if wanted == media_type:
        return 3
    if wanted.endswith("/*") and media_type.startswith(wanted[:-1]):
        return 2
    return int(wanted == "*/*")
