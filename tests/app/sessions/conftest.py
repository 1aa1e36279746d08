"""A real Redis server for the tests of sessions."""

from collections.abc import Iterator

import pytest

from tests.support.redis_server import RedisServer, redis_server


@pytest.fixture(scope="package")
def redis_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def server(redis_running: RedisServer) -> RedisServer:
    """With nothing in it."""
    redis_running.flush()
    return redis_running
