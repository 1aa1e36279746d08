"""`best`: the media type that an `Accept` header asks for (RFC 9110, section 12.5.1)."""

import re

ANY = "*/*"
WEIGHT = re.compile(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", re.IGNORECASE)


def best(accept: str, offered: tuple[str, ...]) -> str:
    """The media type to answer in. Linear in `accept`, whose size and items the server limits.

    Args:
        accept: the header; empty if there is none.
        offered: in lower case; the first is the usual one.

    Returns:
        The one of the highest weight. Among equals, the one that is named more exactly, then the
        one that is named first. The first that is offered if none is wanted: an answer in another
        format is more use than none.
    """
    # Nearly all callers write one of these.
    if accept in ("", ANY):
        return offered[0]
    if accept in offered:
        return accept
    named: dict[str, tuple[int, float]] = {}
    for place, part in enumerate(accept.split(",")):
        name, weight = _range(part)
        named.setdefault(name, (place, weight))
    ranked = [(0.0, 0, 0, offered[0])]
    for media_type in offered:
        kind = f"{media_type.partition('/')[0]}/*"
        for exactness, name in ((3, media_type), (2, kind), (1, ANY)):
            if name in named:
                # The most exact range decides, even where it says less than another.
                place, weight = named[name]
                if weight > 0:
                    ranked.append((weight, exactness, -place, media_type))
                break
    # `max` keeps the first of equals, which was offered first.
    return max(ranked, key=lambda entry: entry[:3])[3]


def _range(part: str) -> tuple[str, float]:
    """A media range and its weight; one that is no weight counts as none given."""
    name, *parameters = part.split(";")
    found = [match for text in parameters if (match := WEIGHT.fullmatch(text))]
    return name.strip().lower(), min(1.0, float(found[-1][1])) if found else 1.0
