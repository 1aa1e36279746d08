"""What a head must have, and limits of its parts that are parsed: the target and `PARSED`.

Whoever parses them (uvicorn, `websockets`, FastAPI, this service) takes time for each item, on the
event loop: 64 KiB of commas hold it for a tenth of a second. So `HeadProtocol` counts first.
"""

from collections import defaultdict

from app.errors import Fault, HeadTooLarge, NotHTTP, UnknownCoding, quoted

# Path and query. A session's name and key take 3 KiB each where all of them is escaped.
MAX_TARGET_BYTES = 8 << 10
MAX_PARAMETERS = 32
# Header lines of a head, parsed or not.
MAX_LINES = 100
# Of one header, all of its lines together.
MAX_VALUE_BYTES = 8 << 10
MAX_ITEMS = 256

PARSED = frozenset(
    {
        b"accept",
        b"connection",
        b"content-encoding",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"inference-header-content-length",
        b"origin",
        b"prefer",
        b"range",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
    }
)

HeaderLines = list[tuple[bytes, bytes]]


def check_fields(target: bytes, lines: HeaderLines) -> None:
    """Whether all that will be parsed is within its limit.

    Args:
        target: path and query, as they were sent.
        lines: names in lower case, and values.

    Raises:
        HeadTooLarge: with the name of what is not, its size and the limit.
    """
    check_limit("the target", len(target), "bytes", MAX_TARGET_BYTES)
    parameters = target.partition(b"?")[2].count(b"&") + 1
    check_limit("the query", parameters, "parameters", MAX_PARAMETERS)
    values: dict[bytes, list[bytes]] = defaultdict(list)
    for name, value in lines:
        if name in PARSED:
            values[name].append(value)
    for name, parts in values.items():
        header, value = f"the header {name.decode()}", b",".join(parts)
        check_limit(header, len(value), "bytes", MAX_VALUE_BYTES)
        items = value.count(b",") + value.count(b";") + 1
        check_limit(header, items, "items between commas and semicolons", MAX_ITEMS)


def check_framing(lines: HeaderLines, version: str) -> None:
    """Whether a head says once which host it is for, and a coding of its body that is known.

    Args:
        lines: names in lower case, and values.
        version: of HTTP; the host came with 1.1.

    Raises:
        NotHTTP: it has no host, or several (RFC 9112, section 3.2).
        UnknownCoding: the body is not chunked and nothing else (section 6.1): what is compressed
            besides would be taken for what it is packed in.
    """
    count = sum(name == b"host" for name, _ in lines)
    if count > 1 or (count == 0 and version != "1.0"):
        raise NotHTTP(Fault("", f"HTTP/1.1 has one header Host, this request has {count}"))

    codings = [value for name, value in lines if name == b"transfer-encoding"]
    coding = b", ".join(codings)
    if codings and coding.lower() != b"chunked":
        text = quoted(coding.decode("latin-1"))
        raise UnknownCoding(Fault("", f"Transfer-Encoding {text}: send the body plain or chunked"))


def check_limit(what: str, size: int, unit: str, limit: int) -> None:
    """Raises `HeadTooLarge` if a part of a head has a size beyond its limit."""
    if size > limit:
        raise too_large(what, size, unit, limit)


def too_large(what: str, size: int, unit: str, limit: int) -> HeadTooLarge:
    """The error of a part of a head, or all of it."""
    return HeadTooLarge(Fault("", f"{what} has {size} {unit}, the limit is {limit}"))
