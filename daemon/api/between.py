"""Routes between nodes, and for machines that want to become one: `/v1/trust/...`.

They are served over TLS only and each says itself who may ask: a certificate that `Front`
found good, or a join token. What changes something leaves a line in the audit log, also
when it is refused.
"""

from __future__ import annotations

import time
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from daemon.api import errors
from daemon.api.audit import Audit
from daemon.api.errors import RefusedError, error_response
from daemon.api.front import record
from daemon.api.peer import TlsPeer
from daemon.trust import admission
from daemon.trust.authority import Authority
from daemon.trust.certificate import key_pem, pem_of
from daemon.trust.contexts import PREFIX
from daemon.trust.credentials import Member
from daemon.trust.errors import TrustError
from daemon.trust.succession import read_succession

MAX_BODY_BYTES = 64 << 10


class Authorities(BaseModel):
    authorities: str = Field(description="Certificates of the zone's authority, PEM")
    link: str = Field(default="", description="PEM: the one before vouches for the last")


class Issued(Authorities):
    certificate: str = Field(description="PEM")


class Admitted(Issued):
    zone: str
    node: str
    vtep: str
    store: str = Field(description="URL")
    directors: dict[str, str]


class Signing(Authorities):
    key: str = Field(description="Of each of them, PEM")


class Renewal(BaseModel):
    model_config = ConfigDict(extra="forbid")

    request: str = Field(max_length=8192, description="Signing request, PEM")


class Done(BaseModel):
    node: str


def between_nodes(member: Member, audit: Audit) -> ASGIApp:
    app = FastAPI(title="plumd between nodes", openapi_url=None, docs_url=None, redoc_url=None)
    errors.install(app)

    @app.exception_handler(TrustError)
    async def refused(request: Request, error: TrustError) -> JSONResponse:
        request.state.summary = error.message
        return error_response(HTTPStatus.FORBIDDEN, error.message, error.hint)

    def certificates() -> str:
        return pem_of(*member.credentials.trust.authorities).decode()

    @app.get(f"{PREFIX}authorities")
    async def authorities() -> Authorities:
        """Public: who asks compares it with the fingerprint in the join token."""
        record = (await read_succession(member.store)).record
        return Authorities(authorities=certificates(), link=record.link if record else "")

    @app.post(f"{PREFIX}join")
    async def join(request: Request, body: admission.Candidate) -> Admitted:
        """Become a node. Done over a connection on which we have proved who we are."""
        _only_director(member)
        issued, invited = await admission.admit(member, body, time.time())
        request.state.objects = (f"node {invited.node}",)
        request.state.summary = f"joins, invited by {invited.by}"
        vtep = body.vtep or invited.vtep or member.address(invited.node)
        return Admitted(
            certificate=pem_of(issued).decode(),
            authorities=certificates(),
            zone=member.zone_id,
            node=invited.node,
            vtep=str(vtep),
            store=member.credentials.trust.membership.store,
            directors={name: str(found) for name, found in member.directors().items()},
        )

    @app.post(f"{PREFIX}renew")
    async def renew(request: Request, body: Renewal) -> Issued:
        """The next certificate of the node that asks."""
        node, shown = _node(request)
        _only_director(member)
        request.state.objects = (f"node {node}",)
        issued = await admission.renew(member, node, shown, body.request, time.time())
        request.state.summary = f"certificate until {issued.not_valid_after_utc.isoformat()}"
        return Issued(certificate=pem_of(issued).decode(), authorities=certificates())

    @app.post(f"{PREFIX}confirm")
    async def confirm(request: Request) -> Done:
        """Asked with the new certificate: the one before is void from now on."""
        node, shown = _node(request)
        request.state.objects = (f"node {node}",)
        await admission.confirm(member.store, node, shown)
        return Done(node=node)

    @app.post(f"{PREFIX}signing")
    async def signing(request: Request) -> Signing:
        """The authority's key, for another director."""
        node, _ = _node(request)
        if node not in member.directors():
            raise RefusedError(f"{node} is no director", "only directors sign certificates")
        request.state.summary = "took the authority's key"
        keys = b"".join(key_pem(authority.key) for authority in _all_held(member))
        return Signing(authorities=certificates(), key=keys.decode())

    @app.post(f"{PREFIX}holds")
    async def holds(request: Request) -> Done:
        """Whether this director has the authority's key: only then another may drop it."""
        _node(request)
        _only_director(member)
        _all_held(member)
        return Done(node=member.node)

    @app.post(f"{PREFIX}rotate")
    async def rotate_now(request: Request) -> Done:
        """A director has this node renew its certificate."""
        node, _ = _node(request)
        if node not in member.directors():
            raise RefusedError(f"{node} is no director", "plumctl node rotate asks one")
        request.state.objects = (f"node {member.node}",)
        member.rotation.set()
        return Done(node=member.node)

    return _Audited(app, audit)


def _node(request: Request) -> tuple[str, str]:
    """(name, fingerprint) of the node that asks."""
    peer: TlsPeer = request.state.peer
    if peer.node is None:
        raise RefusedError("this needs a certificate of the zone", "plumctl node join")
    return peer.node, request.state.certificate


def _only_director(member: Member) -> None:
    if not member.is_director:
        names = ", ".join(member.directors()) or "none is known"
        raise TrustError(f"{member.node} is no director", f"ask a director: {names}")


def _all_held(member: Member) -> tuple[Authority, ...]:
    trust = member.credentials.trust
    if len(trust.held) < len(trust.authorities):
        message = f"{member.node} does not have the authority's key (yet)"
        raise TrustError(message, "ask another director: plumctl zone show")
    return trust.held


class _Audited:
    """Writes the line before the answer goes out, and refuses what is far too long."""

    def __init__(self, app: ASGIApp, audit: Audit) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        state.update(summary="", objects=())
        operation = scope["path"].removeprefix(PREFIX)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        too_long = not length.isdigit() or int(length) > MAX_BODY_BYTES
        if too_long or b"transfer-encoding" in dict(scope["headers"]):
            response = error_response(413, f"at most {MAX_BODY_BYTES} bytes, with their length")
            await response(scope, receive, send)
            return

        async def observed(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                status = int(str(message["status"]))
                if scope["method"] != "GET" or status in (401, 403):
                    record(
                        self._audit, scope, status, state["summary"], operation, state["objects"]
                    )
            await send(message)

        await self._app(scope, receive, observed)  # type: ignore[arg-type]
