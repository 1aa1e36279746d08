"""The same requests as JSON and as bytes, to the same service.

`many`: 16 sequences a request; each answer has the outputs of every time step and the final states.
"""

import io
import json
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.load import wrk
from benchmarks.load.workloads import Workload, make
from benchmarks.model_files import NUM_FEATURES
from benchmarks.models.ensure_model import ensure_model
from benchmarks.paths import BUILD
from benchmarks.progress import say
from benchmarks.report.markdown import errors, number, table, times
from benchmarks.sections.plan import Plan
from benchmarks.servers.interleaving import WARM_UP_S, awake, running
from benchmarks.servers.kinds import KINDS, UNROLL, WITHOUT_KERNEL
from benchmarks.servers.server import Server

CLIENTS = 64
JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
NPZ = "application/x-npz"
HEADER_LENGTH = "Inference-Header-Content-Length"

Sequences = Sequence[np.ndarray]


@dataclass(frozen=True)
class Format:
    """A way to send a request.

    Attributes:
        name: of its row.
        path: of the route.
        media_type: of bodies and answers.
        body: makes one, and the length of its JSON head if it has one.
    """

    name: str
    path: str
    media_type: str
    body: Callable[[bytes, Sequences], tuple[bytes, int]]


def as_arrow(_: bytes, sequences: Sequences) -> tuple[bytes, int]:
    """A column of lists for each feature."""
    offsets = np.cumsum([0, *(len(rows) for rows in sequences)]).astype(np.int32)
    rows = np.concatenate(sequences)
    columns = [
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(rows[:, i])))
        for i in range(NUM_FEATURES)
    ]
    batch = pa.record_batch(columns, names=[f"sensor_{i}" for i in range(NUM_FEATURES)])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes(), 0


def as_npz(_: bytes, sequences: Sequences) -> tuple[bytes, int]:
    """One sequence after the other, and their lengths."""
    sink = io.BytesIO()
    np.savez(sink, sequences=np.concatenate(sequences), lengths=[len(s) for s in sequences])
    return sink.getvalue(), 0


def as_tensors(_: bytes, sequences: Sequences) -> tuple[bytes, int]:
    """Binary tensors of the Open Inference Protocol, padded to the longest."""
    lengths = np.array([len(s) for s in sequences], np.int32)
    padded = np.zeros((len(sequences), lengths.max(), NUM_FEATURES), np.float32)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": kind,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array, kind in (("sequences", padded, "FP32"), ("lengths", lengths, "INT32"))
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return head + padded.tobytes() + lengths.tobytes(), len(head)


def formats(model: str) -> tuple[Format, ...]:
    """All of them."""
    return (
        Format("JSON", "/predict", JSON, lambda body, _: (body, 0)),
        Format("Arrow IPC", "/predict", ARROW, as_arrow),
        Format("NPZ", "/predict", NPZ, as_npz),
        Format(
            "binary tensors (v2)",
            f"/v2/models/{model}/infer",
            "application/octet-stream",
            as_tensors,
        ),
    )


def bodies_file(given: Format, workload: Workload) -> Path:
    """What `bodies.lua` reads, written anew."""
    path = BUILD / "bodies" / f"{workload.name}-{given.name.split()[0]}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for body, sequences in zip(workload.bodies, workload.requests, strict=True):
            made, head = given.body(body, sequences)
            extra = f" {HEADER_LENGTH}: {head}" if head else ""
            file.write(f"{len(made)}{extra}\n".encode() + made)
    return path


def drive(server: Server, given: Format, bodies: Path, seconds: float) -> wrk.Load:
    """Runs `wrk` over the bodies of a format."""
    headers = [f"Content-Type: {given.media_type}", f"Accept: {given.media_type}"]
    url = f"http://127.0.0.1:{server.port}{given.path}"
    return wrk.run(url, wrk.BODIES_SCRIPT, [str(bodies), *headers], CLIENTS, seconds)


def check(server: Server, workload: Workload, given: Format) -> int:
    """Asks once; returns the bytes of the answer. The tests compare the numbers."""
    body, head = given.body(workload.bodies[0], workload.requests[0])
    headers = {"Content-Type": given.media_type, "Accept": given.media_type}
    if head:
        headers[HEADER_LENGTH] = str(head)
    url = f"http://127.0.0.1:{server.port}{given.path}"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as response:
        return len(response.read())


def measure(plan: Plan, _: dict[str, Any]) -> list[dict[str, Any]]:
    """See `Section`: a row a format, medians of rounds in turn: requests/s, latency, bytes.

    Beside them requests/s of the same service without a kernel: the format alone.
    """
    model, work = ensure_model(plan.units), make("many")
    known = [(given, bodies_file(given, work)) for given in formats(model.name)]
    loads: dict[tuple[str, str], list[wrk.Load]] = {}
    with (
        running([KINDS[UNROLL]], model, [work]) as (whole,),
        running([WITHOUT_KERNEL], model, []) as (alone,),
    ):
        with awake(whole):
            sizes = {given.name: check(whole, work, given) for given, _ in known}
        for _round in range(plan.rounds):
            for server in (whole, alone):
                with awake(server):
                    for given, bodies in known:
                        drive(server, given, bodies, WARM_UP_S)
                        load = drive(server, given, bodies, plan.seconds)
                        loads.setdefault((server.kind.name, given.name), []).append(load)
    rows = []
    for given, bodies in known:
        found, bare = loads[UNROLL, given.name], loads[WITHOUT_KERNEL.name, given.name]
        row: dict[str, Any] = {
            "format": given.name,
            "errors": sum(load.errors for load in found + bare),
            "bytes_in": bodies.stat().st_size // len(work.bodies),
            "bytes_out": sizes[given.name],
            "alone_per_second": median(load.per_second for load in bare),
        }
        for part in ("per_second", "p50_ms", "p99_ms"):
            row[part] = median(getattr(load, part) for load in found)
        rows.append(row)
        say(f"format {row}")
    return rows


def write(rows: Sequence[dict[str, Any]], _: dict[str, Any], __: Path) -> str:
    """See `Section`."""
    return f"""## Formats

`many` requests from 64 clients as JSON and as bytes; each answer has the outputs of every time step
and the final states. Formats take turns. The kernel's share is the same in all of them; without it,
the same service shows what the formats themselves cost.

{formats_table(rows)}"""


def formats_table(rows: Sequence[dict[str, Any]]) -> str:
    """Requests/s of each format, beside those of the first."""
    json_, head = rows[0], ["format", "requests/s", "beside JSON", "p50 ms", "p99 ms", "kB in"]
    head += ["kB out", "requests/s without a kernel", "beside JSON"]
    return table(
        head,
        [
            [
                row["format"],
                number(row["per_second"]) + errors(row["errors"]),
                times(row["per_second"] / json_["per_second"]),
                number(row["p50_ms"]),
                number(row["p99_ms"]),
                f"{row['bytes_in'] / 1e3:.0f}",
                f"{row['bytes_out'] / 1e3:.0f}",
                number(row["alone_per_second"]),
                times(row["alone_per_second"] / json_["alone_per_second"]),
            ]
            for row in rows
        ],
    )
