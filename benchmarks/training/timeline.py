"""The timeline of a batch on several devices, from TensorFlow's own trace."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from benchmarks.report.plots import COLOURS
from benchmarks.training.trace import Event, host_events, read

# Two layers a device, as `side.py` has them.
LAYERS_A_DEVICE = 2
NAME = re.compile(r"layer_(\d)_chunk_(\d+)(_gradient)?/")
# (layer, chunk, whether backward) to the milliseconds of its operations: start and end.
Spans = dict[tuple[int, int, bool], list[tuple[float, float]]]


def spans_of(events: Iterable[Event]) -> Spans:
    """The operations of each layer's chunks among events."""
    spans: Spans = defaultdict(list)
    for event in events:
        if found := NAME.search(event.operation):
            key = (int(found[1]), int(found[2]), found[3] is not None)
            spans[key].append((event.start, event.end))
    return spans


def draw(folder: Path, names: Sequence[str], file: Path) -> None:
    """Draws one panel for each trace in `folder`."""
    figure, panels = plt.subplots(
        len(names), 1, figsize=(10, 2.2 * len(names) + 0.8), sharex=True, layout="constrained"
    )
    for axes, name in zip(panels, names, strict=True):
        _panel(axes, spans_of(host_events(read(folder / name))), name)
    panels[-1].set_xlabel("ms")
    layers = [Patch(color=COLOURS[i], label=f"layer {i}") for i in range(4)]
    gradient = Patch(facecolor="white", edgecolor="black", hatch="////", label="gradient")
    figure.legend(handles=[*layers, gradient], loc="outside lower center", ncols=5)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _panel(axes: Axes, spans: Spans, name: str) -> None:
    begin = min(start for found in spans.values() for start, _ in found)
    for (layer, _, backward), found in spans.items():
        device, row = divmod(layer, LAYERS_A_DEVICE)
        axes.broken_barh(
            [(start - begin, end - start) for start, end in found],
            (2.4 * device + row, 0.9),
            facecolor=COLOURS[layer],
            alpha=0.55 if backward else 1.0,
            hatch="////" if backward else None,
            linewidth=0,
        )
    axes.set_yticks([0.95, 3.35], ["CPU:0", "CPU:1"])
    axes.set_title(name)
