"""First of all: is the certificate shown the one that the zone issued for its node?

What comes by the unix socket passes. `/v1/trust/...` is answered here, to nodes and to
machines that want to become one; everything else goes on to access control.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.api.audit import Audit, Entry
from daemon.api.errors import error_response
from daemon.api.peer import TlsPeer
from daemon.api.principal import Origin, Principal, source_of
from daemon.store.interface import StoreError
from daemon.trust.contexts import PREFIX
from daemon.trust.credentials import Member

log = logging.getLogger(__name__)


class Front:
    def __init__(self, app: ASGIApp, between: ASGIApp, member: Member, audit: Audit) -> None:
        """`between`: the routes between nodes; they check by themselves who may."""
        self._app = app
        self._between = between
        self._member = member
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope["state"]["peer"]
        if not isinstance(peer, TlsPeer):
            await self._app(scope, receive, send)
            return
        status, why = HTTPStatus.UNAUTHORIZED, ""
        if peer.node is not None:
            shown = scope["state"]["certificate"]
            try:
                why = await self._member.roster.refusal(peer.node, shown)
            except StoreError as error:
                status, why = HTTPStatus.SERVICE_UNAVAILABLE, str(error)
        if why:
            hint = "join it again: plumctl node token, plumctl node join"
            if status is HTTPStatus.SERVICE_UNAVAILABLE:
                hint = "certificates are compared with the store: look at it, then try again"
            record(self._audit, scope, status, why)
            await error_response(status, why, hint)(scope, receive, send)
        elif scope["path"].startswith(PREFIX):
            await self._between(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def record(
    audit: Audit,
    scope: Scope,
    status: int,
    summary: str,
    operation: str = "",
    objects: tuple[str, ...] = (),
) -> None:
    """A line about a request that access control does not see."""
    peer: TlsPeer = scope["state"]["peer"]
    origin = Origin.NODE if peer.node else Origin.USER
    entry = Entry(
        principal=Principal(origin, peer.node or "", None, source=source_of(peer)),
        peer=peer,
        method=scope["method"],
        path=scope["path"],
        operation=operation,
        status=status,
        objects=objects,
        summary=summary,
    )
    try:
        audit.record(entry)
    except OSError as error:
        log.error("audit log not written", extra={"step": "audit", "error": str(error)})
