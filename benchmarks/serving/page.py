"""`docs/benchmarks.md` from the results: tables, pictures, and what was not measured."""

import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.sections.all_sections import SECTIONS
from benchmarks.servers.kinds import KINDS

Results = dict[str, Any]

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
        results: of a run; sections that are not there are left out.
        folder: of the page.

    Raises:
        KeyError: a section does not say where it is from.
    """
    usual = _usual(results["measured"])
    parts = [_head(results, usual)]
    for name, each in SECTIONS.items():
        if name in results:
            section = each.write(results[name], results, folder)
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


def _servers(results: Results) -> str:
    sections = ("closed", "frameworks", "large", "fairness")
    names = dict.fromkeys(row["server"] for name in sections for row in results.get(name, []))
    rows = [f"| {name} | {KINDS[name].about} |" for name in names if name in KINDS]
    return "\n".join(["## How each server is configured\n", "| server | |", "|---|---|", *rows])
