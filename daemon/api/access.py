"""Who may: asks the matrix for every request, and leaves lines in the audit log.

Two parts. `AccessControl`, outermost, finds out who asks and turns strangers away before a
route is looked for. `authorize`, a dependency of the whole application, then knows the
route and asks the matrix; a route that is not in it answers nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from daemon.api.audit import Audit, Entry
from daemon.api.errors import RefusedError, error_response
from daemon.api.matrix import PRIVILEGED, ROLES, Grant, granted
from daemon.api.peer import READERS, WRITERS, Peer, User, look_up
from daemon.api.principal import Gatekeeper, Origin, Principal, UnknownCallerError, source_of
from daemon.api.sight import Sight
from daemon.model.user import AccessRole
from daemon.store.interface import StoreError

log = logging.getLogger(__name__)

#: Who is shown administrators' policies; nodes read them in the store anyway.
_ADMINISTER = (AccessRole.ZONE_ADMIN, AccessRole.NODE)

READ_METHODS = frozenset({"GET", "HEAD"})


#: Of a request. A zone of 50,000 endpoints as one manifest has a quarter of this.
MAX_BODY_BYTES = 64 << 20
#: Of a backup that is restored: history is in it too. Only administrators get to send one.
MAX_BACKUP_BYTES = 1 << 30


async def authorize(request: Request) -> None:
    """Let the request through to its route, or raise RefusedError."""
    operation = str(getattr(request.scope.get("route"), "operation_id", None) or "")
    request.state.operation = operation
    principal: Principal = request.state.principal
    assert principal.role is not None  # AccessControl turns those away
    grant = granted(operation, principal.role)
    if grant is Grant.OWN and principal.tenant is None:
        grant = Grant.REFUSED
    if grant is Grant.REFUSED:
        message = f"{principal.name} may not {operation or 'do this'} here"
        raise RefusedError(message, _hint(operation, principal))
    own = grant is Grant.OWN
    request.state.sight = Sight(principal.tenant if own else None, principal.role in _ADMINISTER)
    request.state.sight_taken = not own


def _hint(operation: str, principal: Principal) -> str:
    able = [role for role in ROLES if granted(operation, role) is not Grant.REFUSED]
    if principal.kind is Origin.LOCAL and AccessRole.ZONE_ADMIN in able:
        return f"ask an administrator to add {principal.name} to group {WRITERS}"
    if not able:
        return "nobody may: the access matrix does not name it"
    return f"as {principal.role} you may not; {' or '.join(able)} may (plumctl whoami)"


def _limited(scope: Scope, receive: Receive) -> Receive:
    """Raises HTTPException when a body is larger than anybody needs."""
    restores = scope["path"] == "/v1/zone/restore"
    most_bytes = MAX_BACKUP_BYTES if restores else MAX_BODY_BYTES
    seen_bytes = 0

    async def counted() -> Message:
        nonlocal seen_bytes
        message = await receive()
        seen_bytes += len(message.get("body", b""))
        if seen_bytes > most_bytes:
            detail = f"a request has at most {most_bytes} bytes: send it in parts"
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        return message

    return counted


class AccessControl:
    """ASGI middleware. The routes find `principal` and `audit` in the request's state.

    A route may set `summary` (what was done, in words) and `objects` (paths, with their
    kinds, that it was about) there for the audit log.
    """

    def __init__(self, app: FastAPI, audit: Audit, users: Callable[[Peer], User] = look_up) -> None:
        self._app = app
        self._audit = audit
        self.gatekeeper = Gatekeeper(app.state.backend.store, users)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # a WebSocket or lifespan: there are none
            raise RuntimeError(f"unexpected {scope['type']} scope")
        state: dict[str, Any] = scope["state"]
        peer = state["peer"]
        state.update(summary="", objects=(), operation="", audit=self._audit)
        try:
            principal = await self.gatekeeper.identify(peer, scope["headers"])
        except UnknownCallerError as error:
            stranger = Principal(Origin.USER, "", None, source=source_of(peer))
            state.update(principal=stranger, summary=error.message)
            self._record(scope, HTTPStatus.UNAUTHORIZED)
            response = error_response(HTTPStatus.UNAUTHORIZED, error.message, error.hint)
            response.headers["WWW-Authenticate"] = "Bearer"
            await response(scope, receive, send)
            return
        except StoreError as error:
            hint = "tokens are checked against the store: look at it, then try again"
            response = error_response(HTTPStatus.SERVICE_UNAVAILABLE, str(error), hint)
            await response(scope, receive, send)
            return
        state["principal"] = principal
        if principal.role is None:
            await self._turn_away(scope, receive, send, principal)
        else:
            await self._let_in(scope, receive, send)

    async def _turn_away(
        self, scope: Scope, receive: Receive, send: Send, principal: Principal
    ) -> None:
        read = scope["method"] in READ_METHODS
        needed = READERS if read else WRITERS
        scope["state"]["summary"] = f"needs group {needed}"
        self._record(scope, HTTPStatus.FORBIDDEN)
        message = f"{principal.name} may not {'read' if read else 'write'} here"
        hint = f"ask an administrator to add {principal.name} to group {needed}"
        await error_response(HTTPStatus.FORBIDDEN, message, hint)(scope, receive, send)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The line is written before the answer goes out: what was acknowledged is in the log."""
        if scope["method"] not in READ_METHODS and (why := self._audit.unwritable()):
            hint = "make room for it, then try again; changes without a trace are refused"
            message = f"the audit log cannot be written: {why}"
            response = error_response(HTTPStatus.SERVICE_UNAVAILABLE, message, hint)
            await response(scope, receive, send)
            return
        state = scope["state"]
        answered = False

        async def observed(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                status = message["status"]
                if status < HTTPStatus.BAD_REQUEST and not state.get("sight_taken", True):
                    raise RuntimeError(f"{state['operation']} does not ask what may be seen")
                self._record_if_due(scope, status)
            await send(message)

        try:
            await self._app(scope, _limited(scope, receive), observed)
        finally:
            if not answered:
                self._record_if_due(scope, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _record_if_due(self, scope: Scope, status: int) -> None:
        privileged = scope["state"]["operation"] in PRIVILEGED
        refused = status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        if scope["method"] not in READ_METHODS or privileged or refused:
            self._record(scope, status)

    def _record(self, scope: Scope, status: int) -> None:
        state = scope["state"]
        entry = Entry(
            principal=state["principal"],
            peer=state["peer"],
            method=scope["method"],
            path=scope["path"],
            operation=state["operation"],
            status=status,
            objects=tuple(state["objects"]),
            summary=state["summary"],
        )
        try:
            self._audit.record(entry)
        except OSError as error:
            log.error("audit log not written", extra={"step": "audit", "error": str(error)})
