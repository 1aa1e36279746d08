"""The report's pictures. Each function writes a PNG and gives the Markdown that shows it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

# No screen is needed to write files.
matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = dict[str, Any]

# Of the Okabe-Ito palette, which colour-blind people can tell apart, and two of grey.
COLOURS = (
    *("#D55E00", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#000000", "#999999"),
    *("#F0E442", "#555555", "#882255"),
)
MARKERS = "oosDv^<>PXd"
# Of a server with more errors than this part of its requests, percentiles mean nothing.
MANY_ERRORS = 0.01


def overloaded(row: Row) -> bool:
    """Whether too many of a server's requests in the open loop got no good answer."""
    return bool(row["errors"] > MANY_ERRORS * row["requests"])


def _save(figure: Figure, folder: Path, name: str, about: str) -> str:
    figure.savefig(folder / name, dpi=110)
    plt.close(figure)
    return f"![{about}]({name})"


def _lines(cells: Sequence[Row], field: str, label: str) -> Figure:
    """A panel a workload: `field` over clients, a line a server; both axes logarithmic."""
    workloads = list(dict.fromkeys(cell["workload"] for cell in cells))
    servers = list(dict.fromkeys(cell["server"] for cell in cells))
    columns = min(2, len(workloads))
    count = -(-len(workloads) // columns)
    figure, grid = plt.subplots(
        count,
        columns,
        figsize=(5 * columns, 3.4 * count + 0.8),
        squeeze=False,
        # The only layout that leaves room for a legend outside.
        layout="constrained",
    )
    for axes in grid.flat[len(workloads) :]:
        axes.axis("off")
    for axes, workload in zip(grid.flat, workloads, strict=False):
        for index, server in enumerate(servers):
            found = [c for c in cells if (c["workload"], c["server"]) == (workload, server)]
            axes.plot(
                [cell["clients"] for cell in found],
                [cell[field] for cell in found],
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=4,
                label=server,
            )
        _logarithmic(axes, sorted({c["clients"] for c in cells if c["workload"] == workload}))
        axes.set(title=workload, xlabel="clients", ylabel=label)
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _logarithmic(axes: Axes, clients: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(clients, [str(number) for number in clients])
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")


def throughput(cells: Sequence[Row], folder: Path) -> str:
    """Requests/s over clients."""
    figure = _lines(cells, "per_second", "requests/s")
    return _save(figure, folder, "benchmarks-throughput.png", "Requests/s over clients")


def latency(cells: Sequence[Row], folder: Path) -> str:
    """p99 over clients."""
    figure = _lines(cells, "p99_ms", "p99 latency, ms")
    return _save(figure, folder, "benchmarks-latency.png", "99th percentile of latency")


def open_loop(results: Sequence[Row], folder: Path) -> str:
    """p50 and p99 of each server, as bars, a panel a rate; a word for who was overloaded."""
    most = max(len(found["rows"]) for found in results)
    figure, grid = plt.subplots(
        1,
        len(results),
        figsize=(6 * len(results), 0.5 * most + 1.4),
        squeeze=False,
        sharex=True,
        layout="tight",
    )
    for axes, found in zip(grid.flat, results, strict=True):
        rows = found["rows"]
        places = [place for place, row in enumerate(rows) if not overloaded(row)]
        for offset, part, colour in ((-0.2, "p50_ms", COLOURS[3]), (0.2, "p99_ms", COLOURS[2])):
            axes.barh(
                [place + offset for place in places],
                [rows[place][part] for place in places],
                height=0.38,
                color=colour,
                label=part.removesuffix("_ms"),
            )
        for place in set(range(len(rows))) - set(places):
            # From the left edge, wherever the numbers begin.
            axes.text(0.02, place, "overloaded", va="center", transform=axes.get_yaxis_transform())
        axes.set_yticks(range(len(rows)), [row["server"] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set(
            xscale="log",
            xlabel="latency from the intended start, ms",
            title=f"{found['rate']:,.0f} requests/s",
        )
        axes.grid(alpha=0.3, axis="x", which="both")
        axes.legend()
    return _save(figure, folder, "benchmarks-open-loop.png", "Latency at the same rates")


def kernel(results: Sequence[Row], folder: Path) -> str:
    """GFLOP/s over batch sizes, a panel a model, with the peak."""
    figure, grid = plt.subplots(
        1, len(results), figsize=(5 * len(results), 4.2), squeeze=False, layout="tight"
    )
    for axes, found in zip(grid.flat, results, strict=True):
        for index, form in enumerate(dict.fromkeys(row["form"] for row in found["rows"])):
            rows = [row for row in found["rows"] if row["form"] == form]
            axes.plot(
                [row["rows"] for row in rows],
                [row["gflops"] for row in rows],
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=4,
                label=form,
            )
        axes.axhline(found["peak_gflops"], color="black", linestyle=":", label="sgemm peak")
        _logarithmic(axes, sorted({row["rows"] for row in found["rows"]}))
        axes.set(title=f"3 x LSTM {found['units']}", xlabel="B, sequences", ylabel="GFLOP/s")
    grid.flat[0].legend(fontsize=8)
    return _save(figure, folder, "benchmarks-kernel.png", "GFLOP/s of the kernels")


def memory(rows: Sequence[Row], folder: Path) -> str:
    """Memory over requests."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="tight")
    axes.plot(
        [row["requests"] / 1e3 for row in rows],
        [row["memory_bytes"] / 1e6 for row in rows],
        color=COLOURS[0],
        marker="o",
        markersize=4,
    )
    axes.set_ylim(bottom=0)
    axes.set(xlabel="requests, thousands", ylabel="memory, MB")
    axes.grid(alpha=0.3)
    return _save(figure, folder, "benchmarks-memory.png", "Memory over requests")
