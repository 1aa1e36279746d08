"""`connection_pool`: connections to a Redis server, made as they are needed."""

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as NoConnection

# Seconds to connect, for an answer, and for a connection to be free.
TIMEOUT_S = 2.0
# Of a worker. An answer takes less than a millisecond: more callers than that wait their turn.
CONNECTIONS = 32
# That a connection broke while it was idle is found out when it is used again: uvloop raises the
# second one then, where asyncio raises an `OSError`.
WORTH_A_RETRY = (NoConnection, RuntimeError)
RETRIES, FIRST_WAIT_S, LONGEST_WAIT_S = 3, 0.01, 0.1


def connection_pool(url: str) -> BlockingConnectionPool:
    """Connections to a server; none is opened yet.

    Args:
        url: `redis://` or `rediss://`, with what redis-py knows in its query.

    Raises:
        ValueError: it is no such URL.
    """
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(
            ExponentialWithJitterBackoff(LONGEST_WAIT_S, FIRST_WAIT_S),
            RETRIES,
            WORTH_A_RETRY,  # type: ignore[arg-type]  # it takes any exceptions
        ),
    )
    try:
        pool.make_connection()  # type: ignore[no-untyped-call]
    except TypeError as error:
        raise ValueError(f"an option in its query is unknown: {error}") from None
    return pool
