"""Groups and policies: who may talk to whom inside a domain.

A domain's policies are an ordered list. For traffic to an endpoint the ingress
rules of every policy that applies to it are read in order, for traffic from it
the egress rules; the first that matches decides, else the domain's default.
Both ends must allow. Replies and related ICMP errors follow their connection.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from daemon.model.base import Labels, Model, Name, Network
from daemon.model.schedule import Window


class Action(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class PolicyDefault(Model):
    """Verdict where no rule decides."""

    ingress: Action = Action.DENY
    egress: Action = Action.ALLOW


class Group(Model):
    """Endpoints that carry all of these labels. No labels: no endpoint."""

    name: Name
    labels: Labels


class Peer(Model):
    """One of the two: a group of this domain, or a CIDR."""

    group: Name | None = None
    cidr: Network | None = None


class PortRange(Model):
    first: int = Field(ge=0, le=65535)
    last: int = Field(ge=0, le=65535)


def _port_range(value: object) -> object:
    if isinstance(value, PortRange | dict):
        return value
    text = "" if isinstance(value, bool) else str(value)
    first, dash, last = text.partition("-")
    if not _is_port(first) or (dash and not _is_port(last)):
        raise ValueError('must be a port from 0 to 65535 or a range such as "8000-8080"')
    return {"first": int(first), "last": int(last if dash else first)}


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= 65535


def _port_text(ports: PortRange) -> int | str:
    return ports.first if ports.first == ports.last else f"{ports.first}-{ports.last}"


#: 80 or "8000-8080" in a manifest.
Ports = Annotated[
    PortRange, BeforeValidator(_port_range), PlainSerializer(_port_text, when_used="json")
]


def _protocol_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class RuleLog(Model):
    #: One in so many, by chance; a power of two.
    sample: int = Field(default=1, ge=1, le=32768)


def _rule_log(value: object) -> object:
    if isinstance(value, bool):
        return {} if value else None
    return value


def _rule_log_text(log: RuleLog | None) -> object:
    if log is None:
        return False
    return True if log.sample == 1 else {"sample": log.sample}


#: true, false or {sample: 16} in a manifest.
LogText = Annotated[
    RuleLog | None,
    BeforeValidator(_rule_log),
    PlainSerializer(_rule_log_text, when_used="json"),
]


class Match(Model):
    """What a rule says of packets: of a domain's policy as of an administrator's."""

    name: Name
    #: tcp, udp, sctp, icmp, icmp6, or an IP protocol number. Absent: all.
    protocol: Annotated[str | None, BeforeValidator(_protocol_text)] = Field(
        default=None,
        pattern=r"^(tcp|udp|sctp|icmp|icmp6|[0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$",
    )
    #: Destination ports; tcp, udp and sctp only. Empty: all.
    ports: tuple[Ports, ...] = ()
    #: icmp and icmp6 only. Absent: all.
    icmp_type: int | None = Field(default=None, ge=0, le=255)
    icmp_code: int | None = Field(default=None, ge=0, le=255)
    #: It counts while one of these is open. Empty: always.
    active: tuple[Window, ...] = ()
    #: Write down the connections it decides.
    log: LogText = None


class Rule(Match):
    action: Action = Action.ALLOW
    #: ingress: who may come. egress: where to. Absent: anybody. Empty: nobody.
    peers: tuple[Peer, ...] | None = None


#: At least what an endpoint needs to boot.
MaxConnections = Annotated[int | None, Field(ge=16, le=1_000_000)]


class Policy(Model):
    name: Name
    #: Group it applies to. Absent: every endpoint of the domain.
    applies_to: Name | None = None
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    #: Connections that each endpoint it applies to may hold at once on its node.
    max_connections: MaxConnections = None
