"""`WorkerServer`: uvicorn's server, which stops without losing what its callers have sent.

1. It gives notice for a while: `/readyz` says 503, and everything else is answered as before, on
   new connections too. Each answer says that it is the last of its connection, which then closes.
2. It takes the connections that wait, and no more.
3. Connections on which nothing has been asked since are closed, streams too. Open requests are
   answered until `drain_timeout_s` is over.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from app.stats.shared_stats import WorkerStats
from app.workers.connection_receiver import Acceptor, ConnectionLoop, Connections, receive
from app.workers.service_manager import tell_manager

# In functions otherwise: the parent, which has these classes too, starts its workers the sooner.
if TYPE_CHECKING:
    from app.api.server_context import ServerContext

# Seconds between two looks whether the notice is over.
LOOK_S = 0.02
# A worker among others gives notice until its parent says that it is over, and for so many seconds
# longer than its own would be if the parent says nothing: it is to stop alone then.
PARENT_S = 2.0
# Seconds that the callers who come last, when the service stops, have to send their requests.
LAST_REQUEST_S = 0.5
# Seconds for what is in the kernel to be read.
LAST_READ_S = 0.05


class WorkerConfig(uvicorn.Config):
    """uvicorn's configuration with what the workers of this service need.

    Args:
        home: folder of the workers' sockets.
        stats: of the worker; called in the process that it is, never before.
        stop_notice_s: seconds from the order to stop until no more connections are taken.
        inherited: whether another process has the listener, too.

    Attributes:
        parent: the process that starts the service.
    """

    def __init__(
        self,
        *args: Any,
        home: Any,
        stats: Callable[[], WorkerStats],
        stop_notice_s: float = 0.0,
        inherited: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.home = home
        self.stats = stats
        self.stop_notice_s = stop_notice_s
        self.inherited = inherited
        self.parent = os.getpid()

    def get_loop_factory(self) -> Callable[[], Any]:
        """Called in the worker. One that is alone accepts by itself."""
        return partial(ConnectionLoop, self._connections)

    def _connections(
        self, loop: ConnectionLoop, listener: socket.socket, make_protocol: Any
    ) -> Connections:
        stats = self.stats()
        if self.workers > 1:
            return receive(loop, listener, make_protocol, self.home, stats)
        return Acceptor(listener, self.backlog, self.inherited, loop, make_protocol, stats)


class WorkerServer(uvicorn.Server):
    """See the module."""

    config: WorkerConfig

    def __init__(self, config: WorkerConfig) -> None:
        super().__init__(config)
        self._is_alone = config.workers == 1
        self._told_ready = False

    @property
    def _context(self) -> "ServerContext":
        from app.api.server_context import context_of

        return context_of(self.config.loaded_app)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if self._is_alone and not self._told_ready and self._context.registry.ready:
            self._told_ready = True
            tell_manager("READY=1")
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called once this worker is told to stop."""
        from app.server.head_protocol import HeadProtocol

        await self._give_notice()
        self._close_listeners()
        await asyncio.sleep(LAST_REQUEST_S)
        for connection in list(self.server_state.connections):
            if isinstance(connection, HeadProtocol):
                connection.close_if_idle()
        await asyncio.sleep(LAST_READ_S)
        await super().shutdown(sockets)

    async def _give_notice(self) -> None:
        registry = self._context.registry
        was_ready = registry.ready or registry.stopping
        registry.leave()
        if self._is_alone:
            tell_manager("STOPPING=1")
            if self.config.inherited:
                self._close_listeners()
        ends_at = time.monotonic() + (self._notice_s if was_ready else 0.0)
        while time.monotonic() < ends_at and not self._is_over:
            await asyncio.sleep(LOOK_S)

    @property
    def _notice_s(self) -> float:
        if not self._is_alone:
            return self.config.stop_notice_s + PARENT_S
        # Nobody else is to notice that a terminal is left.
        by_sigterm = self._captured_signals[:1] == [signal.SIGTERM]
        return self.config.stop_notice_s if by_sigterm else 0.0

    @property
    def _is_over(self) -> bool:
        """Whether the notice ends before its time."""
        if self.force_exit:
            return True
        if self._is_alone:
            return False
        shared = self._context.stats.shared
        return shared.dispatched or os.getppid() != self.config.parent

    def _close_listeners(self) -> None:
        for server in self.servers:
            server.close()
