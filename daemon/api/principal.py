"""Who asks, and in which role: from the connection and the token shown."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from daemon.api.peer import READERS, WRITERS, Peer, TlsPeer, User, look_up
from daemon.model.user import AccessRole
from daemon.store.interface import Store
from daemon.zone.tokens import BadTokenError, user_of

#: A node says here for whom it asks. It goes to the audit log and gives no rights.
ON_BEHALF_HEADER = b"plum-on-behalf-of"
_ON_BEHALF = re.compile(rb"[\x20-\x7e]{1,200}")

Headers = Sequence[tuple[bytes, bytes]]


class Origin(StrEnum):
    LOCAL = "local"  # a user of this machine, by the unix socket
    NODE = "node"  # another plumd, by its certificate
    USER = "user"  # a user of the zone, by a token


@dataclass(frozen=True, slots=True)
class Principal:
    kind: Origin
    name: str
    role: AccessRole | None  # None: may nothing here
    tenant: str | None = None  # of a tenant operator
    on_behalf: str = ""  # for whom, in the words of a node
    source: str = ""  # where the request came from
    token: str = ""  # id of the token shown
    expires: float | None = None  # of that token: Unix time, seconds

    @property
    def actor(self) -> str:
        """How the history names it."""
        return self.name if self.kind is Origin.LOCAL else f"{self.kind} {self.name}"


class UnknownCallerError(Exception):
    """The request does not say who makes it, or cannot prove it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Gatekeeper:
    """Tells who makes a request."""

    def __init__(
        self,
        store: Store,
        users: Callable[[Peer], User] = look_up,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self.users = users
        self._clock = clock

    async def identify(self, peer: Peer | TlsPeer, headers: Headers) -> Principal:
        """A token shown decides alone: a wrong one is refused, whoever the peer is.

        Raises UnknownCallerError and StoreError.
        """
        shown = [value for name, value in headers if name == b"authorization"]
        if shown:
            return await self._user(peer, shown)
        if isinstance(peer, Peer):
            return await self._local(peer, headers)
        if peer.node is None:
            message = "this needs a token"
            raise UnknownCallerError(message, "plumctl --token-file FILE, or PLUM_TOKEN_FILE")
        behalf = _on_behalf(headers)
        return Principal(Origin.NODE, peer.node, AccessRole.NODE, None, behalf, source_of(peer))

    async def _user(self, peer: Peer | TlsPeer, shown: Sequence[bytes]) -> Principal:
        hint = "ask an administrator for a new one: plumctl token create"
        scheme, _, text = shown[0].decode("latin-1").partition(" ")
        if len(shown) > 1 or scheme.lower() != "bearer":
            message = "the Authorization header must be one, and `Bearer TOKEN`"
            raise UnknownCallerError(message, hint)
        try:
            user, token = await user_of(self._store, text.strip(), self._clock())
        except BadTokenError as error:
            raise UnknownCallerError(str(error), hint) from error
        return Principal(
            Origin.USER,
            user.name,
            user.role,
            user.tenant,
            source=source_of(peer),
            token=token.id,
            expires=token.expires,
        )

    async def _local(self, peer: Peer, headers: Headers) -> Principal:
        if peer.uid == 0:  # another plumd of this machine is root as well
            behalf = _on_behalf(headers)
            role = AccessRole.ZONE_ADMIN
            return Principal(Origin.LOCAL, "root", role, None, behalf, source_of(peer))
        # The user database may be a directory server: not on the loop.
        user = await asyncio.to_thread(self.users, peer)
        return Principal(Origin.LOCAL, user.name, local_role(user.groups), source=source_of(peer))


def local_role(groups: frozenset[str]) -> AccessRole | None:
    if WRITERS in groups:
        return AccessRole.ZONE_ADMIN
    return AccessRole.VIEWER if READERS in groups else None


def source_of(peer: Peer | TlsPeer) -> str:
    """Where a request came from, for the audit log."""
    if isinstance(peer, Peer):
        return f"uid {peer.uid} pid {peer.pid}"
    return f"{peer.address} node {peer.node}" if peer.node else peer.address


def _on_behalf(headers: Headers) -> str:
    for name, value in headers:
        if name == ON_BEHALF_HEADER and _ON_BEHALF.fullmatch(value):
            return value.decode("ascii")
    return ""
