"""`ServerContext`: what an application tells the server that it runs in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.types import Scope

from app.api.connection_limit import ConnectionLimit
from app.api.endpoint import Headers, Respond
from app.api.unread_answers import UnreadAnswers
from app.errors import Overloaded
from app.registry.registry import Registry
from app.service.pending_request import Deadlines, PendingRequest
from app.stats.shared_stats import WorkerStats

Client = tuple[str, int] | None


class Whole(Protocol):
    """Answers requests whose body arrived whole; see `Endpoint`."""

    def takes(self, headers: Headers) -> bool:
        """Whether it answers requests with these headers."""

    def begin(self, scope: Scope, body: bytes, pending: PendingRequest, respond: Respond) -> None:
        """Begins to answer."""


@dataclass
class ServerContext:
    """See the module.

    Attributes:
        registry: of the models.
        stats: what this worker counts.
        deadlines: of the open requests.
        max_body_bytes: of a request's body.
        body_timeout_s: seconds for a head or a body to arrive, and for an answer to be read.
        refusal: why a whole request of a client, whose address and port are given, would be refused
            before it is parsed; None if it would not.
        connections: how many there can be.
        unread: what their callers have not read.
        endpoints: who answers a whole body, by method and path.
    """

    registry: Registry
    stats: WorkerStats
    deadlines: Deadlines
    max_body_bytes: int
    body_timeout_s: float
    refusal: Callable[[Client], Overloaded | None]
    connections: ConnectionLimit
    unread: UnreadAnswers = field(default_factory=UnreadAnswers)
    endpoints: dict[tuple[str, str], Whole] = field(default_factory=dict)


def context_of(app: Any) -> ServerContext:
    """The context of an application that `create_app` made."""
    context: ServerContext = app.state.context
    return context
