"""Sessions on a real Redis server: that breaks connections, stops, is busy, or has other things."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import redis

from app.errors import SessionsUnavailable
from app.redis_pool import CONNECTIONS, connection_pool
from app.sessions.redis import RESEND_MS, RedisStore
from app.sessions.store import SessionStore
from tests.app.sessions.storing import record, run
from tests.support.real_server import free_port
from tests.support.redis_server import RedisServer, redis_server

# A socket that is closed with this breaks its connection instead of ending it.
BREAK = struct.pack("ii", 1, 0)


def test_models_do_not_share_sessions_on_redis(server: RedisServer) -> None:
    async def work(one: SessionStore, other: SessionStore) -> None:
        assert await one.write("a", record(), None)
        assert await other.read("a") is None
        assert await other.write("a", record(), None)

    run(work, *(RedisStore(server.url, model, 1, 60.0) for model in ("one", "other")))


def test_the_same_write_twice_is_one_write_on_redis(server: RedisServer) -> None:
    """The client sends again where no answer came; then the first may have arrived."""

    async def work(store: SessionStore) -> None:
        first, second = record(1), record(2)
        assert await store.write("a", first, None)
        assert await store.write("a", first, None)
        assert await store.write("a", second, first)
        assert await store.write("a", second, first)

    run(work, RedisStore(server.url, "tiny", 1, 60.0))


def test_a_store_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        store = RedisStore(server.url, "tiny", 10, 60.0)

        async def work(store: SessionStore) -> None:
            written = record()
            assert await store.write("a", written, None)
            server.kill()
            for attempt in (store.read("a"), store.write("a", written, None), store.delete("a")):
                with pytest.raises(SessionsUnavailable, match="does not answer"):
                    await attempt
            server.start()
            kept = await store.read("a")
            assert kept is not None
            assert kept.record == written

        run(work, store)


def test_more_callers_than_connections_wait_their_turn(server: RedisServer) -> None:
    count = 10 * CONNECTIONS

    async def work(store: SessionStore) -> None:
        names = [f"{number}" for number in range(count)]
        assert all(await asyncio.gather(*(store.write(name, record(), None) for name in names)))
        kept = await asyncio.gather(*(store.read(name) for name in names))
        assert None not in kept

    run(work, RedisStore(server.url, "tiny", count, 60.0))


class Proxy:
    """Stands between a store and its server.

    Attributes:
        loses: whether it breaks the connection instead of passing the next answer on.
    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.loses = False
        self._target = target
        self._inside: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", self.port):
            yield
            self.break_all()

    def break_all(self) -> None:
        """Breaks every connection, as a machine in between that forgets them."""
        for writer in self._inside:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, BREAK)
            writer.transport.abort()
        self._inside.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._inside.add(writer)
        to, back = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(_pass_on(reader, back), _pass_on(to, writer, self._lost))

    def _lost(self) -> bool:
        lost, self.loses = self.loses, False
        if lost:
            self.break_all()
        return lost


async def _pass_on(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    lost: Callable[[], bool] = lambda: False,
) -> None:
    # uvloop raises `RuntimeError` for a connection that was aborted.
    with suppress(OSError, RuntimeError):
        while (data := await source.read(1 << 16)) and not lost():
            sink.write(data)
            await sink.drain()
    sink.close()


def test_connections_that_broke_while_they_were_idle_are_made_again(server: RedisServer) -> None:
    proxy = Proxy(server.port)

    async def work(store: SessionStore) -> None:
        async with proxy.running():
            written = record()
            assert await store.write("a", written, None)
            for _ in range(20):
                await asyncio.gather(*(store.read("a") for _ in range(8)))
                proxy.break_all()
                await asyncio.sleep(0.01)
                for kept in await asyncio.gather(*(store.read("a") for _ in range(8))):
                    assert kept is not None
                    assert kept.record == written
            await store.close()

    run(work, RedisStore(f"redis://127.0.0.1:{proxy.port}/0", "tiny", 10, 60.0))


@pytest.mark.parametrize("only_this", [False, True])
def test_a_delete_whose_answer_was_lost_is_one_delete(server: RedisServer, only_this: bool) -> None:
    proxy = Proxy(server.port)

    async def work(store: SessionStore) -> None:
        async with proxy.running():
            for _ in range(2):
                written = record()
                # By now the server knows both scripts.
                assert await store.write("a", written, None)
                assert not await store.delete("b")
                proxy.loses = True
                assert await store.delete("a", written if only_this else None)
                assert not proxy.loses, "the answer was lost"
                assert await store.read("a") is None
                assert not await store.delete("a"), "another one finds nothing"
            await store.close()

    run(work, RedisStore(f"redis://127.0.0.1:{proxy.port}/0", "tiny", 1, 60.0))


def test_what_a_delete_leaves_behind_goes_by_itself(server: RedisServer) -> None:
    async def work(store: SessionStore) -> None:
        assert await store.write("a", record(), None)
        assert await store.delete("a")

    run(work, RedisStore(server.url, "tiny", 1, 60.0))
    with redis.Redis.from_url(server.url) as client:
        left = client.keys()
        assert len(left) == 1
        assert left[0].startswith(b"unroll:{tiny}:ended:")
        assert 0 < client.pttl(left[0]) <= RESEND_MS


def test_connections_that_break_under_load_raise_nothing_but_unavailable(
    server: RedisServer,
) -> None:
    proxy = Proxy(server.port)

    async def work(store: SessionStore) -> None:
        async def read() -> None:
            for _ in range(200):
                with suppress(SessionsUnavailable):
                    await store.read("a")

        async def interrupt() -> None:
            for _ in range(30):
                await asyncio.sleep(0.005)
                proxy.break_all()

        async with proxy.running():
            await asyncio.gather(interrupt(), *(read() for _ in range(8)))
            assert await store.read("a") is None
            await store.close()

    run(work, RedisStore(f"redis://127.0.0.1:{proxy.port}/0", "tiny", 10, 60.0))


@pytest.mark.parametrize("foreign", [b"", b"x", b"12345678", b"12345678[]", b"12345678{}"])
def test_what_somebody_else_wrote_is_no_session(server: RedisServer, foreign: bytes) -> None:
    with redis.Redis.from_url(server.url) as other:
        other.set("unroll:{tiny}:session:a", foreign)
        other.lpush("unroll:{tiny}:session:b", "no string")

    async def work(store: SessionStore) -> None:
        with pytest.raises(
            SessionsUnavailable, match=r"at 'unroll:\{tiny\}:session:a' is no session"
        ):
            await store.read("a")
        for attempt in (store.read("b"), store.write("b", record(), None), store.delete("b")):
            with pytest.raises(SessionsUnavailable, match="does not answer: ResponseError"):
                await attempt

    run(work, RedisStore(server.url, "tiny", 10, 60.0))


@pytest.mark.parametrize(
    "url",
    ["redis://localhost:abc", "redis://localhost:99999999", "redis://localhost/?colour=red"],
)
def test_what_is_no_url_of_a_server_is_told_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ValueError, match=r"port|Port|colour"):
        connection_pool(url)
