"""Large bodies are read, and long answers printed, in another process; nobody can tell."""

import asyncio
import json
import os
import signal
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.api import endpoint
from app.codec.npz import unpacked_size
from app.errors import Fault, InvalidRequest, Overloaded, Unavailable
from app.service import inference, request_bodies
from app.service.inference import InferenceService
from app.service.large_bodies import LARGE_BYTES, LargeBodies, Room
from tests.app.caller import Caller
from tests.app.engine.running import until
from tests.app.formats import npy, zip_of
from tests.app.running_service import Service, make_service

JSON = {"Content-Type": "application/json"}


def doubled(body: bytes) -> tuple[int, bytes, list[np.ndarray]]:
    return os.getpid(), body * 2, [np.frombuffer(body, np.uint8), np.arange(3.0)[::2]]


def refused(_: bytes) -> None:
    raise InvalidRequest(Fault("/a", "one"), Fault("/b", "two"))


def failing(_: bytes) -> None:
    raise ValueError("odd")


def dying(_: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_once(flag: bytes) -> str:
    path = Path(flag.decode())
    if not path.exists():
        path.touch()
        dying(flag)
    return "done"


@pytest.fixture(scope="module")
def large() -> Iterator[LargeBodies]:
    made = LargeBodies()
    yield made
    made.close()


def inference_of(service: Service) -> InferenceService:
    endpoint: Any = service.app.state.context.endpoints["POST", "/predict"]
    found: InferenceService = endpoint.inference
    return found


def run(large: LargeBodies, function: Any, value: Any) -> Any:
    async def ask() -> Any:
        return await large.run(function, value)

    return asyncio.run(ask())


def test_what_a_function_gives_comes_back_from_another_process(large: LargeBodies) -> None:
    body = bytes(range(256)) * 5000
    number, twice, (same, strided) = run(large, doubled, body)
    assert number != os.getpid()
    assert twice == body * 2
    assert same.tobytes() == body
    np.testing.assert_array_equal(strided, [0.0, 2.0])
    assert os.getpriority(os.PRIO_PROCESS, number) > os.getpriority(os.PRIO_PROCESS, 0)


def test_what_it_raises_comes_back_with_its_faults_or_its_trace(large: LargeBodies) -> None:
    with pytest.raises(InvalidRequest) as caught:
        run(large, refused, b"")
    assert caught.value.faults == (Fault("/a", "one"), Fault("/b", "two"))
    with pytest.raises(ValueError, match="odd") as bug:
        run(large, failing, b"")
    assert "in failing" in bug.value.__notes__[0]


def test_a_process_that_ended_is_replaced_and_one_that_always_does_is_told(
    large: LargeBodies, tmp_path: Path
) -> None:
    assert run(large, dying_once, str(tmp_path / "flag").encode()) == "done"
    with pytest.raises(Unavailable, match="has ended, twice"):
        run(large, dying, b"")
    assert run(large, doubled, b"a")[1] == b"aa"


def test_it_ends_when_its_worker_has_gone() -> None:
    made = LargeBodies()
    run(made, doubled, b"")
    process, connection = made._process, made._socket
    assert process is not None
    assert connection is not None
    # A stop that comes to all processes is not for it: its worker still answers.
    process.send_signal(signal.SIGTERM)
    assert run(made, doubled, b"")[0] == process.pid
    connection.close()
    assert process.wait(30) == 0
    made.close()


def test_who_is_given_up_before_its_turn_is_not_read(large: LargeBodies) -> None:
    async def work() -> None:
        gate = threading.Event()
        large._thread.submit(gate.wait)
        waiting = large.run(doubled, b"")
        waiting.cancel()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(work())


def test_large_bodies_have_so_much_room_and_small_ones_need_none() -> None:
    room = Room(3 * LARGE_BYTES)
    with room.share() as first, room.share() as second, room.share() as small:
        first(2 * LARGE_BYTES)
        small(LARGE_BYTES)
        second(LARGE_BYTES)
        with pytest.raises(Overloaded, match=f"hold {2 * LARGE_BYTES} bytes"):
            second(2 * LARGE_BYTES)
        first(LARGE_BYTES)
    with room.share() as third:
        third(3 * LARGE_BYTES)


@pytest.fixture
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir) as service:
        yield service.wait_until_ready()


def requests() -> dict[str, tuple[str, bytes, dict[str, str]]]:
    row = [1.0, None, None, 0.0]
    steps = LARGE_BYTES // 20
    shape = [1, steps, 4]
    tensor = {"name": "sequences", "datatype": "FP32", "shape": shape, "data": [row] * steps}
    packed = zip_of(zipfile.ZIP_DEFLATED, sequences=npy(np.zeros((1, 9000, 4), np.float32)))
    return {
        "JSON": ("/predict", json.dumps({"sequences": [[row] * steps]}).encode(), JSON),
        "lines": (
            "/predict",
            json.dumps({"sequences": [[row] * steps]}).encode(),
            {**JSON, "Accept": "application/x-ndjson"},
        ),
        "faults": ("/predict", json.dumps({"sequences": [[row] * steps + [[]]]}).encode(), JSON),
        "no JSON": ("/predict", b"[" + b" " * LARGE_BYTES, JSON),
        "NPZ": ("/predict", packed, {"Content-Type": "application/x-npz"}),
        "/v1": (
            "/v1/models/tiny:predict",
            json.dumps({"instances": [[row] * steps]}).encode(),
            JSON,
        ),
        "/v2": ("/v2/models/tiny/infer", json.dumps({"inputs": [tensor]}).encode(), JSON),
    }


@pytest.mark.parametrize("name", requests())
def test_nobody_can_tell_where_a_body_was_read_and_an_answer_printed(
    service: Service, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, body, headers = requests()[name]
    asked: list[object] = []
    run = LargeBodies.run

    def counted(self: LargeBodies, function: Any, value: Any) -> Any:
        asked.append(function)
        return run(self, function, value)

    monkeypatch.setattr(LargeBodies, "run", counted)
    monkeypatch.setattr(inference, "LONG_NUMBERS", 0)
    there = service.post(path, content=body, headers=headers)
    assert len(asked) == (2 if there.status_code == 200 else 1)
    monkeypatch.setattr(inference, "LONG_NUMBERS", 1 << 40)
    for reader in (endpoint, request_bodies):
        monkeypatch.setattr(reader, "LARGE_BYTES", 1 << 40)
    here = service.post(path, content=body, headers=headers)
    assert len(asked) <= 2
    assert (there.status_code, there.content) == (here.status_code, here.content)
    assert there.headers == here.headers


def test_an_archive_is_as_large_as_what_it_unpacks_to() -> None:
    array = npy(np.zeros((1000, 4), np.float32))
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        body = zip_of(method, sequences=array, lengths=array)
        assert unpacked_size(body) == len(body) + 2 * len(array)
    assert unpacked_size(b"no archive") == 10


def test_a_crowd_of_large_bodies_is_refused_and_small_ones_are_answered(service: Service) -> None:
    room = inference_of(service).bodies.room
    path, body, headers = requests()["JSON"]
    small = json.dumps({"sequences": [[[1.0, None, None, 0.0]]]}).encode()
    with room.share() as others:
        others(room._limit)
        answer = service.post(path, content=body, headers=headers)
        assert answer.status_code == 503
        assert "large bodies hold" in answer.json()["detail"]
        assert service.post(path, content=small, headers=headers).status_code == 200
    assert service.post(path, content=body, headers=headers).status_code == 200


def test_who_hangs_up_while_its_body_waits_to_be_read_frees_its_room(service: Service) -> None:
    path, body, headers = requests()["JSON"]
    found = inference_of(service)

    async def work() -> None:
        gate = threading.Event()
        found.bodies.large._thread.submit(gate.wait)
        try:
            caller = Caller(service.app, headers, path)
            caller.send(body, more=False)
            asking = asyncio.create_task(caller.answer())
            await until(lambda: found.bodies.room._taken > 0)
            caller.hang_up()
            await until(lambda: found.bodies.room._taken == 0)
            asking.cancel()
        finally:
            gate.set()

    service.run(work())
