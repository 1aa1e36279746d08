"""Broken requests of the Open Inference Protocol: valid ones, changed somewhere.

    python -m tests.app.fuzz_open_inference 100000

asks an application in this process that many, and counts the statuses of the answers.
"""

import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from app.api.protocols.open_inference.binary_tensors import HEADER
from tests.app.caller import Caller
from tests.app.fakes import write_version
from tests.app.running_service import Service, make_service

PATH = "/v2/models/tiny/infer"
AT_ONCE = 16

# What stands where something else should.
ODD: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 3, 1.5, -0.0, 1e39, 2**31, 2**63, 2**64 - 1, "", "x", "3"),
    *(
        "FP16",
        "FP64",
        "INT64",
        "BYTES",
        "BOOL",
        "lengths",
        "outputs",
        "state_0_h",
        "\x00",
        "é" * 300,
    ),
    *([], {}, [[]], [None], [[1, 2], [3]], [1] * 300, {"a": 1}, [2**62] * 8, [1, -1], [65536] * 4),
]
ODD_HEADERS = [
    "",
    "-1",
    "+5",
    " 7",
    "1e3",
    "0",
    "1",
    "99999",
    "9" * 30,
    "9" * 5000,
    "x",
    "\xb2",
    "0x10",
]
ODD_TEXTS = [
    b"NaN",
    b"-Infinity",
    b"[" * 2000,
    b'{"a":' * 2000,
    b"\x00",
    b"\xff\xfe",
    b"null",
    b"1e999",
]


def fuzz_service(folder: Path) -> Service:
    """An application with a fake kernel; the second of two features may be missing."""
    standardize = {"kind": "standardize", "mean": 0.0, "std": 1.0}
    features = [
        {"name": name, "unit": "1", "missing": name == "b", "transform": standardize}
        for name in "ab"
    ]
    write_version(folder / "tiny", 1, features=features, example=[[1.0, None], [2.0, 3.0]])
    return make_service(folder, max_sessions=10_000_000)


def valid(chance: random.Random) -> tuple[dict[str, Any], bytes]:
    """A request: its document and its bytes."""
    count, steps = chance.randint(1, 3), chance.randint(1, 5)
    numbers = np.arange(count * steps * 2, dtype=np.float32).reshape(count, steps, 2)
    tensors = [("sequences", numbers.astype(chance.choice(["<f4", "<f8"])))]
    if chance.random() < 0.5:
        lengths = [chance.randint(1, steps) for _ in range(count)]
        tensors.append(("lengths", np.array(lengths, chance.choice(["<i4", "<i8"]))))
    if chance.random() < 0.4:
        tensors.append(("state_0_h", np.ones((count, 1), np.float32)))
    chance.shuffle(tensors)
    raw, inputs = b"", []
    names = {"<f4": "FP32", "<f8": "FP64", "<i4": "INT32", "<i8": "INT64"}
    for name, array in tensors:
        tensor: dict[str, Any] = {
            "name": name,
            "shape": list(array.shape),
            "datatype": names[array.dtype.str],
        }
        if chance.random() < 0.5:
            tensor["parameters"] = {"binary_data_size": array.nbytes}
            raw += array.tobytes()
        else:
            tensor["data"] = (array if chance.random() < 0.5 else array.ravel()).tolist()
        inputs.append(tensor)
    document: dict[str, Any] = {"inputs": inputs}
    if chance.random() < 0.5:
        document["id"] = "a"
    if chance.random() < 0.4:
        binary = {"binary_data": chance.random() < 0.5}
        document["outputs"] = [{"name": "outputs", "parameters": binary}, {"name": "state_0_h"}]
    if chance.random() < 0.5:
        document["parameters"] = {"binary_data_output": chance.random() < 0.5}
        if count == 1:
            document["parameters"] |= {
                "sequence_id": chance.choice([1, 2, "a"]),
                "sequence_start": chance.random() < 0.7,
                "sequence_end": chance.random() < 0.5,
            }
    return document, raw


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container within a value, with each key or index of it."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += places(value[key])
    return found


def change_document(document: dict[str, Any], chance: random.Random) -> None:
    """Replaces, removes or repeats something in it."""
    container, key = chance.choice(places(document))
    kind = chance.random()
    if kind < 0.7:
        container[key] = deepcopy(chance.choice(ODD))
    elif kind < 0.85:
        del container[key]
    elif isinstance(container, list):
        container.insert(key, deepcopy(container[key]))
    else:
        name = chance.choice(["data", "parameters", "inputs", "shape"])
        container[name] = deepcopy(container[key])


def change_bytes(data: bytes, chance: random.Random) -> bytes:
    """Cuts, lengthens or overwrites somewhere."""
    start = chance.randint(0, len(data))
    kind = chance.random()
    if kind < 0.3:
        return data[:start]
    if kind < 0.5:
        return data + chance.randbytes(chance.choice([1, 4, 8, 64]))
    if kind < 0.8:
        return data[:start] + chance.randbytes(chance.randint(1, 4)) + data[start + 2 :]
    return data[:start] + chance.choice(ODD_TEXTS) + data[start:]


def broken(chance: random.Random) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a request that is valid but for one change, or a few."""
    document, raw = valid(chance)
    changes = chance.choices(
        ["document", "text", "raw", "header"], [6, 2, 1, 1], k=chance.choice([0, 1, 1, 2, 4])
    )
    for _ in range(changes.count("document")):
        if document:
            change_document(document, chance)
    text = json.dumps(document).encode()
    for _ in range(changes.count("text")):
        text = change_bytes(text, chance)
    header = str(len(text)) if raw else None
    if "raw" in changes:
        raw = change_bytes(raw, chance)
    if "header" in changes:
        header = chance.choice([None, str(len(text) + chance.randint(-9, 9)), *ODD_HEADERS])
    return text + raw, {} if header is None else {HEADER.lower(): header}


async def ask(service: Service, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    caller = Caller(service.app, headers, PATH)
    caller.send(body, more=False)
    status, _, answer = await caller.raw_answer()
    return status, answer


def fuzz(
    service: Service, count: int, seed: int, look: Callable[[int, bytes], None]
) -> Counter[int]:
    """Asks so many; `look` gets each one's status and body. Returns the statuses, counted."""
    chance = random.Random(seed)
    statuses: Counter[int] = Counter()

    async def some(number: int) -> None:
        requests = [broken(chance) for _ in range(number)]
        for status, body in await asyncio.gather(*(ask(service, *r) for r in requests)):
            statuses[status] += 1
            look(status, body)

    for done in range(0, count, AT_ONCE):
        service.run(some(min(AT_ONCE, count - done)))
    return statuses


def check(status: int, body: bytes) -> None:
    """Whether an answer is one that a client can read."""
    assert status == 200 or 400 <= status < 500, (status, body)
    if status != 200:
        error = json.loads(body)
        assert list(error) == ["error"], body
        assert 0 < len(error["error"]) < 5000, body


def main() -> None:
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as folder, fuzz_service(Path(folder)) as service:
        service.wait_until_ready()
        print(dict(fuzz(service, count, seed, check)))
        for name in ("waiting", "running"):
            print(name, service.metric(f"unroll_sequences_{name}"))


if __name__ == "__main__":
    main()
