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
    """Accepts for as long as `serve` runs; what it accepted goes on after that.

    Each connection gets the context that is right when it is accepted, so certificates and
    roles change without anybody being turned away, and open connections are left alone.
    """

    def __init__(self, member: Member, *, port: int = PORT) -> None:
        self._member = member
        self._address = (str(member.vtep), port)
        self._state: object = None
        self._context: ssl.SSLContext | None = None
        self._handshakes: set[asyncio.Task[None]] = set()

    async def serve(self, protocol: Callable[[], Any]) -> None:
        """Accept connections until cancelled. `protocol` makes what speaks on each."""
        loop = asyncio.get_running_loop()
        room = asyncio.Semaphore(BACKLOG)
        bound = await self._bind()
        try:
            bound.listen(BACKLOG)
            while True:
                await room.acquire()
                try:
                    connection, _ = await loop.sock_accept(bound)
                except OSError as error:  # none left to give; those that end make room
                    room.release()
                    log.error("cannot accept", extra={"step": "tls", "error": str(error)})
                    await asyncio.sleep(RETRY_S)
                    continue
                task = asyncio.create_task(self._welcome(connection, protocol))
                self._handshakes.add(task)
                task.add_done_callback(self._handshakes.discard)
                task.add_done_callback(lambda _: room.release())
        finally:
            bound.close()
            for task in self._handshakes:
                task.cancel()

    async def _welcome(self, connection: socket.socket, protocol: Callable[[], Any]) -> None:
        context = self._current()
        if context is None:
            connection.close()
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol, connection, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError as error:  # also TLS: not for us, or gone
            where = {"step": "tls", "error": str(error)}
            log.debug("no handshake", extra=where)

    def _current(self) -> ssl.SSLContext | None:
        """For a new connection; the one before while the files cannot be read."""
        member = self._member
        wanted = (member.is_director, member.credentials.generation)
        if wanted != self._state:
            try:
                self._context = member.credentials.server(strangers=member.is_director)
                self._state = wanted
            except TrustError as error:
                log.error("certificates", extra={"step": "tls", "error": error.message})
        return self._context

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
