"""`HotRoutes`: routes that skip FastAPI's routing and middleware, which cost more than the numbers.

Each is a FastAPI route too: that one is documented, and answers where the application is mounted
under a prefix. Both call the same function.
"""

import logging
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Response
from starlette.types import Receive, Scope, Send

from app.errors import UnrollError
from app.problems import problem_of, unexpected

logger = logging.getLogger(__name__)

# From a request to the bytes of a JSON answer; what it raises becomes a problem.
Answer = Callable[[Scope, Receive], Awaitable[bytes]]


class HotRoutes(FastAPI):
    """FastAPI with a short way for some routes.

    Attributes:
        hot: what answers each method and path.
    """

    hot: dict[tuple[str, str], Answer]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "http":
            answer = self.hot.get((scope["method"], scope["path"]))
            if answer is not None:
                await _respond(answer, scope, receive, send)
                return
        await super().__call__(scope, receive, send)


async def _respond(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    failure: Response
    try:
        body = await answer(scope, receive)
    except UnrollError as error:
        failure = problem_of(error)
    except Exception as error:
        logger.exception("this is a bug: %s failed", scope["path"])
        failure = unexpected(error)
    else:
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    await failure(scope, receive, send)
