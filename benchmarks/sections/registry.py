"""The sections by name, in the order in which they are measured."""

from benchmarks.sections import (
    bound,
    closed,
    fairness,
    formats,
    frameworks,
    kernel,
    large,
    lines,
    memory,
    open_loop,
    streams,
)
from benchmarks.sections.section import Section

SECTIONS: dict[str, Section] = {
    "closed": closed,
    "open": open_loop,
    "kernel": kernel,
    "bound": bound,
    "frameworks": frameworks,
    "large": large,
    "fairness": fairness,
    "formats": formats,
    "lines": lines,
    "streams": streams,
    "memory": memory,
}
