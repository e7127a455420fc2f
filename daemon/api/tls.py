"""The API on the underlay: TLS 1.3 on the VTEP address and on no other."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from daemon.trust.certificate import fingerprint, named, read_der
from daemon.trust.contexts import PORT
from daemon.trust.credentials import Member
from daemon.trust.errors import TrustError

log = logging.getLogger(__name__)

RETRY_S = 1.0
HANDSHAKE_S = 10.0
BACKLOG = 256
#: The address is not there yet, or another plumd of this node is just ending.
_PASSING = (errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.ENETDOWN)


class TlsListener:
    """Listens for as long as `serve` runs; what it accepted goes on after that."""

    def __init__(self, member: Member, *, port: int = PORT) -> None:
        self._member = member
        self._address = (str(member.vtep), port)
        self._look = asyncio.Event()
        self.listening = asyncio.Event()

    def look_again(self) -> None:
        """Certificates or roles have changed: new connections are to see it."""
        self._look.set()

    async def serve(self, protocol: Callable[[], Any]) -> None:
        """Accept connections until cancelled. `protocol` makes what speaks on each.

        A changed context is put in place by a second server on the same socket: nobody is
        turned away meanwhile, and connections that are open are left alone.
        """
        bound = await self._bind()
        server: asyncio.Server | None = None
        loop = asyncio.get_running_loop()
        state: object = None
        try:
            while True:
                self._look.clear()
                if (wanted := self._wanted()) != state:
                    context = self._context(strangers=wanted[0])
                    if context is not None:
                        new = await loop.create_server(
                            protocol,
                            sock=bound.dup(),
                            ssl=context,
                            backlog=BACKLOG,
                            ssl_handshake_timeout=HANDSHAKE_S,
                        )
                        if server is not None:
                            server.close()
                        server, state = new, wanted
                        self.listening.set()
                try:
                    async with asyncio.timeout(RETRY_S):  # a role may have changed
                        await self._look.wait()
                except TimeoutError:
                    continue
        finally:
            if server is not None:
                server.close()
            bound.close()

    def _wanted(self) -> tuple[bool, int]:
        return self._member.is_director, self._member.credentials.generation

    def _context(self, *, strangers: bool) -> ssl.SSLContext | None:
        try:
            return self._member.credentials.server(strangers=strangers)
        except TrustError as error:
            log.error("certificates", extra={"step": "tls", "error": error.message})
            return None

    async def _bind(self) -> socket.socket:
        said = ""
        while True:
            try:
                return _bound(self._address)
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                if said != str(error):
                    said = str(error)
                    where = "{} port {}".format(*self._address)
                    log.warning(
                        "waiting for the underlay address",
                        extra={"step": "tls", "object": where, "error": said},
                    )
            await asyncio.sleep(RETRY_S)


def _bound(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def shown(connection: Any, zone_id: str) -> tuple[str | None, str]:
    """(node, fingerprint) of the certificate that TLS found good; (None, ""): there was none.

    Raises TrustError when it is no node's of this zone.
    """
    der = connection.getpeercert(binary_form=True)
    if not der:
        return None, ""
    certificate = read_der(der)
    zone, node = named(certificate)
    if zone != zone_id:
        raise TrustError(f"the certificate is of zone {zone}, this is zone {zone_id}")
    return node, fingerprint(certificate)
