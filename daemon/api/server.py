"""uvicorn on our own socket, with the peer's credentials in every request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from daemon.api.access import AccessControl
from daemon.api.listen import Listener
from daemon.api.peer import Peer


class PeerProtocol(H11Protocol):
    """Adds `peer` to the state every request of the connection starts with."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "peer": Peer.of(transport.get_extra_info("socket"))}
        super().connection_made(transport)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's, not the server's."""
        yield


class ApiServer:
    """Serves until told to stop."""

    def __init__(self, app: AccessControl, listener: Listener) -> None:
        self._listener = listener
        config: Any = uvicorn.Config(
            app,
            http=PeerProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        self._server = _Server(config)

    async def serve(self) -> None:
        """Returns after `stop`, when requests under way are answered or 2 s have passed."""
        try:
            await self._server.serve(sockets=[self._listener.socket])
        finally:
            self._listener.close()

    def stop(self) -> None:
        self._server.should_exit = True
