"""Large bodies are read, and long answers printed, in another process; nobody can tell."""

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.api import endpoint
from app.codec.npz import unpacked_size
from app.errors import Fault, InvalidRequest, Overloaded, Unavailable
from app.service import inference, request_bodies
from app.service.body_room import UNCOUNTED_BYTES, BodyRoom
from app.service.inference import InferenceService
from app.service.large_bodies import HANG_S, LARGE_BYTES, LargeBodies
from app.service.request_bodies import LOOK_S, SILENCE_S
from tests.app.caller import Caller
from tests.app.engine.running import until
from tests.app.formats import npy, zip_of
from tests.app.running_service import Service, make_service

pytestmark = pytest.mark.long

JSON = {"Content-Type": "application/json"}


def doubled(body: bytes) -> tuple[int, bytes, list[np.ndarray]]:
    return os.getpid(), body * 2, [np.frombuffer(body, np.uint8), np.arange(3.0)[::2]]


def refused(_: bytes) -> None:
    raise InvalidRequest(Fault("/a", "one"), Fault("/b", "two"))


def failing(_: bytes) -> None:
    raise ValueError("odd")


def dying(_: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hanging(_: bytes) -> None:
    time.sleep(60.0)


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


def test_a_process_that_hangs_is_replaced() -> None:
    made = LargeBodies()
    before = run(made, doubled, b"a")[0]
    assert made._socket is not None
    assert made._socket.gettimeout() == HANG_S
    made._socket.settimeout(0.2)
    with pytest.raises(Unavailable, match="did nothing"):
        run(made, hanging, b"")
    # Who comes behind it is answered, by another.
    number, twice, _ = run(made, doubled, b"a")
    assert number != before
    assert twice == b"aa"
    made.close()


@pytest.mark.parametrize("cause", [(subprocess, "Popen"), (socket, "socketpair")])
def test_who_finds_no_process_for_want_of_files_is_to_come_again(
    cause: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    made = LargeBodies()
    files = len(os.listdir("/proc/self/fd"))

    async def work() -> None:
        # An event loop needs a pair of sockets, too.
        with monkeypatch.context() as patched:
            patched.setattr(*cause, full)
            with pytest.raises(Unavailable, match="does not start: Too many open files"):
                await made.run(doubled, b"a")

    asyncio.run(work())
    assert len(os.listdir("/proc/self/fd")) == files
    assert run(made, doubled, b"a")[1] == b"aa"
    made.close()


KEEPING = """
import asyncio, functools, re, sys
import numpy as np
from app import heap
from app.service.large_bodies import LargeBodies

def held():
    heap.give_back()
    with open("/proc/self/smaps_rollup") as file:
        return int(re.search(r"Anonymous: +([0-9]+)", file.read())[1]) / 1024

async def main():
    read = functools.partial(np.frombuffer, dtype=np.uint8)
    large = LargeBodies()
    await large.run(read, b"a")
    before = held()
    for _ in range(2):
        found = [await large.run(read, bytes(size << 20)) for size in (5, 7, 6)]
        assert held() - before > 17
        del found
    # The thread is done with the last one a moment later.
    await asyncio.sleep(0.1)
    print(held() - before)
    large.close()

heap.reuse_large_blocks()
asyncio.run(main())
"""


def test_the_memory_of_what_was_read_goes_back_to_the_system() -> None:
    """Measured in a process that has the heap of a worker."""
    told = subprocess.check_output([sys.executable, "-c", KEEPING], text=True)
    assert float(told) < 3.0, f"{told} MB stay"


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


class Value:
    """Can be pickled, and referred to weakly."""


def slow(value: Any) -> Any:
    time.sleep(0.1)
    return value


def slower(_: Any) -> None:
    time.sleep(1.5)


def test_what_is_given_up_before_its_turn_is_let_go_and_not_done(large: LargeBodies) -> None:
    async def work() -> None:
        busy = large.run(slow, b"")
        value = Value()
        gone = weakref.ref(value)
        waiting = large.run(dying, value)
        del value
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)
        assert gone() is None
        assert await busy == b""

    asyncio.run(work())


def test_callers_take_turns(large: LargeBodies) -> None:
    async def work() -> str:
        order: list[str] = []
        futures = [large.run(slow, b"", caller) for caller in ("a", "a", "a", "a", "b", "b", "c")]
        for name, future in zip("AaaaBbC", futures, strict=True):
            future.add_done_callback(lambda _, name=name: order.append(name))
        await asyncio.gather(*futures)
        assert not large._waiting
        return "".join(order)

    # Whoever has had less, and of those who have had as much the one that waits longest.
    assert asyncio.run(work()).startswith("ABC")


def test_whose_turn_it_is_depends_on_the_seconds_that_callers_have_had(large: LargeBodies) -> None:
    async def work() -> str:
        order: list[str] = []
        jobs = [("a", slower), ("a", slower), *[("b", doubled)] * 3]
        futures = []
        for caller, function in jobs:
            futures.append(large.run(function, b"", caller))
            futures[-1].add_done_callback(lambda _, caller=caller: order.append(caller))
        await asyncio.gather(*futures)
        return "".join(order)

    # All of b's take less time than one of a's.
    assert asyncio.run(work()) == "abbba"


def test_large_bodies_have_so_much_room_and_small_ones_need_none_of_it() -> None:
    room = BodyRoom(4 * LARGE_BYTES)
    with room.share("a") as first, room.share("a") as second, room.share("a") as small:
        first(2 * LARGE_BYTES)
        small(LARGE_BYTES)
        second(2 * LARGE_BYTES)
        with pytest.raises(Overloaded, match=f"hold {room.held} bytes"):
            second(3 * LARGE_BYTES)
        first(LARGE_BYTES)
    assert room.held == 0
    with room.share("a") as third:
        third(4 * LARGE_BYTES)
    assert not room._of_callers


def test_one_who_fills_the_room_leaves_a_part_of_it_to_others() -> None:
    room = BodyRoom(8 * LARGE_BYTES)
    with room.share("a") as full, room.share("b") as other, room.share("c") as third:
        full(8 * LARGE_BYTES)
        with room.share("a") as more, pytest.raises(Overloaded):
            more(2 * LARGE_BYTES)
        # A quarter of the room is beyond it, for those who have less than their share.
        other(2 * LARGE_BYTES)
        with pytest.raises(Overloaded):
            third(2 * LARGE_BYTES)
    assert room.held == 0


def test_small_bodies_have_a_room_of_their_own() -> None:
    room = BodyRoom(4 * LARGE_BYTES)
    assert room.small is not None
    with ExitStack() as stack:
        holds = [stack.enter_context(room.share("a")) for _ in range(5)]
        for hold in holds[:4]:
            hold(LARGE_BYTES // 2)
            hold(LARGE_BYTES)
        assert (room.held, room.small.held) == (0, 4 * LARGE_BYTES)
        holds[4](UNCOUNTED_BYTES)
        with pytest.raises(Overloaded, match="small bodies hold"):
            holds[4](LARGE_BYTES)
        # One that has become large leaves it to others.
        holds[0](LARGE_BYTES + 1)
        assert (room.held, room.small.held) == (LARGE_BYTES + 1, 3 * LARGE_BYTES)
        holds[4](LARGE_BYTES)
    assert (room.held, room.small.held) == (0, 0)
    assert not room._of_callers
    assert not room.small._of_callers


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

    def counted(self: LargeBodies, function: Any, value: Any, *others: Any) -> Any:
        asked.append(function)
        return run(self, function, value, *others)

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
    with room.share("other") as others, room.share("127.0.0.1") as own:
        others(room._limit)
        # With it the caller has its share of the part that is for those who have less.
        own(room._limit // 4)
        answer = service.post(path, content=body, headers=headers)
        assert answer.status_code == 503
        assert "large bodies hold" in answer.json()["detail"]
        assert service.post(path, content=small, headers=headers).status_code == 200
    assert service.post(path, content=body, headers=headers).status_code == 200


def test_small_bodies_that_come_in_pieces_are_refused_where_there_is_no_room(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = inference_of(service).bodies.room.small
    assert room is not None
    monkeypatch.setattr(room, "_limit", 0)
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"sequences": [[[1.0, None, None, 0.0]]]}).encode()

    async def ask(size: int) -> int:
        caller = Caller(service.app, headers)
        caller.send(body.rjust(size), more=False)
        return (await caller.answer())[0]

    assert service.run(ask(2 * UNCOUNTED_BYTES)) == 503
    assert service.run(ask(UNCOUNTED_BYTES)) == 200
    assert room.held == 0


def test_what_of_a_refused_body_has_come_goes_before_more_comes(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_of(service).bodies.room.small, "_limit", 0)
    piece = bytes(2 * UNCOUNTED_BYTES)

    async def work() -> None:
        before = sys.getrefcount(piece)
        caller = Caller(service.app, {"Content-Type": "application/json"})
        caller.send(piece)
        asking = asyncio.create_task(caller.answer())
        await until(lambda: caller.read == 1)
        await until(lambda: sys.getrefcount(piece) == before)
        caller.send(b" ", more=False)
        assert (await asking)[0] == 503

    service.run(work())


@contextmanager
def held(service: Service) -> Iterator[threading.Event]:
    """Nothing is read beside the worker until the event is set."""
    gate = threading.Event()
    inference_of(service).bodies.large._thread.submit(gate.wait)
    try:
        yield gate
    finally:
        gate.set()


def test_who_hangs_up_while_its_body_waits_to_be_read_frees_its_room(service: Service) -> None:
    path, body, headers = requests()["JSON"]
    room = inference_of(service).bodies.room

    async def work() -> None:
        with held(service):
            caller = Caller(service.app, headers, path)
            caller.send(body, more=False)
            asking = asyncio.create_task(caller.answer())
            await until(lambda: room.held > 0)
            caller.hang_up()
            await until(lambda: room.held == 0)
            asking.cancel()

    service.run(work())


@pytest.mark.parametrize("name", ["JSON", "lines", "NPZ", "/v1", "/v2"])
@pytest.mark.parametrize("wait", ["head", "service"])
def test_the_time_of_a_caller_covers_the_reading_of_a_large_body(
    tiny_dir: Path, name: str, wait: str
) -> None:
    path, body, headers = requests()[name]
    if wait == "head":
        headers = {**headers, "Prefer": "wait=0"}
    timeout_s = 0.2 if wait == "service" else 60.0
    with make_service(tiny_dir, request_timeout_s=timeout_s) as service, held(service):
        answer = service.wait_until_ready().post(path, content=body, headers=headers)
    assert answer.status_code == (504 if name == "/v1" else 503)
    assert "within 0" in answer.text


def test_the_time_in_the_query_covers_it_too(service: Service) -> None:
    path, body, headers = requests()["NPZ"]
    with held(service):
        answer = service.post(f"{path}?timeout_s=0.1", content=body, headers=headers)
    assert answer.status_code == 503
    assert "within 0.1 s" in answer.text


def test_what_the_body_itself_says_counts_from_its_arrival(service: Service) -> None:
    path, body, headers = requests()["JSON"]
    document = json.dumps({**json.loads(body), "timeout_s": 0.1}).encode()

    async def work() -> Any:
        with held(service) as gate:
            sending = service.client.post(path, content=document, headers=headers)
            asking = asyncio.create_task(sending)
            await asyncio.sleep(0.2)
            gate.set()
            return await asking

    answer = service.run(work())
    assert (answer.status_code, answer.json()["title"]) == (503, "The request took too long")


@pytest.mark.parametrize(
    ("name", "cut", "stalls"),
    [
        *((name, cut, False) for name in ("JSON", "lines", "NPZ", "/v1") for cut in (0, 100)),
        ("JSON", 100, True),
    ],
)
def test_a_body_that_has_come_before_a_stop_is_answered(
    service: Service, name: str, cut: int, stalls: bool
) -> None:
    """Be it to be read, or to be fetched from the kernel."""
    path, body, headers = requests()[name]
    found = inference_of(service)

    async def work() -> int:
        with held(service) as gate:
            caller = Caller(service.app, {k.lower(): v for k, v in headers.items()}, path)
            caller.send(body[: len(body) - cut], more=cut > 0)
            asking = asyncio.create_task(caller.raw_answer())
            await until(lambda: caller.read == 1)
            await until(lambda: cut > 0 or found.bodies.room.held > 0)
            draining = found.registry.drain()
            await asyncio.sleep(0.05)
            late = await service.client.post(path, content=b"{}", headers=headers)
            assert late.status_code == 503
            assert not draining.done()
            # Nothing is read while the machine pauses, be it for longer than a sender may.
            time.sleep(1.2 * SILENCE_S * stalls)
            await asyncio.sleep(2 * LOOK_S)
            if cut:
                caller.send(body[-cut:], more=False)
            gate.set()
        status, _, _ = await asking
        await draining
        return status

    assert service.run(work()) == 200


@pytest.mark.parametrize("is_large", [False, True])
def test_a_stop_does_not_wait_for_what_is_not_sent(
    service: Service, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_bodies, "SILENCE_S", 0.05)
    path, body, headers = requests()["JSON"]

    async def work() -> tuple[int, Any]:
        caller = Caller(service.app, headers, path)
        caller.send(body[:-1] if is_large else body[:10])
        asking = asyncio.create_task(caller.answer())
        await until(lambda: caller.read == 1)
        async with asyncio.timeout(5):
            await inference_of(service).registry.drain()
            status, _, answer = await asking
        return status, answer

    status, answer = service.run(work())
    assert status == 503
    assert "the service stopped when" in answer["detail"]
