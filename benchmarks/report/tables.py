"""The report's tables, as Markdown. Rows are dictionaries as in `results.json`."""

from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

from benchmarks.kernels.work import ANCHOR, STEPS

Row = dict[str, Any]

UNROLL = "unroll"
# Of a server with more errors than this part of its requests, percentiles mean nothing.
MANY_ERRORS = 0.01
# That `kernel.bfloat16_error` is the largest of: its ERROR_ROWS, without importing TensorFlow.
ERROR_SAMPLE = f"32 sequences of {STEPS} time steps"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(head), " | ".join(["---"] + ["---:"] * (len(head) - 1))]
    lines += [" | ".join(row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _servers(cells: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(cell["server"] for cell in cells))


def _cell(cells: Sequence[Row], server: str, key: str, value: Any) -> Row | None:
    return next((c for c in cells if c["server"] == server and c[key] == value), None)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rounded_up(value: float, digits: int) -> str:
    """A maximum with so many decimals: never less than it is."""
    return str(Decimal(str(value)).quantize(Decimal(10) ** -digits, ROUND_CEILING))


def _grid(cells: Sequence[Row], key: str, unit: str, text: Callable[[Row, Row | None], str]) -> str:
    """A row a server, a column a value of `key`; `text` gets a cell and Unroll's beside it."""
    values = list(dict.fromkeys(cell[key] for cell in cells))
    rows = []
    for server in _servers(cells):
        row = [server]
        for value in values:
            cell = _cell(cells, server, key, value)
            row.append(text(cell, _cell(cells, UNROLL, key, value)) if cell else "")
        rows.append(row)
    return _table([unit, *(f"{value}" for value in values)], rows)


def ratio(cell: Row, ours: Row | None) -> str:
    """Unroll's requests/s over a cell's: `2.41x`; nothing for Unroll itself."""
    if ours is None or cell["server"] == UNROLL or not cell["per_second"]:
        return ""
    return f" ({ours['per_second'] / cell['per_second']:.2f}x)"


def _errors(cell: Row) -> str:
    return f" **{cell['errors']} errors**" if cell["errors"] else ""


def _per_second(cell: Row, ours: Row | None) -> str:
    return f"{_number(cell['per_second'])}{ratio(cell, ours)}{_errors(cell)}"


def throughput(cells: Sequence[Row]) -> str:
    """Requests/s of one workload, a column a number of clients."""
    return _grid(cells, "clients", "requests/s; clients:", _per_second)


def by_workload(cells: Sequence[Row]) -> str:
    """Requests/s, a column a workload."""
    return _grid(cells, "workload", "requests/s", _per_second)


def latency(cells: Sequence[Row]) -> str:
    """p50 / p99 in ms of one workload, a column a number of clients."""

    def text(cell: Row, _: Row | None) -> str:
        return f"{_number(cell['p50_ms'])} / {_number(cell['p99_ms'])}"

    return _grid(cells, "clients", "ms; clients:", text)


def overloaded(row: Row) -> bool:
    """Whether too many of a server's requests in the open loop got no good answer."""
    return bool(row["errors"] > MANY_ERRORS * row["requests"])


def open_loop(rows: Sequence[Row]) -> str:
    """What each server did at the same rate; no percentiles of those that could not."""

    def latencies(row: Row) -> list[str]:
        if overloaded(row):
            return ["overloaded", "", ""]
        return [_number(row[name]) for name in ("p50_ms", "p99_ms", "max_ms")]

    return _table(
        ["server", "answered/s", "p50 ms", "p99 ms", "longest ms", "errors"],
        [
            [
                row["server"],
                _number(row["achieved"]),
                *latencies(row),
                f"{row['errors']:,} of {row['requests']:,}",
            ]
            for row in rows
        ],
    )


def kernel(results: Row) -> str:
    """A row a form and batch size, the fastest first."""
    anchor = {row["rows"]: row["ms"] for row in results["rows"] if row["form"] == ANCHOR}
    rows = [
        [
            row["form"],
            str(row["rows"]),
            f"{row['ms']:.2f}",
            f"{row['gflops']:.1f}",
            f"{anchor[row['rows']] / row['ms']:.2f}",
            f"{row['gflops'] / results['peak_gflops']:.0%}",
        ]
        for row in sorted(results["rows"], key=lambda row: (row["rows"], row["ms"]))
    ]
    head = [
        f"3 x LSTM {results['units']}",
        "B",
        "ms",
        "GFLOP/s",
        f"times as fast as {ANCHOR}",
        "of the peak",
    ]
    return _table(head, rows)


def fairness(rows: Sequence[Row]) -> str:
    """Latency of the short ones, without and with the long one; what the long one got."""

    def text(value: float | None) -> str:
        return "-" if value is None else _number(value)

    head = ["server", "p50 alone", "p50 beside", "ratio", "p99 alone", "p99 beside", "ratio"]
    head += ["errors", "long: answered/s", "p50 ms", "errors"]
    cells = []
    for row in rows:
        cell = [row["server"]]
        for part in ("p50_ms", "p99_ms"):
            ratio = row[f"{part}_ratio"]
            cell += [text(row[part]), text(row[f"{part}_beside"])]
            cell.append("-" if ratio is None else f"{ratio:.2f}")
        cell += [str(row["errors"]), text(row["long_per_second"]), text(row["long_p50_ms"])]
        cells.append([*cell, str(row["long_errors"])])
    return _table(head, cells)


def formats(rows: Sequence[Row]) -> str:
    """Requests/s of each format, beside those of the first."""
    return _table(
        [
            *("format", "requests/s", "beside JSON", "p50 ms", "p99 ms", "kB in", "kB out"),
            *("requests/s without a kernel", "beside JSON"),
        ],
        [
            [
                row["format"],
                f"{_number(row['per_second'])}{_errors(row)}",
                f"{row['per_second'] / rows[0]['per_second']:.2f}x",
                _number(row["p50_ms"]),
                _number(row["p99_ms"]),
                f"{row['bytes_in'] / 1e3:.0f}",
                f"{row['bytes_out'] / 1e3:.0f}",
                _number(row["alone_per_second"]),
                f"{row['alone_per_second'] / rows[0]['alone_per_second']:.2f}x",
            ]
            for row in rows
        ],
    )


def lines(rows: Sequence[Row]) -> str:
    """When the first outputs of a sequence arrive."""
    return _table(
        ["time steps", "first line ms", "last line ms", "first of last", "JSON ms"],
        [
            [
                f"{row['time_steps']:,}",
                _number(row["first_ms"]),
                _number(row["whole_ms"]),
                f"{100 * row['first_ms'] / row['whole_ms']:.0f}%",
                _number(row["json_ms"]),
            ]
            for row in rows
        ],
    )


def streams(rows: Sequence[Row]) -> str:
    """Latency by the number of open streams."""
    return _table(
        ["streams", "messages/s", "p50 ms", "p99 ms", "longest ms", "errors", "cores", "core-us"],
        [
            [
                f"{row['streams']:,}",
                _number(row["achieved"]),
                _number(row["p50_ms"]),
                _number(row["p99_ms"]),
                _number(row["max_ms"]),
                str(row["errors"]),
                f"{row['cores']:.2f} of {row['of_cores']}, and {row['generator_cores']:.2f}",
                f"{1e6 * row['cores'] / row['achieved']:.0f}",
            ]
            for row in rows
        ],
    )


def growth(rows: Sequence[Row]) -> float:
    """How much larger it is at the end than after the first part: 0.03 is 3%."""
    return float(rows[-1]["memory_bytes"] / rows[1]["memory_bytes"] - 1)


def memory(rows: Sequence[Row]) -> str:
    """Memory and counters over requests."""
    counters = [name for name in rows[0] if name.startswith("unroll_")]
    return _table(
        ["requests", "memory MB", "errors", *counters],
        [
            [
                f"{row['requests']:,}",
                f"{row['memory_bytes'] / 1e6:.1f}",
                str(row["errors"]),
                *(f"{row[name]:.0f}" for name in counters),
            ]
            for row in rows
        ],
    )
