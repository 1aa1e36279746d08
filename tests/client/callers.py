"""`Caller`: one test for both clients, with a service that answers what the test says."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from unroll_client import AsyncClient, Client, Retry

URL = "http://unroll.test/some/path"
AT_ONCE = Retry(first_wait_s=0.0)

# What a service does with a request: answers it, or raises an error of httpx.
Service = Callable[[httpx.Request], httpx.Response]


class Caller:
    """Calls with the sync or the async client.

    Args:
        kind: "sync" or "async".
    """

    def __init__(self, kind: str) -> None:
        self.sync = kind == "sync"

    def __call__(
        self,
        work: Callable[[Any], Any],
        service: Service | httpx.BaseTransport | None = None,
        url: str = URL,
        **options: Any,
    ) -> Any:
        """What `work` makes of a client; its awaitables and asynchronous iterators are awaited."""
        transport: Any = None
        if service is not None:
            transport = httpx.MockTransport(service) if callable(service) else service
        options = {"retry": AT_ONCE, **options}
        if self.sync:
            with httpx.Client(transport=transport) as http, Client(url, http=http, **options) as c:
                return _whole(work(c))
        return asyncio.run(self._run_async(work, transport, url, options))

    async def _run_async(self, work: Any, transport: Any, url: str, options: Any) -> Any:
        async with (
            httpx.AsyncClient(transport=transport) as http,
            AsyncClient(url, http=http, **options) as client,
        ):
            made = work(client)
            if inspect.isawaitable(made):
                return await made
            return [item async for item in made] if hasattr(made, "__anext__") else made


def _whole(made: Any) -> Any:
    return list(made) if hasattr(made, "__next__") else made


class Script:
    """A service that answers as a list says, then fails the test; and what was asked."""

    def __init__(self, *replies: httpx.Response | Exception) -> None:
        self.replies = list(replies)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self.replies, f"asked once too often: {request.method} {request.url}"
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        if not reply.is_closed:
            return reply
        # One that has been read belongs to the client that read it.
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    def asked(self) -> list[str]:
        """Methods and paths."""
        return [f"{r.method} {r.url.raw_path.decode()}" for r in self.requests]


@pytest.fixture(params=["sync", "async"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


def good(**fields: Any) -> httpx.Response:
    """An answer of `/predict`."""
    answer = {"model": {"name": "tiny", "version": 1}, "outputs": [[[1.5]]], "states": ["u1.x"]}
    return httpx.Response(200, json=answer | fields)


def problem(status: int, title: str = "No", **fields: Any) -> httpx.Response:
    """An error; `retry_after` is its header."""
    after = fields.pop("retry_after", None)
    headers = {} if after is None else {"Retry-After": after}
    body = {"title": title, "status": status, "detail": "because", **fields}
    return httpx.Response(status, json=body, headers=headers)
