"""Asking the model what would become of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from ipaddress import ip_address
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query

from daemon.abi import DROP_TEXT, Drop, Stage
from daemon.api.answers import Trial, TrialRule, Trials, TrialStage
from daemon.api.backend import BackendDep
from daemon.api.errors import NotFoundError
from daemon.api.sight import Sight, SightDep
from daemon.compiler.errors import CompileError
from daemon.compiler.guest import UnsendableError, source_of
from daemon.compiler.packet import Outcome
from daemon.compiler.tiers import is_admin_rule
from daemon.compiler.trial import Attempt, attempt
from daemon.model.base import Address
from daemon.model.object import Endpoint
from daemon.model.snapshot import Snapshot
from daemon.zone.read import read_current

router = APIRouter(prefix="/v1", tags=["policy"])


class Protocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"
    PING = "ping"


_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
_BY_POLICY = (Drop.POLICY_EGRESS, Drop.POLICY_INGRESS)
_PING = {4: (1, 8), 6: (58, 128)}  # IP protocol and ICMP type of an echo request


@router.get("/trial", operation_id="trial", summary="Would this connection be let through?")
async def trial(
    backend: BackendDep,
    sight: SightDep,
    source: Annotated[str, Query(description="Endpoint: TENANT/DOMAIN/NAME")],
    target: Annotated[str, Query(description="Endpoint of the same domain, or an address")],
    protocol: Protocol = Protocol.TCP,
    port: Annotated[int, Query(ge=0, le=65535, description="Destination; not of a ping")] = 0,
    at: Annotated[datetime | None, Query(description="When; default: now")] = None,
) -> Trials:
    """Answered from the model: no packet is sent and no node is asked."""
    _, snapshot = await read_current(backend.store)
    snapshot = sight.snapshot(snapshot)
    endpoint = _endpoint(snapshot, source)
    moment = at or datetime.now(UTC)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    items = [
        await asyncio.to_thread(
            _try, sight, snapshot, source, target, address, protocol, port, moment
        )
        for address in _addresses(snapshot, endpoint, target)
    ]
    return Trials(items=tuple(items), revision=snapshot.revision)


def _endpoint(snapshot: Snapshot, path: str) -> Endpoint:
    found = snapshot.endpoints.get(path)
    if found is None:
        raise NotFoundError(f"there is no endpoint {path}", "see which: plumctl get endpoint")
    return found


def _addresses(snapshot: Snapshot, source: Endpoint, target: str) -> list[Address]:
    """Where to: all addresses of an endpoint that the source has the family of, or the one."""
    try:
        address = ip_address(target)
    except ValueError:
        found = _endpoint(snapshot, target)
        if (found.tenant, found.spec.domain) != (source.tenant, source.spec.domain):
            raise _invalid(
                f"{target} is of another domain: its address means nothing there"
            ) from None
        families = {own.version for own in source.addresses}
        addresses = [own for own in found.addresses if own.version in families]
        if not addresses:
            raise _invalid(f"{source.name} and {target} share no address family") from None
        return addresses
    if address.is_multicast or address.is_unspecified or int(address) == 0xFFFFFFFF:
        raise _invalid(f"{target} is no one's address: give that of one host")
    return [address]


def _invalid(message: str) -> HTTPException:
    return HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, message)


def _try(
    sight: Sight,
    snapshot: Snapshot,
    source: str,
    target: str,
    address: Address,
    protocol: Protocol,
    port: int,
    moment: datetime,
) -> Trial:
    number, icmp_type = _NUMBERS.get(protocol, 0), 0
    if protocol is Protocol.PING:
        (number, icmp_type), port = _PING[address.version], 0
    own = source_of(snapshot.endpoints[source], address)
    answer = Trial(
        source=source,
        target=target,
        source_address=str(own) if own else None,
        target_address=str(address),
    )
    try:
        made = attempt(snapshot, source, address, number, port, icmp_type, moment)
    except UnsendableError as error:
        return answer.model_copy(update={"reason": str(error)})
    except CompileError as error:
        return answer.model_copy(update={"reason": f"{error}: {error.hint}"})
    return answer.model_copy(update=_ending(sight, made))


def _ending(sight: Sight, made: Attempt) -> dict[str, object]:
    end = made.prediction
    rules = list(_rules(made))
    dropped = end.outcome is Outcome.DROPPED
    return {
        "allowed": not dropped,
        "outcome": end.outcome.value,
        "drop": end.drop.name if dropped else None,
        "reason": _reason(made) if dropped else "",
        "receiver": made.receiver,
        "rules": tuple(rule.model_copy(update={"name": sight.rule(rule.name)}) for rule in rules),
        "stages": tuple(
            TrialStage(node=made.nodes[step.node], stage=step.stage.name, detail=step.detail)
            for step in end.steps
        ),
    }


def _reason(made: Attempt) -> str:
    drop = made.prediction.drop
    rules = list(_rules(made))
    if drop in _BY_POLICY and is_admin_rule(rules[-1].name):
        return "refused by an administrator's policy"
    return DROP_TEXT[drop]


def _rules(made: Attempt) -> Iterator[TrialRule]:
    """Those that were asked, in order: the last one decided."""
    end = made.prediction
    asked: list[tuple[Literal["egress", "router", "ingress"], int | None, Stage]] = [
        ("egress", end.egress_rule, Stage.EGRESS_POLICY),
        *(("router", rule, Stage.ROUTER_POLICY) for rule in end.router_rules),
        ("ingress", end.ingress_rule, Stage.INGRESS_POLICY),
    ]
    for direction, rule, stage in asked:
        if rule is None:
            continue
        node = next(step.node for step in end.steps if step.stage is stage)
        name = made.rules[rule][1] if rule else "default"
        yield TrialRule(direction=direction, node=made.nodes[node], name=name)
