"""`docs/benchmarks.md` from the results: tables, pictures, and what was not measured."""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.load.streams import SECONDS as STREAM_SECONDS
from benchmarks.load.workloads import MAX_STEPS, MEDIAN_STEPS, SIGMA, STREAM_PIECES, STREAM_STEPS
from benchmarks.report import plots, tables
from benchmarks.sections.lines import ROUNDS as LINE_ROUNDS
from benchmarks.servers.kinds import KINDS

Results = dict[str, Any]

WORKLOADS = {
    "fixed": "one sequence of 50 time steps a request",
    "mixed": f"one sequence; lengths are log-normal with median {MEDIAN_STEPS}, sigma {SIGMA} and "
    f"at most {MAX_STEPS}",
    "many": "16 sequences a request, lengths as in `mixed`",
    "stream": f"one sequence of {STREAM_STEPS} time steps with the states of an earlier answer; "
    f"each {STREAM_PIECES}th request starts anew",
}

NOT_COVERED = """## Not covered
- One machine, and the load generator on it: `wrk` (one thread) takes its share of the same cores,
  as it does from every server. No network, no TLS, no proxy.
- One set of random weights in each of two sizes. No GRU, no simple RNN, no missing values.
- No accelerators; and no more cores than the machine has: how Unroll, with a process per core, and
  its peers would share more of them is not known.
- Other servers (Triton, TensorFlow Serving, TorchServe), and OpenVINO in float32, are not here.
- The frameworks do not promise to be fast with bodies of numbers in JSON; some take binary bodies.
- Each peer is configured as well as its documentation and a few tries allowed. Whoever knows
  better: `benchmarks/peers/` has one file each.
"""


def render(results: Results, folder: Path) -> str:
    """The page; writes its pictures beside it.

    Args:
        results: as `serving.py` collects them; sections that are not there are left out.
        folder: of the page.

    Raises:
        KeyError: a section does not say where it is from.
    """
    usual = _usual(results["measured"])
    parts = [_head(results, usual)]
    sections: dict[str, Callable[[Any, Results, Path], str]] = {
        "closed": _closed,
        "open": _open,
        "bound": _bound,
        "kernels": _kernels,
        "large": _large,
        "kernel": _kernel,
        "fairness": _fairness,
        "formats": _formats,
        "lines": _lines,
        "streams": _streams,
        "memory": _memory,
    }
    for name, write in sections.items():
        if name in results:
            section = write(results[name], results, folder)
            measured = results["measured"][name]
            parts.append(section if _from(measured) == _from(usual) else _apart(section, measured))
    parts += [_servers(results), NOT_COVERED]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _from(measured: Results) -> str:
    """Which run a section is from."""
    rounds = measured["rounds"]
    return (
        f"by `{measured['command']}` from commit `{measured['commit']}`, in {rounds} "
        f"round{'s' * (rounds > 1)}"
    )


def _usual(measured: dict[str, Results]) -> Results:
    """Where most sections are from."""
    ((most, _),) = Counter(map(_from, measured.values())).most_common(1)
    return next(each for each in measured.values() if _from(each) == most)


def _apart(section: str, measured: Results) -> str:
    """A section that says below its title that it is from another run than most."""
    title, rest = section.split("\n", 1)
    return f"{title}\n\nMeasured apart: {_from(measured)}.\n{rest}"


def _head(results: Results, usual: Results) -> str:
    machine, versions = usual["machine"], usual["versions"]
    minutes = sum(each["minutes"] for each in results["measured"].values())
    has = [name for name, present in machine["flags"].items() if present]
    lacks = [name for name, present in machine["flags"].items() if not present]

    def listed(found: dict[str, str]) -> str:
        return ", ".join(f"{name} {version}" for name, version in found.items())

    cores = f"{machine['cores']} cores{' of a virtual machine' * machine['virtual']}"
    found = [cell["others"] for cell in results.get("closed", [])]
    others = _fewer_rounds(results)
    if found:
        others += (
            f"\nOther processes and the hypervisor took {statistics.median(found):.1%} of the cores"
            f" in the closed loop (the median; at most {max(found):.1%} in a cell)."
        )
    return f"""# Benchmarks

Written {_from(usual)} (about {minutes:.0f} minutes in all);
the raw results stay in `build/bench/` of the machine. Where a section does not say otherwise: three
LSTM layers of 100, 8 features, 1 output, the same weights in every server, the same JSON both ways;
servers are measured in turn, A B C A B C, each time after a warm-up, and numbers are medians of the
rounds. A sample of each server's answers, to one caller and to many at once, is checked against the
model's own to 1e-4, those of bfloat16 to 0.1.{others}

| | |
|---|---|
| processor | {machine["cpu"]}, {cores} |
| has | {", ".join(has) or "-"} |
| lacks | {", ".join(lacks) or "-"} |
| memory | {machine["memory_gb"]} GB |
| system | {machine["system"]}, Python {versions["python"]} |
| Unroll's side | {listed(versions["unroll"])} |
| peers' side | {listed(versions["peers"])} |
| load | {versions["wrk"]}; an open-loop generator of our own |"""


def _fewer_rounds(results: Results) -> str:
    """Which servers have fewer rounds than the others, if any."""
    counts = {cell["server"]: len(cell["rounds"]) for cell in results.get("closed", [])}
    fewest, most = min(counts.values(), default=0), max(counts.values(), default=0)
    if fewest == most:
        return ""
    names = ", ".join(name for name, count in counts.items() if count == fewest)
    return (
        f"\nRounds of the slow ones ({names}): {fewest}, in the closed loop as long as all of "
        "another together."
    )


def _closed(cells: Sequence[tables.Row], results: Results, folder: Path) -> str:
    names = list(dict.fromkeys(cell["workload"] for cell in cells))
    parts = [
        "## Closed loop",
        "So many clients, each with one request at a time. `x` is how many times as many requests "
        "Unroll answers." + _waits(cells),
    ]
    for name in names:
        found = [cell for cell in cells if cell["workload"] == name]
        parts += [
            f"### `{name}`: {WORKLOADS[name]}",
            tables.throughput(found),
            "Latency in ms, half of the requests / 99 of 100:",
            tables.latency(found),
        ]
    parts.append(plots.throughput(cells, folder))
    parts.append(plots.latency(cells, folder))
    return "\n\n".join(parts)


def _waits(cells: Sequence[tables.Row]) -> str:
    """Which servers let a lone client wait for others, if any."""
    servers = dict.fromkeys(cell["server"] for cell in cells)
    settings = {name: KINDS[name].environment.get("BENCH_WAIT_S", "0") for name in servers}
    waits = [
        f"{name} ({1e3 * float(wait):.0f} ms)" for name, wait in settings.items() if float(wait) > 0
    ]
    if not waits:
        return ""
    return (
        f" Some wait for more requests to fill a batch: {', '.join(waits)}. With one client that "
        "wait is most of what they take for a request of one sequence."
    )


def _open(found: list[Results], results: Results, folder: Path) -> str:
    parts = [
        f"""## Open loop

`mixed` requests at random moments (Poisson), at half of the most that the strongest peer answers,
then at half of that of the strongest peer with one process. Each server is started anew for each
rate and round and is alone on the machine. Latency counts from the moment a request was due; of a
request without a good answer, until the measurement ended: beside errors, percentiles are lower
bounds. Answered are those with a good answer before the last request was due. A server is
overloaded if more than {tables.MANY_ERRORS:.0%} of its requests got no good answer."""
    ]
    for each in found:
        parts.append(
            f"{each['rate']:,.0f} requests a second, half the peak of {each['strongest']}:"
        )
        parts.append(tables.open_loop(each["rows"]))
    parts.append(plots.open_loop(found, folder))
    return "\n\n".join(parts)


def _bound(found: Results, results: Results, folder: Path) -> str:
    total_us = 1e6 * (found["http_core_s"] + found["kernel_core_s"])
    lines = f"""## The bound

How many `fixed` requests these cores could answer if they did nothing but Unroll's own HTTP, JSON
and kernel. It is no law of nature: these are added up as they are, and another server may need
less. HTTP and JSON alone take {1e6 * found["http_core_s"]:.1f} us of a core per request (Unroll's
app with an engine that answers at once), the kernel {1e6 * found["kernel_core_s"]:.1f} us per
sequence at its best batch ({found["kernel"]}, {found["rows"]} rows, one thread).

    bound = {found["cores"]} cores / {total_us:.1f} us = {found["per_second"]:,.0f} requests/s

The load generator's share of the cores is not taken off."""
    own = [
        cell
        for cell in results.get("closed", [])
        if cell["workload"] == "fixed" and cell["server"].startswith("unroll")
    ]
    if own:
        best = max(own, key=lambda cell: cell["per_second"])
        part = best["per_second"] / found["per_second"]
        lines += (
            f"\n\nUnroll reaches {best['per_second']:,.0f} requests/s ({best['server']}, "
            f"{best['clients']} clients): {part:.0%} of it."
        )
    return lines


def _kernels(cells: Sequence[tables.Row], results: Results, folder: Path) -> str:
    return f"""## The frameworks with ONNX Runtime as their kernel

The frameworks of the closed loop, configured as told below; 64 clients.

{tables.by_workload(cells)}"""


def _large(cells: Sequence[tables.Row], results: Results, folder: Path) -> str:
    return f"""## Three LSTM layers of 512

`mixed`.{_precision(cells)}

{tables.throughput(cells)}

Latency in ms, half of the requests / 99 of 100:

{tables.latency(cells)}"""


def _precision(cells: Sequence[tables.Row]) -> str:
    """Which numbers the servers compute with, if not all with the same."""
    if not any(cell["server"] == "unroll_bfloat16" for cell in cells):
        return ""
    return " All compute in float32 but `unroll_bfloat16`."


def _kernel(found: Sequence[Results], results: Results, folder: Path) -> str:
    parts = [
        "## The kernels alone",
        "`python -m benchmarks.kernels`: calls with B sequences of 50 time steps, one thread each. "
        "The peak is that of a float32 product of two matrices of 1024 x 1024 in the same run: "
        + ", ".join(f"{r['peak_gflops']:.0f} GFLOP/s ({r['units']} units)" for r in found)
        + ". Outputs in bfloat16 are off by up to "
        + ", ".join(
            f"{tables.rounded_up(r['bfloat16_error'], 3)} ({r['units']} units)" for r in found
        )
        + f" of their standard deviation in a sample ({tables.ERROR_SAMPLE}); all others compute "
        "in float32. Bfloat16 is for processors that multiply such numbers, and faster than "
        "float32: so it may exceed that peak.",
    ]
    parts += [tables.kernel(each) for each in found]
    parts.append(plots.kernel(found, folder))
    return "\n\n".join(parts)


def _fairness(rows: Sequence[tables.Row], results: Results, folder: Path) -> str:
    return f"""## A long sequence among short ones

63 clients send sequences of 10 time steps, alone and beside one client that sends 500 time steps
all the time. Latency of the short ones in ms, then what the long one gets meanwhile: good answers a
second and its latency. Latencies are of rounds without errors.

{tables.fairness(rows)}"""


def _formats(rows: Sequence[tables.Row], results: Results, folder: Path) -> str:
    return f"""## Formats

`many` requests from 64 clients as JSON and as bytes; each answer has the outputs of every time step
and the final states. Formats take turns. The kernel's share is the same in all of them; without it,
the same service shows what the formats themselves cost.

{tables.formats(rows)}"""


def _lines(rows: Sequence[tables.Row], results: Results, folder: Path) -> str:
    return f"""## Line by line

One caller, one long sequence with the outputs of every time step: when its first outputs arrive and
when its last, with `Accept: application/x-ndjson`, and when all of it does as one JSON document.
Medians of {LINE_ROUNDS} requests each.

{tables.lines(rows)}"""


def _streams(rows: Sequence[tables.Row], results: Results, folder: Path) -> str:
    return f"""## Open streams

WebSockets to `/stream`, each sending one time step every 100 ms at a moment of its own. Latency
counts from the moment a message was due. One run of {STREAM_SECONDS:.0f} s after a warm-up for each
number of streams, of one Unroll. The cores are those that the service takes while the messages that
count are sent, and those of the load generator, which is on the same machine; core-us are the
service's for a message.

{tables.streams(rows)}"""


def _memory(rows: Sequence[tables.Row], results: Results, folder: Path) -> str:
    return f"""## Memory

`mixed` requests from 64 clients to one Unroll, in one run. Memory and counters are those of all its
processes, what they share counted once. After the first part its memory changes by
{tables.growth(rows):+.1%}.

{tables.memory(rows)}

{plots.memory(rows, folder)}"""


def _servers(results: Results) -> str:
    sections = ("closed", "kernels", "large", "fairness")
    names = dict.fromkeys(row["server"] for name in sections for row in results.get(name, []))
    lines = ["## How each server is configured", "| server | |", "|---|---|"]
    lines += [f"| {name} | {KINDS[name].about} |" for name in names if name in KINDS]
    return "\n".join([lines[0], "", *lines[1:]])
