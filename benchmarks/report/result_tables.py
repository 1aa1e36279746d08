"""Tables of servers' cells, dictionaries as `interleaving.Cell` has them."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.report.markdown import errors, number, table, times

Row = dict[str, Any]

UNROLL = "unroll"


def throughput(cells: Sequence[Row]) -> str:
    """Requests/s of one workload, a column a number of clients."""
    return _grid(cells, "clients", "requests/s; clients:", _per_second)


def by_workload(cells: Sequence[Row]) -> str:
    """Requests/s, a column a workload."""
    return _grid(cells, "workload", "requests/s", _per_second)


def latency(cells: Sequence[Row]) -> str:
    """p50 / p99 in ms of one workload, a column a number of clients."""

    def text(cell: Row, _: Row | None) -> str:
        return f"{number(cell['p50_ms'])} / {number(cell['p99_ms'])}"

    return _grid(cells, "clients", "ms; clients:", text)


def _per_second(cell: Row, ours: Row | None) -> str:
    """Requests/s, and how many times as many Unroll answers."""
    text = number(cell["per_second"])
    if ours and ours is not cell and cell["per_second"]:
        text += f" ({times(ours['per_second'] / cell['per_second'])})"
    return text + errors(cell["errors"])


def _grid(cells: Sequence[Row], key: str, unit: str, text: Callable[[Row, Row | None], str]) -> str:
    """A row a server, a column a value of `key`; `text` gets a cell and Unroll's beside it."""
    found = {(cell["server"], cell[key]): cell for cell in cells}
    servers, values = (list(dict.fromkeys(each)) for each in zip(*found, strict=True))
    rows = [
        [
            server,
            *(
                text(found[server, value], found.get((UNROLL, value)))
                if (server, value) in found
                else ""
                for value in values
            ),
        ]
        for server in servers
    ]
    return table([unit, *map(str, values)], rows)
