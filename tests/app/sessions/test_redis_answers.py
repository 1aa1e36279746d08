"""A server whose answers are none of Redis's, or errors of its own: the store is unavailable."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from app.errors import SessionsUnavailable
from app.sessions.record import LastPiece, NoRecord, Record
from app.sessions.redis import RedisStore

RECORD = Record(0, "s", LastPiece(0, None, "d"))


async def _answered(reply: bytes, work: Callable[[RedisStore], Awaitable[object]]) -> object:
    """What a store gives where each command is answered so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                word = await reader.readexactly(size + 2)
            writer.write(b"+OK\r\n" if word.startswith(b"redis-py") else reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    store = RedisStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", "tiny", 9, 9.0)
    try:
        return await work(store)
    finally:
        await store.close()
        server.close()


@pytest.mark.parametrize("what", ["read", "write"])
@pytest.mark.parametrize(
    "reply",
    [
        b"-MOVED 3999 127.0.0.1:6381\r\n",
        b"-MOVED x\r\n",
        b"-ASK\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-BUSY Redis is busy running a script.\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"-WRONGTYPE Operation against a key\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b":abc\r\n",
        b"$abc\r\n",
        b"$5\r\nhello\r\n",
        b"*2\r\n:1\r\n:2\r\n",
        b"*1\r\n" * 3000 + b":1\r\n",
    ],
)
def test_an_answer_that_is_none(reply: bytes, what: str) -> None:
    async def work(store: RedisStore) -> object:
        if what == "read":
            return await store.read("a")
        return await store.write("a", RECORD, None)

    with pytest.raises(SessionsUnavailable):
        uvloop.run(_answered(reply, work))


@pytest.mark.parametrize(
    "changes",
    [
        {"time_step": "0"},
        {"time_step": None},
        {"time_step": 0.5},
        {"state": 5},
        {"state": None},
        {"before": []},
        {"before": {"time_step": "0", "state": None, "digest": "d"}},
        {"before": {"time_step": 0, "state": 7, "digest": "d"}},
        {"keys": "abc"},
        {"keys": [1]},
        {"keys": None},
    ],
)
def test_what_was_planted_is_no_record(changes: dict[str, object]) -> None:
    fields = json.loads(RECORD.to_bytes()[8:]) | changes
    with pytest.raises(NoRecord):
        Record.from_bytes(RECORD.revision + json.dumps(fields).encode())


def test_a_record_is_what_was_kept() -> None:
    assert Record.from_bytes(RECORD.to_bytes()) == RECORD
