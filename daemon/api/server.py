"""uvicorn on our own sockets, with who is at the other end in every request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from daemon.api.listen import Listener
from daemon.api.peer import Peer, TlsPeer
from daemon.api.tls import TlsListener, shown
from daemon.trust.errors import TrustError


class PeerProtocol(H11Protocol):
    """Adds `peer` to the state every request of the connection starts with."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "peer": Peer.of(transport.get_extra_info("socket"))}
        super().connection_made(transport)


class TlsProtocol(H11Protocol):
    """Adds `peer`, and `certificate`: the fingerprint of the one that was shown.

    TLS has checked it; if it is no node's of this zone the connection ends here.
    """

    zone_id = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        try:
            node, certificate = shown(transport.get_extra_info("ssl_object"), self.zone_id)
        except TrustError:
            transport.abort()
            node, certificate = None, ""
        address = str(transport.get_extra_info("peername", ("",))[0])
        peer = TlsPeer(node, address)
        self.app_state = {**self.app_state, "peer": peer, "certificate": certificate}
        super().connection_made(transport)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's, not the server's."""
        yield


class ApiServer:
    """Serves until told to stop."""

    def __init__(
        self, app: ASGIApp, listener: Listener, tls: TlsListener | None = None, zone_id: str = ""
    ) -> None:
        self._listener = listener
        self._tls = tls
        self._protocol = type("ZoneProtocol", (TlsProtocol,), {"zone_id": zone_id})
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
        self._config = config
        self._server = _Server(config)

    async def serve(self) -> None:
        """Returns after `stop`, when requests under way are answered or 2 s have passed."""
        try:
            local = asyncio.create_task(self._server.serve(sockets=[self._listener.socket]))
            if self._tls is None:
                await local
                return
            remote = asyncio.create_task(self._tls.serve(self._connection))
            await asyncio.wait([local, remote], return_when=asyncio.FIRST_COMPLETED)
            self.stop()
            remote.cancel()
            results = await asyncio.gather(local, remote, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    raise result
        finally:
            self._listener.close()

    def _connection(self) -> H11Protocol:
        """The same server's: it ends these connections too when it stops."""
        connection: H11Protocol = self._protocol(
            config=self._config, server_state=self._server.server_state, app_state={}
        )
        return connection

    def stop(self) -> None:
        self._server.should_exit = True
