"""Routes about the zone: what it is, who is in it, and invitations into it."""

from __future__ import annotations

import asyncio
import json
import time
from enum import StrEnum
from typing import cast

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from daemon.api.answers import AuthorityChange, InvitationAnswer, Rotated, ZoneAnswer, ZoneNode
from daemon.api.audit import timestamp
from daemon.api.backend import ActorDep, Backend, BackendDep
from daemon.api.client import PeerError, Question
from daemon.api.node import check_node
from daemon.model.base import Address, Name
from daemon.model.node import Role
from daemon.store.open import relies_on_zone
from daemon.trust import succession
from daemon.trust.certificate import fingerprint
from daemon.trust.contexts import PREFIX
from daemon.trust.credentials import Member
from daemon.trust.invitation import invite
from daemon.trust.records import CertificateRecord, read_identity
from daemon.trust.succession import Succession, lagging, read_succession
from daemon.zone.errors import CONFLICT, ZoneError
from daemon.zone.keys import CERTIFICATES
from daemon.zone.read import read_current

router = APIRouter(prefix="/v1", tags=["zone"])


class Invite(BaseModel):
    model_config = ConfigDict(extra="forbid")

    node: Name
    roles: tuple[Role, ...] = Field(default=(Role.EDGE,), min_length=1)
    vtep: Address | None = Field(default=None, description="null: the machine says it")
    life_s: float = Field(default=3600.0, description="Seconds until it expires")
    again: bool = Field(default=False, description="For a node that lost its certificate")


@router.get("/zone", operation_id="zone", summary="Which zone this is, and its nodes")
async def zone(backend: BackendDep) -> ZoneAnswer:
    """With each node's certificate and the authority's."""
    member = _member(backend)
    identity = await read_identity(backend.store)
    _, snapshot = await read_current(backend.store)
    records = {
        item.key.removeprefix(CERTIFICATES): CertificateRecord.model_validate_json(item.value)
        for item in (await backend.store.list(CERTIFICATES)).items
    }
    trust = member.credentials.trust
    authority = trust.authorities[-1]
    names = sorted(snapshot.nodes.keys() | records.keys())
    return ZoneAnswer(
        id=member.zone_id,
        created=identity.created if identity else "",
        store=trust.membership.store.partition("?")[0],
        node=member.node,
        authority_fingerprint=fingerprint(authority),
        authority_expires=authority.not_valid_after_utc.isoformat(),
        authority_change=await _change(backend, (await read_succession(backend.store)).record),
        nodes=tuple(
            ZoneNode(
                name=name,
                vtep=str(snapshot.nodes[name].spec.vtep) if name in snapshot.nodes else None,
                roles=tuple(snapshot.nodes[name].spec.roles) if name in snapshot.nodes else (),
                certificate_expires=records[name].not_after if name in records else None,
            )
            for name in names
        ),
    )


@router.post("/joins", operation_id="invite_node", summary="Make a join token for a machine")
async def invite_node(
    request: Request, backend: BackendDep, actor: ActorDep, body: Invite
) -> InvitationAnswer:
    """The only answer that holds it; it is good once."""
    member = _member(backend)
    request.state.objects = [f"node {body.node}"]
    invitation, record = await invite(
        member,
        body.node,
        body.roles,
        body.vtep,
        body.life_s,
        again=body.again,
        by=actor,
        now=time.time(),
    )
    expires = timestamp(record.expires)
    request.state.summary = f"invited as {', '.join(record.roles)}, until {expires}"
    return InvitationAnswer(
        id=invitation.id, node=body.node, expires=expires, token=invitation.text()
    )


@router.post("/nodes/{node}/rotate", operation_id="rotate_node", summary="Renew its certificate")
async def rotate_node(request: Request, backend: BackendDep, node: str) -> Rotated:
    """Answers when the new one is in use; the old one is void then."""
    member = _member(backend)
    await check_node(backend, node)
    request.state.objects = [f"node {node}"]
    before = await _serial(backend, node)
    if node == member.node:
        member.rotation.set()
    else:
        await _ask_to_rotate(backend, node)
    deadline = time.monotonic() + ROTATE_S
    while (record := await member.roster.record(node)) is not None:
        if record.serial != before and not record.previous:
            request.state.summary = f"certificate until {record.not_after}"
            return Rotated(node=node, certificate_expires=record.not_after)
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.05)
    raise ZoneError(
        f"{node} did not take a new certificate in {ROTATE_S:g} s",
        f"the one before is still good; look at plumd's log on {node}",
        code=CONFLICT,
    )


ROTATE_S = 15.0


class Step(StrEnum):
    BEGIN = "begin"
    GO_ON = "go-on"
    FINISH = "finish"
    ABORT = "abort"


class ChangeAuthority(BaseModel):
    model_config = ConfigDict(extra="forbid")

    step: Step


@router.post("/zone/authority", operation_id="change_authority", summary="Replace the zone's CA")
async def change_authority(
    request: Request, backend: BackendDep, actor: ActorDep, body: ChangeAuthority
) -> AuthorityChange:
    """`begin` makes a new one beside the old one; nodes follow by themselves. `finish` has the
    old one trusted no longer. Before the new one signs, `abort` forgets it."""
    member, store = _member(backend), backend.store
    request.state.objects = ["zone authority"]
    if body.step is Step.BEGIN:
        hold = relies_on_zone(member.credentials.trust.membership.store)
        record = await succession.begin(member, by=actor, now=time.time(), hold=hold)
    elif body.step is Step.GO_ON:
        record = await succession.go_on(store)
    elif body.step is Step.FINISH:
        record = await succession.finish(store)
    else:
        record = await succession.abort(store)
    request.state.summary = f"{body.step}: {record.phase}, {fingerprint(record.newer)}"
    change = await _change(backend, record)
    assert change is not None  # there is a record
    return change


async def _change(backend: Backend, record: Succession | None) -> AuthorityChange | None:
    if record is None:
        return None
    return AuthorityChange(
        phase=record.phase,
        authority_fingerprint=fingerprint(record.newer),
        hold=record.hold,
        since=record.since,
        by=record.by,
        waiting_for=await lagging(backend.store, record),
    )


async def _serial(backend: Backend, node: str) -> str:
    record = await cast(Member, backend.member).roster.record(node)
    if record is None:
        hint = f"join it: plumctl node token {node}"
        raise ZoneError(f"{node} has no certificate of this zone", hint, code=CONFLICT)
    return record.serial


async def _ask_to_rotate(backend: Backend, node: str) -> None:
    question = Question("POST", f"{PREFIX}rotate")
    try:
        reply = await backend.peers.ask(node, question, backend.peer_timeout_s)
    except PeerError as error:
        hint = f"look at plumd on {node}; its certificate is as it was"
        raise ZoneError(str(error), hint, code=CONFLICT) from error
    if reply.status != 200:
        said = json.loads(reply.body)["error"]["message"]
        raise ZoneError(f"{node} refused: {said}", "see: plumctl zone show", code=CONFLICT)


def _member(backend: Backend) -> Member:
    if backend.member is None:
        hint = "make one: plumctl zone init; or join one: plumctl node join TOKEN"
        raise ZoneError("this node is in no zone", hint)
    return backend.member
