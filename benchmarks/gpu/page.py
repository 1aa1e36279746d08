"""`docs/benchmarks-gpu.md` from the raw figures of a run, whole or in part."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from benchmarks.gpu.service import summed_up
from benchmarks.report.markdown import NOT_KNOWN, errors, number, ratio, table, times
from benchmarks.training.case import PIPELINED

Results = dict[str, Any]


def render(results: Results) -> str:
    """The page; sections that were not measured are left out.

    Args:
        results: as `python -m benchmarks.gpu` collects them.
    """
    parts = [_head(results)]
    for name, (title, write) in SECTIONS.items():
        if name in results["sections"]:
            section = results["sections"][name]
            parts.append(f"## {title}")
            if section["error"]:
                parts.append(f"**Not finished: {_plain(section['error'])}**")
            if section["result"]:
                parts.append(write(section["result"]))
    parts.append(_versions(results))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _plain(text: str) -> str:
    """A text that stays in its place of a table."""
    return text.replace("|", "/")


def _head(results: Results) -> str:
    card = results["card"]["card"]
    name = card["name"] if isinstance(card, dict) else results["card"]["gpus"][0]["device_name"]
    machine = results["machine"]
    minutes = results.get("minutes", 0.0)
    return f"""# Benchmarks on a GPU

Written by `{results["command"]}` from commit `{results["commit"]}` in {minutes:.1f} minutes, on one
{name} and {machine["cores"]} cores of {machine["cpu"]}. Sides take turns; figures are medians of
the rounds, ratios are medians of the rounds' own. float32 throughout, TensorFloat-32 off, except
where a row says TF32."""


def _training(result: Results) -> str:
    parts = [_TRAINING]
    for title in dict.fromkeys(cell["title"] for cell in result["cells"]):
        cells = [cell for cell in result["cells"] if cell["title"] == title]
        rows = [_training_row(cell, cells) for cell in cells]
        head = [title, "ms a batch", "Unroll, cuDNN is so many times as fast", "rounds"]
        parts.append(table(head, rows))
    parts.append(_who_used_cudnn(result["cells"]))
    return "\n\n".join(parts)


_TRAINING = """One batch: from the host's memory to the card, forward, loss (mean absolute error),
backward, clipping of the gradient's global norm, AdamW. All rows of a batch have full length, 16
inputs, 5 outputs. Unroll is as `model.train` runs it, with reproducible operations, but without the
running average of weights, which the others do not keep; Keras is its own layers in the function
that `fit` compiles; PyTorch is `nn.LSTM` with the fused AdamW, input in pinned memory. Dropout
keeps 0.6 of each layer's outputs: the same units at every time step in Unroll and Keras, drawn anew
at each by PyTorch, whose cuDNN does that."""


def _training_row(cell: Results, cells: Sequence[Results]) -> list[str]:
    group = cell["group"]
    label = cell["label"] + ("" if group == "plain" else f", {group}")
    seconds = cell["seconds"]
    if not seconds:
        return [label, _plain(cell.get("error", NOT_KNOWN)), "", "0"]
    ours = next(each for each in cells if each["group"] == group)
    shown = "" if cell is ours else times(ratio(seconds, ours["seconds"]))
    return [label, number(1e3 * median(seconds)), shown, str(len(seconds))]


def _who_used_cudnn(cells: Sequence[Results]) -> str:
    """Read from the graphs that ran."""
    found = {
        f"{cell['label']} in {cell['title']}": cell["cudnn"]
        for cell in cells
        if cell["group"] == "plain" and isinstance(cell.get("cudnn"), dict)
    }
    return "cuDNN's calls in the graph that ran, forward and backward: " + "; ".join(
        f"{what} {calls['forward']} and {calls['backward']}" for what, calls in found.items()
    )


def _chunks(result: Results) -> str:
    kernels = list(dict.fromkeys(cell["kernel"] for cell in result["cells"]))
    places = dict.fromkeys((c["units"], c["rows"], c["steps"]) for c in result["cells"])
    rows, splits = [], []
    for units, count, steps in places:
        cells = {
            cell["kernel"]: cell
            for cell in result["cells"]
            if (cell["units"], cell["rows"], cell["steps"]) == (units, count, steps)
        }
        name = f"3 x LSTM {units}, {count} x {steps}"
        first = cells[kernels[0]]
        rows.append([name, *(_chunk_text(cell, first) for cell in cells.values())])
        if "copies_ms" in first:
            splits.append([name, *_split_texts(first)])
    head = ["to the card", "back", "to the card", "kernels", "back", "whole call, traced"]
    return "\n\n".join(
        [
            "A call of the service's kernels with so many rows and time steps, NumPy arrays in and "
            f"out: milliseconds, and how many times those of {kernels[0]}.",
            table(["ms a chunk", *kernels], rows),
            "Where the time of a call goes, in ms. First copies of the same arrays by themselves; "
            "then what TensorFlow's trace says of the streams of the card. What is missing from "
            "the whole call is the processor's: Python, TensorFlow, launches.",
            table([kernels[0], *head], splits),
        ][: 4 if splits else 2]
    )


def _chunk_text(cell: Results, first: Results) -> str:
    if not cell["seconds"]:
        return _plain(cell.get("error", NOT_KNOWN))
    text = number(1e3 * median(cell["seconds"]))
    compared = cell is not first and first["seconds"]
    return f"{text} ({times(ratio(cell['seconds'], first['seconds']))})" if compared else text


def _split_texts(cell: Results) -> list[str]:
    alone = [number(cell["copies_ms"][name]) for name in ("to_card", "to_host")]
    split = cell.get("split_ms", {})
    traced = [number(split.get(name)) for name in ("to_card", "kernels", "to_host")]
    return [*alone, *traced, number(cell.get("traced_ms"))]


def _service(result: Results) -> str:
    cells = summed_up(result["cells"])
    head = ["requests/s", "times the CPU's", "p50 ms", "p99 ms", "card is busy"]
    rows = [_service_row(cell, cells, result["servers"][cell["server"]]) for cell in cells]
    lost = [
        f"- {server['about']}: {_plain(server['error'])}"
        for server in result["servers"].values()
        if "error" in server
    ]
    text = f"""3 x LSTM {result["units"]} over HTTP, requests as in
[benchmarks.md](benchmarks.md); `wrk` takes one core of the same machine. The card is busy while at
least one kernel runs, by `nvidia-smi`. Cores are those that all workers of a server use
together, then the part of one that each worker uses."""
    shown = table(["3 x LSTM", *head, "cores in use, of each worker"], rows)
    return "\n\n".join([text, shown, "\n".join(lost)])


def _service_row(cell: Results, cells: Sequence[Results], server: Results) -> list[str]:
    load = (cell["workload"], cell["clients"])
    cpu = next((c for c in cells if c["server"].startswith("cpu") and _load(c) == load), None)
    return [
        f"`{load[0]}`, {load[1]} clients: {server['about']}",
        number(cell["per_second"]) + errors(cell["errors"]),
        "" if cpu in (None, cell) else times(ratio(cell["rounds"], cpu["rounds"])),
        number(cell["p50_ms"]),
        number(cell["p99_ms"]),
        NOT_KNOWN if cell["gpu_busy"] is None else f"{cell['gpu_busy']:.0%}",
        f"{number(cell['cores'])}, {cell['cores'] / server['workers']:.0%}",
    ]


def _load(cell: Results) -> tuple[str, int]:
    return cell["workload"], cell["clients"]


def _devices(result: Results) -> str:
    parts = [
        f"{result['case']}, the card split into two devices of TensorFlow, layers on "
        f"{', '.join(result['devices'])}."
    ]
    if "seconds" in result:
        parts += _schedules(result["seconds"], result.get("traces", {}))
    return "\n\n".join(parts)


def _schedules(seconds: dict[str, list[float]], traces: dict[str, Results]) -> list[str]:
    """How the devices follow each other: a table, and what it is of."""
    rows = []
    for way, found in seconds.items():
        trace = traces.get(way)
        shown = "" if way == PIPELINED else times(ratio(found, seconds[PIPELINED]))
        busy = list(trace["busy_ms"].values()) if trace else []
        share = f"{trace['both_ms'] / min(busy):.0%}" if trace and min(busy) else NOT_KNOWN
        texts = [number(each) for each in busy] or [NOT_KNOWN] * 2
        batch = number(1e3 * median(found)) if found else NOT_KNOWN
        rows.append([way, batch, shown, *texts, share])
    source = next((trace["source"] for trace in traces.values()), NOT_KNOWN)
    head = ["ms a batch", "times pipelined", "first busy ms", "second busy ms", "both at once"]
    return [
        table(["training", *head], rows),
        f"Busy times are those of one traced batch, from the {source}; *both at once* is the "
        "part of the less busy device's time in which the other is busy too.",
    ]


SECTIONS: dict[str, tuple[str, Callable[[Results], str]]] = {
    "training": ("Training", _training),
    "chunks": ("Chunks of serving", _chunks),
    "service": ("The service", _service),
    "devices": ("One card as two devices", _devices),
}


def _versions(results: Results) -> str:
    card, machine = results["card"], results["machine"]
    sides = results["sections"].get("training", {}).get("result", {}).get("sides", {})
    rows = [("TensorFlow", card["tensorflow"])]
    asked = card["card"]
    rows += list(asked.items()) if isinstance(asked, dict) else [("nvidia-smi", asked)]
    rows += [(f"built for {name}", value) for name, value in card["built_for"].items()]
    rows += [(f"loaded {name}", value) for name, value in card["loaded"].items()]
    for name in ("keras", "torch"):
        rows += [(f"{name}'s side: {key}", value) for key, value in sides.get(name, {}).items()]
    rows += [("memory of the machine", f"{machine['memory_gb']} GB"), ("system", machine["system"])]
    lines = "\n".join(f"| {name} | {_plain(str(value))} |" for name, value in rows)
    return f"## Versions\n\n| | |\n|---|---|\n{lines}"
