"""`Exchange`: a request that arrived whole, answered without a task or ASGI's messages.

These cost more than the numbers of a small request. A direct route is a FastAPI route too: that one
is documented, and answers what arrives in pieces. Both are made of the same parts.
"""

import logging
from collections.abc import Callable, Iterable
from time import perf_counter_ns

from starlette.types import Scope

from app.api.problems import problem_of, unexpected
from app.errors import Cancelled, UnrollError
from app.service.deadlines import Watcher, late
from app.stats.answer_counts import NOT_GIVEN, Answers

logger = logging.getLogger(__name__)

Headers = Iterable[tuple[bytes, bytes]]
# The body of an answer, and its headers beside its length.
Reply = tuple[bytes, Headers]
# Writes an answer: status, headers, body.
Respond = Callable[[int, Headers, bytes], None]
GiveUp = Callable[[UnrollError], None]


class Exchange:
    """One request and its answer. Everything here happens on the event loop.

    Args:
        path: of the request, for the log.
        respond: writes the answer; is called once, or never if the caller hangs up.
        answers: of the worker.
        route: that the answer is counted for, index in `ROUTES`.
    """

    __slots__ = (
        "_answers",
        "_began_ns",
        "_give_up",
        "_path",
        "_respond",
        "_route",
        "_since",
        "_watcher",
    )

    def __init__(self, path: str, respond: Respond, answers: Answers, route: int) -> None:
        self._path = path
        self._answers, self._route, self._began_ns = answers, route, perf_counter_ns()
        self._respond: Respond | None = respond
        self._give_up: GiveUp | None = None
        self._watcher: Watcher | None = None
        self._since = 0.0

    def wait(self, watcher: Watcher, give_up: GiveUp) -> None:
        """From now on the caller waits.

        Args:
            watcher: of the application; ends what takes too long.
            give_up: is called at most once, with the reason, when the caller hangs up or time is
                over.
        """
        self._watcher, self._give_up = watcher, give_up
        self._since = watcher.add(self)

    def finish(self, error: UnrollError | None, make: Callable[[], Reply]) -> None:
        """Answers, if somebody still waits.

        Args:
            error: why there is no answer but this.
            make: the answer.
        """
        respond = self._end()
        if respond is None:
            return
        if error is None:
            try:
                body, headers = make()
            except Exception as bug:
                self._fail(respond, bug)
            else:
                self._count(200)
                # In the order of FastAPI's way.
                respond(200, ((b"content-length", b"%d" % len(body)), *headers), body)
        else:
            self._fail(respond, error)

    def fail(self, error: Exception) -> None:
        """Answers with a problem, if somebody still waits."""
        respond = self._end()
        if respond is not None:
            self._fail(respond, error)

    def hang_up(self) -> None:
        """The caller has gone; nobody is answered."""
        give_up = self._give_up
        if self._end() is not None:
            self._count(NOT_GIVEN)
            if give_up is not None:
                give_up(Cancelled("the caller has gone"))

    def look(self, now: float) -> None:
        """Acts if its time is over. Called by the watcher."""
        if self._watcher is None or now - self._since < self._watcher.request_timeout_s:
            return
        give_up, self._give_up = self._give_up, None
        if give_up is not None:
            give_up(late(self._watcher.request_timeout_s))

    def _end(self) -> Respond | None:
        """Who can be answered, once."""
        if self._watcher is not None:
            self._watcher.remove(self)
            self._watcher = None
        respond, self._respond = self._respond, None
        self._give_up = None
        return respond

    def _count(self, status: int) -> None:
        # Before the answer leaves: who has it finds it counted.
        self._answers.count(self._route, status, self._began_ns)

    def _fail(self, respond: Respond, error: Exception) -> None:
        if isinstance(error, UnrollError):
            problem = problem_of(error, self._path)
        else:
            logger.error("this is a bug: %s failed", self._path, exc_info=error)
            problem = unexpected(error, self._path)
        self._count(problem.status_code)
        respond(problem.status_code, problem.raw_headers, bytes(problem.body))


# Understands a request (ASGI's scope, and its body) and begins to compute; what it raises becomes a
# problem.
Direct = Callable[[Scope, bytes, Exchange], None]


def header_of(scope: Scope, name: bytes) -> str | None:
    """A header of a request, by its name in lower case; None if it has none.

    Of several lines of it, one is made, as RFC 9110 has it (section 5.3).
    """
    values = [str(value, "latin-1") for found, value in scope["headers"] if found == name]
    return ", ".join(values) if values else None
