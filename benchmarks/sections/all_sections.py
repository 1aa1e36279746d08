"""The sections by name, in the order in which they are measured."""

from benchmarks.sections import (
    alone,
    closed,
    fairness,
    formats,
    frameworks_on_onnxruntime,
    kernel,
    large_model,
    memory,
    ndjson_streaming,
    open_loop,
    streams,
    upper_bound,
)
from benchmarks.sections.section import Section

SECTIONS: dict[str, Section] = {
    "closed": closed,
    "open": open_loop,
    "kernel": kernel,
    "bound": upper_bound,
    "frameworks": frameworks_on_onnxruntime,
    "large": large_model,
    "alone": alone,
    "fairness": fairness,
    "formats": formats,
    "lines": ndjson_streaming,
    "streams": streams,
    "memory": memory,
}
