"""Plans: what is to be sent and waited for, without doing it. Both clients carry them out.

A plan is a generator. It yields a `Call` and is sent the response or the error of the transport; it
yields a `Pause` and is sent None; it returns the result.
"""

import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, TypeVar

import httpx

from unroll_client.errors import NoAnswer, Problem, Unavailable, error_of, problem_of
from unroll_client.retry import Retry

T = TypeVar("T")

# What a proxy answers that got no answer itself.
GATEWAYS = (502, 504)
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Call:
    """A request.

    Attributes:
        method, path, content, headers: of HTTP; the path is quoted.
        stream: hand back the response before its body has come, unless it is an error.
    """

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: bool = False


@dataclass(frozen=True)
class Pause:
    """A wait."""

    wait_s: float


Step: TypeAlias = Call | Pause
Reply: TypeAlias = httpx.Response | httpx.RequestError | None
Plan: TypeAlias = Generator[Step, Reply, T]


class Run(Protocol):
    """Carries out a plan."""

    def __call__(self, plan: Plan[T], /) -> T:
        """Returns what the plan does."""


class AsyncRun(Protocol):
    """Carries out a plan without blocking."""

    async def __call__(self, plan: Plan[T], /) -> T:
        """Returns what the plan does."""


class Answered:
    """Makes plans that send a call until it is answered, or all is tried.

    Args:
        retry: how often and how long.
        clock: seconds that only grow.
        chance: a random number of 0 to 1.
    """

    def __init__(
        self,
        retry: Retry,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._retry = retry
        self._clock = clock
        self._chance = chance

    def __call__(
        self, call: Call, read: Callable[[httpx.Response], T], gone_is_done: bool = False
    ) -> Plan[T]:
        """The plan of a call that counts once however often it is sent.

        Args:
            call: to send.
            read: makes the result of a response that is no error. It may raise `Unavailable` too.
            gone_is_done: a 404 says that it was done before, if an answer may have been lost.

        Returns:
            what `read` made. A plan raises `Problem` for an error, `NoAnswer` if no answer came,
            `InvalidInput` or `NotUnderstood` where none ever would.
        """
        began, sent, may_be_done = self._clock(), 0, False
        while True:
            sent += 1
            reply = yield call
            try:
                return read(_answer(reply, or_gone=gone_is_done and may_be_done))
            except (Unavailable, NoAnswer) as failure:
                wait_s = self._wait_s(failure, sent, self._clock() - began)
                if wait_s is None:
                    raise
            may_be_done = may_be_done or _may_be_done(reply)
            yield Pause(wait_s)

    def _wait_s(self, failure: Problem | NoAnswer, sent: int, elapsed_s: float) -> float | None:
        asked_s = failure.retry_after_s if isinstance(failure, Problem) else None
        return self._retry.wait_s(sent, elapsed_s, self._chance(), asked_s)


def _answer(reply: Reply, or_gone: bool) -> httpx.Response:
    """A response that is no error, or 404 if that is none; raises what else came."""
    assert reply is not None, "this is a bug: a call was not answered"
    if not isinstance(reply, httpx.Response):
        raise error_of(reply)
    if reply.is_success or (or_gone and reply.status_code == 404):
        return reply
    raise problem_of(reply.status_code, reply.content, reply.headers)


def _may_be_done(reply: Reply) -> bool:
    """Whether a call that failed may have been done: sent, and not answered by the service."""
    if isinstance(reply, httpx.Response):
        return reply.status_code in GATEWAYS
    return not isinstance(reply, NOT_SENT)
