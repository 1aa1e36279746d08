"""Tables of Markdown, and numbers as they stand in them."""

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from statistics import median

NOT_KNOWN = "-"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column is text, the others are numbers."""
    lines = [" | ".join(head), " | ".join(["---"] + ["---:"] * (len(head) - 1))]
    lines += [" | ".join(row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def number(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return NOT_KNOWN
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rounded_up(value: float, digits: int) -> str:
    """A maximum with so many decimals: never less than it is."""
    return str(Decimal(str(value)).quantize(Decimal(10) ** -digits, ROUND_CEILING))


def ratio(values: Sequence[float], to: Sequence[float]) -> float | None:
    """How many times the values of `to` these are: the median over rounds; None without any."""
    pairs = list(zip(values, to, strict=False))
    return median(a / b for a, b in pairs) if pairs else None


def times(value: float | None) -> str:
    """A ratio: `2.41x`."""
    return NOT_KNOWN if value is None else f"{value:.2f}x"


def errors(count: int) -> str:
    """What stands beside a rate with errors."""
    return f" **{count} errors**" if count else ""
