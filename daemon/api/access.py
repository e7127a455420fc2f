"""ASGI middleware: refuses who may not, and leaves a line in the audit log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.api.audit import Audit
from daemon.api.errors import error_response
from daemon.api.peer import Access, Peer, TlsPeer, User, look_up, needed_group

log = logging.getLogger(__name__)

READ_METHODS = frozenset({"GET", "HEAD"})


class AccessControl:
    """Puts `peer` and `user` into the request's state for the routes.

    A route may set `summary` there: what the audit log says was done.
    """

    def __init__(self, app: ASGIApp, audit: Audit, users: Callable[[Peer], User] = look_up) -> None:
        self._app = app
        self._audit = audit
        self._users = users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # a WebSocket or lifespan: there are none
            raise RuntimeError(f"unexpected {scope['type']} scope")
        peer = scope["state"]["peer"]
        if isinstance(peer, TlsPeer):
            await self._remote(scope, receive, send, peer)
            return
        user = User("root", frozenset())
        if peer.uid != 0:  # the user database may be a directory server: not on the loop
            user = await asyncio.to_thread(self._users, peer)
        access = Access.READ if scope["method"] in READ_METHODS else Access.WRITE
        needed = needed_group(peer, user, access)
        if needed is not None:
            message = f"{user.name} may not {access} here"
            hint = f"ask an administrator to add {user.name} to group {needed}"
            self._record(scope, peer, user, "refused", f"needs group {needed}")
            response = error_response(HTTPStatus.FORBIDDEN, message, hint)
            await response(scope, receive, send)
            return
        scope["state"].update(user=user, summary="")
        if access is Access.READ:
            await self._app(scope, receive, send)
        else:
            await self._write(scope, receive, send, peer, user)

    async def _remote(self, scope: Scope, receive: Receive, send: Send, peer: TlsPeer) -> None:
        """Nodes may read; whoever is none may nothing."""
        if peer.node is not None and scope["method"] in READ_METHODS:
            user = User(f"node {peer.node}", frozenset())
            scope["state"].update(user=user, summary="")
            await self._app(scope, receive, send)
            return
        if peer.node is None:
            status, message = HTTPStatus.UNAUTHORIZED, "this needs a certificate of the zone"
        else:
            status, message = HTTPStatus.FORBIDDEN, f"node {peer.node} may not write here"
        self._audit.record(peer, "", scope["method"], scope["path"], "refused", message)
        hint = "ask on a director of the zone"
        await error_response(status, message, hint)(scope, receive, send)

    async def _write(
        self, scope: Scope, receive: Receive, send: Send, peer: Peer, user: User
    ) -> None:
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            verdict = "done" if status < HTTPStatus.BAD_REQUEST else f"failed {status}"
            self._record(scope, peer, user, verdict, scope["state"]["summary"])

    def _record(self, scope: Scope, peer: Peer, user: User, verdict: str, summary: str) -> None:
        try:
            self._audit.record(peer, user.name, scope["method"], scope["path"], verdict, summary)
        except OSError as error:
            log.error("audit log not written", extra={"step": "audit", "error": str(error)})
