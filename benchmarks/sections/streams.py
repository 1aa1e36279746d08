"""Many open streams of one Unroll."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.load.streams import CoreClock, drive_elsewhere
from benchmarks.models.ensure_model import ensure_model
from benchmarks.processes.process import available_cores
from benchmarks.progress import say
from benchmarks.report.markdown import number, table
from benchmarks.sections.plan import Plan
from benchmarks.servers.interleaving import awake, running
from benchmarks.servers.kinds import KINDS, UNROLL

INTERVAL_S, SECONDS = 0.1, 10.0


def measure(plan: Plan, _: dict[str, Any]) -> list[dict[str, Any]]:
    """See `Section`: a row for each number of streams: the load, and the cores of the service."""
    rows = []
    with running([KINDS[UNROLL]], ensure_model(plan.units), []) as (server,), awake(server):
        for count in plan.streams:
            command = [sys.executable, "-m", "benchmarks.load.streams"]
            command += [str(number) for number in (server.port, count, INTERVAL_S, SECONDS)]
            clock = CoreClock(server.process.cpu_seconds)
            row = drive_elsewhere(command, clock)
            rows.append(row | {"cores": clock.cores, "of_cores": available_cores()})
            say(f"streams {row}")
    return rows


def write(rows: Sequence[dict[str, Any]], _: dict[str, Any], __: Path) -> str:
    """See `Section`."""
    return f"""## Open streams

WebSockets to `/stream`, each sending one time step every 100 ms at a moment of its own. Latency
counts from the moment a message was due. One run of {SECONDS:.0f} s after a warm-up for each
number of streams, of one Unroll. The cores are those that the service takes while the messages that
count are sent, and those of the load generator, which is on the same machine; core-us are the
service's for a message.

{streams_table(rows)}"""


def streams_table(rows: Sequence[dict[str, Any]]) -> str:
    """Latency by the number of open streams."""
    return table(
        ["streams", "messages/s", "p50 ms", "p99 ms", "longest ms", "errors", "cores", "core-us"],
        [
            [
                f"{row['streams']:,}",
                *(number(row[name]) for name in ("achieved", "p50_ms", "p99_ms", "max_ms")),
                str(row["errors"]),
                f"{row['cores']:.2f} of {row['of_cores']}, and {row['generator_cores']:.2f}",
                f"{1e6 * row['cores'] / row['achieved']:.0f}",
            ]
            for row in rows
        ],
    )
