"""`WS /stream` over a fake kernel, with a real client on a real port."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.api.protocols.native.stream import MAX_AHEAD
from app.codec.states import StateCodec
from app.server.websocket_protocol import MAX_FRAMES, SLICE_BYTES, StreamProtocol
from app.service.large_bodies import LARGE_BYTES
from tests.app.api.test_fast_path import live_of
from tests.app.engine.running import is_idle, until
from tests.app.live import LIMIT_S, Live, head_of
from tests.app.running_service import Loader

OVERFLOW = 777.0
LIMIT = 50_000


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader(overflow=OVERFLOW)


@pytest.fixture(scope="module", params=[0, 1], ids=["loop", "thread"])
def live(request: pytest.FixtureRequest, tiny_dir: Path, loader: Loader) -> Iterator[Live]:
    with live_of(tiny_dir, loader, lanes=request.param, max_body_bytes=LIMIT) as live:
        live.run(live.ready())
        yield live


def rows(*values: float) -> list[list[float | None]]:
    return [[value, None, None, 0.0] for value in values]


def port_of(live: Live) -> int:
    return int(live.server.servers[0].sockets[0].getsockname()[1])


def talk(live: Live, body: Callable[[ClientConnection], Awaitable[None]], **options: Any) -> None:
    """Lets `body` use a stream."""

    async def run() -> None:
        async with (
            asyncio.timeout(2 * LIMIT_S),
            connect(f"ws://127.0.0.1:{port_of(live)}/stream", **options) as stream,
        ):
            await body(stream)
        await until(lambda: is_idle(live.app.state.context.registry.engine))

    live.run(run())


async def slow_reader(live: Live) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A stream that reads only when it is told to, and a large message as its frame."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(live), limit=1 << 10)
    writer.write(head_of("/stream", *UPGRADE, method="GET"))
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer, frame_of({"sequence": rows(*[1] * 900)})


def frame_of(message: dict[str, Any]) -> bytes:
    """A message as its frame; its mask is zero."""
    payload = json.dumps(message).encode()
    short = len(payload) < 126
    size = bytes([0x80 | len(payload)]) if short else b"\xfe" + len(payload).to_bytes(2)
    return b"\x81" + size + bytes(4) + payload


async def ask(stream: ClientConnection, **message: Any) -> dict[str, Any]:
    await stream.send(json.dumps(message))
    return dict(json.loads(await stream.recv()))


def test_pieces_go_on_from_each_other(live: Live) -> None:
    async def body(stream: ClientConnection) -> None:
        first = await ask(stream, sequence=rows(1, 2))
        assert first == {"time_step": 0, "outputs": [[1, 1], [3, 3]]}
        assert await ask(stream, sequence=rows(4)) == {"time_step": 2, "outputs": [[7, 7]]}

    talk(live, body)


def test_streams_do_not_share_a_state(live: Live) -> None:
    async def body(stream: ClientConnection) -> None:
        await ask(stream, sequence=rows(5))
        async with connect(f"ws://127.0.0.1:{port_of(live)}/stream") as other:
            assert (await ask(other, sequence=rows(1)))["outputs"] == [[1, 1]]
        assert (await ask(stream, sequence=rows(1)))["outputs"] == [[6, 6]]

    talk(live, body)


@pytest.mark.parametrize("form", ["token", "concatenated", "per_layer"])
def test_a_state_can_be_saved_and_resumed_on_another_stream(live: Live, form: str) -> None:
    saved: list[Any] = []

    async def save(stream: ClientConnection) -> None:
        await ask(stream, sequence=rows(1, 2))
        saved.append((await ask(stream, sequence=rows(4), states=form, outputs="none"))["state"])

    async def resume(stream: ClientConnection) -> None:
        await ask(stream, sequence=rows(100))
        resumed = await ask(stream, sequence=rows(8), initial_state=saved[0])
        assert resumed == {"time_step": 0, "outputs": [[15, 15]]}
        assert (await ask(stream, sequence=rows(1)))["outputs"] == [[16, 16]]
        anew = await ask(stream, sequence=rows(1), initial_state=None)
        assert anew == {"time_step": 0, "outputs": [[1, 1]]}

    talk(live, save)
    talk(live, resume)


def test_an_answer_has_what_is_asked_for(live: Live) -> None:
    async def body(stream: ClientConnection) -> None:
        answer = await ask(stream, sequence=rows(1, 2), outputs="last", id=7)
        assert answer == {"id": 7, "time_step": 1, "outputs": [[3, 3]]}
        answer = await ask(stream, sequence=rows(1), outputs="none", id="x")
        assert answer == {"id": "x", "time_step": 2}
        columns = {"temp": [1.0], "pressure": [None], "wind_dir": [None], "hour": [0]}
        assert (await ask(stream, sequence=columns))["outputs"] == [[5, 5]]

    talk(live, body)


@pytest.mark.parametrize(
    ("message", "pointer"),
    [
        ({"sequence": [[1]]}, "/sequence/0"),
        ({"sequence": []}, "/sequence"),
        ({"sequence": rows(OVERFLOW)}, "/sequence"),
        ({"sequence": {"temp": [1]}}, "/sequence"),
        ({}, "/sequence"),
        ({"sequence": rows(1), "colour": 1}, "/colour"),
        ({"sequence": rows(1), "outputs": "some"}, "/outputs"),
        ({"sequence": rows(1), "initial_state": [1, 2]}, "/initial_state"),
        ({"sequence": rows(1), "initial_state": "u1.x"}, "/initial_state"),
        ([1], ""),
    ],
)
def test_a_bad_message_is_answered_and_the_stream_goes_on(
    live: Live, message: Any, pointer: str
) -> None:
    async def body(stream: ClientConnection) -> None:
        await ask(stream, sequence=rows(1))
        if isinstance(message, dict):
            message["id"] = "bad"
        await stream.send(json.dumps(message))
        answer = json.loads(await stream.recv())
        assert answer.get("id") == ("bad" if isinstance(message, dict) else None)
        assert answer["error"]["status"] == 422
        assert answer["error"]["errors"][0]["pointer"] == pointer
        assert await ask(stream, sequence=rows(2)) == {"time_step": 1, "outputs": [[3, 3]]}

    talk(live, body)


def test_a_piece_whose_answer_cannot_be_printed_counts_for_nothing(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async def body(stream: ClientConnection) -> None:
        await ask(stream, sequence=rows(1))
        with monkeypatch.context() as patch:
            patch.setattr(StateCodec, "printable", fail)
            answer = await ask(stream, sequence=rows(2), states="token")
            assert answer["error"]["status"] == 500
        assert await ask(stream, sequence=rows(4)) == {"time_step": 1, "outputs": [[5, 5]]}

    talk(live, body)


@pytest.mark.parametrize("message", ["{", b"\xff", "", '{"sequence": [[NaN]]}'])
def test_what_is_no_json_is_answered(live: Live, message: str | bytes) -> None:
    async def body(stream: ClientConnection) -> None:
        await stream.send(message)
        assert json.loads(await stream.recv())["error"]["status"] == 400
        assert (await ask(stream, sequence=rows(2)))["outputs"] == [[2, 2]]

    talk(live, body)


@pytest.mark.parametrize("name", [[1], {}, 1.5, True, "x" * 257])
def test_an_id_that_is_none_is_not_echoed(live: Live, name: Any) -> None:
    async def body(stream: ClientConnection) -> None:
        answer = await ask(stream, sequence=rows(1), id=name)
        assert answer["error"]["errors"][0]["pointer"].startswith("/id")
        assert "id" not in answer

    talk(live, body)


def test_messages_sent_ahead_are_answered_in_their_order(live: Live) -> None:
    """More than are read ahead, bad ones among them."""

    async def body(stream: ClientConnection) -> None:
        count = 5 * MAX_AHEAD
        for number in range(count):
            sequence = rows(1) if number % 3 else [[1]]
            await stream.send(json.dumps({"sequence": sequence, "id": number}))
        total = 0
        for number in range(count):
            answer = json.loads(await stream.recv())
            assert answer["id"] == number
            if number % 3:
                assert answer["time_step"] == total
                total += 1
                assert answer["outputs"] == [[total, total]]
            else:
                assert answer["error"]["status"] == 422

    talk(live, body)


def test_messages_of_any_framing_are_taken(live: Live) -> None:
    """Binary, in fragments, with pings between them, large, and several in one write."""

    async def body(stream: ClientConnection) -> None:
        message = json.dumps({"sequence": rows(1)})
        await stream.send(message.encode())
        assert json.loads(await stream.recv())["outputs"] == [[1, 1]]
        await stream.send([message[:5], message[5:9], message[9:]])
        assert json.loads(await stream.recv())["outputs"] == [[2, 2]]
        await stream.send(message.encode()[i : i + 1] for i in range(len(message)))
        assert json.loads(await stream.recv())["outputs"] == [[3, 3]]
        # A character may be cut by a fragment, and a binary message may hold any bytes.
        text = json.dumps({"sequence": [], "id": "z\u00e4hler"}, ensure_ascii=False).encode()
        cut = text.index(b"\xa4")
        await stream.send([text[:cut], text[cut:]], text=True)
        assert json.loads(await stream.recv())["id"] == "z\u00e4hler"
        await stream.send(text[:cut])
        assert json.loads(await stream.recv())["error"]["status"] == 400
        await (await stream.ping())
        assert len((await ask(stream, sequence=rows(*[1] * 900)))["outputs"]) == 900

    talk(live, body)


@pytest.mark.parametrize("early", [True, False], ids=["with the opening", "later"])
def test_many_frames_of_one_read_let_others_have_their_turn(
    live: Live, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pings, which nothing bounds: each has its pong, and few are answered at once."""
    ping, pong, count = bytes([0x89, 0x80]) + bytes(4), bytes([0x8A, 0]), 4000
    turns: list[int] = []
    parse, read = StreamProtocol._parse, WebSocketsSansIOProtocol.data_received

    def counting_parse(self: Any, data: bytes) -> None:
        turns.append(0)
        parse(self, data)

    def counting_read(self: Any, data: bytes) -> None:
        if turns:
            turns[-1] += len(data) // len(ping)
        read(self, data)

    monkeypatch.setattr(StreamProtocol, "_parse", counting_parse)
    monkeypatch.setattr(WebSocketsSansIOProtocol, "data_received", counting_read)

    async def run() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(live))
        opening = head_of("/stream", *UPGRADE, method="GET")
        writer.write(opening + ping * (count if early else 0))
        async with asyncio.timeout(LIMIT_S):
            # uvicorn answers pings that come before its own answer before that.
            before = (await reader.readuntil(b"\r\n\r\n")).count(pong)
            if not early:
                writer.write(ping * count)
            assert await reader.readexactly(2 * (count - before)) == pong * (count - before)
            writer.write(frame_of({"sequence": rows(1)}))
            assert b'"outputs":[[1.0' in await reader.readuntil(b"]]}")
        writer.close()

    live.run(run())
    assert max(turns) <= max(MAX_FRAMES, SLICE_BYTES // len(ping) + 1)


@pytest.mark.long
def test_a_large_message_is_read_elsewhere_and_answered_in_its_turn(tiny_dir: Path) -> None:
    steps = LARGE_BYTES // 20

    async def body(stream: ClientConnection) -> None:
        large = {"sequence": rows(*[1] * steps), "outputs": "last", "id": 1}
        await stream.send(json.dumps(large))
        await stream.send(json.dumps({"sequence": rows(1), "id": 2}))
        await stream.send(json.dumps({**large, "outputs": "odd", "id": 3}))
        assert json.loads(await stream.recv())["outputs"] == [[steps, steps]]
        assert json.loads(await stream.recv())["time_step"] == steps
        refused = json.loads(await stream.recv())
        assert (refused["id"], refused["error"]["status"]) == (3, 422)

    with live_of(tiny_dir, Loader()) as live:
        live.run(live.ready())
        talk(live, body)


def test_a_message_beyond_the_limit_closes_the_stream(live: Live) -> None:
    async def body(stream: ClientConnection) -> None:
        await ask(stream, sequence=rows(1))
        await stream.send(" " * (LIMIT + 1))
        with pytest.raises(ConnectionClosed):
            await stream.recv()
        assert stream.close_code == 1009

    talk(live, body)


UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version: 13",
)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x02{}", 1002),  # not masked
        (b"\xf1\x80\0\0\0\0", 1002),  # reserved bits
        (b"\x80\x80\0\0\0\0", 1002),  # goes on with nothing
        (b"\x83\x80\0\0\0\0", 1002),  # an unknown kind
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009),
        (b"\x81\x84\0\0\0\0{}\xff ", 1007),  # no UTF-8
        (b"\x81\x82\0\0\0\0{\xc3", 1007),  # the first half of a character
        (b"\x01\x81\0\0\0\0{\x80\x82\0\0\0\0\xed\xa0", 1007),  # in fragments
        (b"\x81\x81\0\0\0\0\xff" + frame_of({"sequence": rows(1)}), 1007),  # and goes on
    ],
)
def test_a_broken_frame_closes_the_stream(live: Live, frame: bytes, code: int) -> None:
    async def run() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(live))
        writer.write(head_of("/stream", *UPGRADE, method="GET"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        # First a good one, in pieces.
        payload = json.dumps({"sequence": rows(1)}).encode()
        good = bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload
        for start in range(0, len(good), 7):
            writer.write(good[start : start + 7])
            await asyncio.sleep(0)
        async with asyncio.timeout(LIMIT_S):
            kind, size = await reader.readexactly(2)
            assert kind == 0x81
            await reader.readexactly(size)
            writer.write(frame)
            rest = await reader.read()
        writer.close()
        # Nothing is answered but that it closes.
        assert rest[0] == 0x88
        assert rest[2:4] == code.to_bytes(2)

    live.run(run())


def test_a_message_sent_with_the_opening_request_is_answered(live: Live) -> None:
    async def run() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(live))
        payload = json.dumps({"sequence": rows(1)}).encode()
        frame = bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload
        # The third comes in two parts.
        writer.write(head_of("/stream", *UPGRADE, method="GET") + frame + frame + frame[:9])
        async with asyncio.timeout(LIMIT_S):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(frame[9:] + frame)
            for total in (b"1.0", b"2.0", b"3.0", b"4.0"):
                assert b'"outputs":[[' + total in await reader.readuntil(b"]]}")
        writer.close()

    live.run(run())


def test_who_sends_a_lot_with_the_opening_request_is_not_read_without_end(tiny_dir: Path) -> None:
    """Nothing is computed meanwhile: what it sends after that stays in its own buffers."""
    frame = frame_of({"sequence": rows(1)})

    async def work(live: Live) -> None:
        await live.ready()
        loader.runner.gate.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(live))
        writer.write(head_of("/stream", *UPGRADE, method="GET") + frame * (2 * MAX_AHEAD))
        await reader.readuntil(b"\r\n\r\n")
        await until(loader.runner.entered.is_set)
        writer.write(frame_of({"sequence": rows(*[1] * 900)}) * 3000)
        unsent, since = -1, 0
        while since < 50:
            await asyncio.sleep(0.01)
            size = writer.transport.get_write_buffer_size()
            unsent, since = size, since + 1 if size == unsent else 0
        assert unsent > 0, "all of it was read"
        loader.runner.gate.set()
        writer.transport.abort()

    loader = Loader()
    with live_of(tiny_dir, loader) as live:
        live.run(work(live))


def test_a_large_message_may_come_a_little_at_a_time(live: Live) -> None:
    async def run() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(live))
        writer.write(head_of("/stream", *UPGRADE, method="GET"))
        await reader.readuntil(b"\r\n\r\n")
        payload = json.dumps({"sequence": rows(*[1] * 900), "outputs": "last"}).encode()
        frame = bytes([0x81, 0xFE]) + len(payload).to_bytes(2) + bytes(4) + payload
        twice = frame + frame
        for start in range(0, len(twice), 101):
            writer.write(twice[start : start + 101])
            await asyncio.sleep(0)
        async with asyncio.timeout(LIMIT_S):
            for total in (b"900.0", b"1800.0"):
                assert b'"outputs":[[' + total in await reader.readuntil(b"]]}")
        writer.close()

    live.run(run())


@pytest.mark.parametrize("path", ["/stream2", "/predict", "/"])
def test_other_paths_take_no_streams(live: Live, path: str) -> None:
    async def run() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(live))
        writer.write(head_of(path, *UPGRADE, method="GET"))
        async with asyncio.timeout(LIMIT_S):
            answer = await reader.read()
        writer.close()
        return answer

    answer = live.run(run())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"there is no stream at" in answer


def test_a_caller_who_goes_frees_the_slot_and_is_counted(tiny_dir: Path) -> None:
    async def work(live: Live) -> None:
        await live.ready()
        loader.runner.gate.clear()
        before = live.app.state.context.stats.shared.living()[0].closed
        stream = await connect(f"ws://127.0.0.1:{port_of(live)}/stream")
        for _ in range(3):
            await stream.send(json.dumps({"sequence": rows(*[1] * 900)}))
        await until(loader.runner.entered.is_set)
        stream.transport.abort()
        await until(lambda: live.app.state.context.stats.shared.living()[0].closed == before + 1)
        loader.runner.gate.set()
        await until(lambda: is_idle(live.app.state.context.registry.engine))
        assert sum(loader.runner.calls) < 900 // 16, "it was not computed to the end"

    loader = Loader()
    with live_of(tiny_dir, loader) as live:
        live.run(work(live))


def test_a_caller_who_does_not_read_is_waited_for(tiny_dir: Path) -> None:
    """Its answers do not pile up: no more is computed until it reads."""

    async def work(live: Live) -> None:
        await live.ready()
        reader, writer, frame = await slow_reader(live)
        counted = live.app.state.context.registry.engine.counters

        async def flood() -> None:
            while True:
                writer.write(frame)
                await writer.drain()

        flooding = asyncio.create_task(flood())
        last, since = -1, 0
        async with asyncio.timeout(LIMIT_S):
            while since < 50:
                await asyncio.sleep(0.01)
                since = since + 1 if counted.completed == last else 0
                last = counted.completed
        flooding.cancel()
        assert is_idle(live.app.state.context.registry.engine)
        async with asyncio.timeout(LIMIT_S):
            while counted.completed == last:
                await reader.read(1 << 16)
                await asyncio.sleep(0)
        writer.close()

    with live_of(tiny_dir, Loader()) as live:
        live.run(work(live))


def test_a_stop_answers_what_was_taken_first(tiny_dir: Path) -> None:
    """One message is computed, two wait behind it: they hear that the service stops."""

    async def work(live: Live) -> None:
        await live.ready()
        loader.runner.gate.clear()
        async with connect(f"ws://127.0.0.1:{port_of(live)}/stream") as stream:
            for number in range(3):
                await stream.send(json.dumps({"sequence": rows(1), "id": number}))
            await until(loader.runner.entered.is_set)
            stopping = asyncio.create_task(live.stop())
            await until(lambda: live.server.should_exit)
            await asyncio.sleep(0.3)
            loader.runner.gate.set()
            answers = [json.loads(await stream.recv()) for _ in range(3)]
            await stream.wait_closed()
        await stopping
        assert answers[0] == {"id": 0, "time_step": 0, "outputs": [[1, 1]]}
        assert [answer["id"] for answer in answers] == [0, 1, 2]
        assert all(answer["error"]["status"] == 503 for answer in answers[1:])
        assert stream.close_code == 1012

    loader = Loader()
    with live_of(tiny_dir, loader, lanes=1) as live:
        live.run(work(live))


def test_a_stop_closes_streams_with_a_reason(tiny_dir: Path) -> None:
    async def work(live: Live) -> None:
        await live.ready()
        stream = await connect(f"ws://127.0.0.1:{port_of(live)}/stream")
        assert (await ask(stream, sequence=rows(1)))["outputs"] == [[1, 1]]
        await asyncio.gather(live.stop(), stream.wait_closed())
        assert stream.close_code == 1012

    with live_of(tiny_dir, Loader()) as live:
        live.run(work(live))
