"""A packet, as far as verdicts depend on it, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address

from daemon.abi import Drop, Stage
from daemon.model.base import Address

_MAX_UNICAST4 = 0xDFFFFFFF


@dataclass(frozen=True, slots=True)
class Packet:
    """First packet of a new connection, as an endpoint sends it."""

    smac: str
    dmac: str
    src: Address
    dst: Address
    protocol: int
    """IP protocol number; of IPv6 the one behind extension headers."""
    sport: int = 0
    dport: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    ttl: int = 64
    length: int = 100
    """Bytes of the IP packet."""
    flow_hash: int = 0
    """Chooses among next hops: remainder by their number."""


class Outcome(StrEnum):
    DELIVERED = "delivered"
    DROPPED = "dropped"
    ANSWERED = "answered"  # it is for a virtual router, which answers an echo request
    FLOODED = "flooded"  # see `copies`
    OUTSIDE = "outside"  # it leaves the zone by a gateway
    SENT = "sent"  # to a node whose rows are not at hand


@dataclass(frozen=True, slots=True)
class Step:
    node: int  # index in the zone
    stage: Stage
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    outcome: Outcome
    node: int
    """Where its way ends; for SENT where it goes."""
    drop: Drop = Drop.NONE
    egress_rule: int | None = None
    """Rule that decided on the way out; 0 the domain's default, None not asked."""
    router_rules: tuple[int, ...] = ()
    """Of routers' interfaces, those that matched; the last one decided."""
    ingress_rule: int | None = None
    ifindex: int = 0
    """Of the local device on `node` it is delivered to, or would be but for ingress policy."""
    vni: int = 0
    """Bridge it is delivered on, or tunnelled with."""
    smac: str = ""
    dmac: str = ""
    ttl: int = 0
    dscp: int | None = None
    """What the sender's packets are marked with; None: as the workload wrote it."""
    steps: tuple[Step, ...] = ()
    copies: tuple[Prediction, ...] = ()
    """Of FLOODED: one for each member of the replication list."""

    @property
    def rule(self) -> int | None:
        """The rule that had the last word."""
        return self.egress_rule if self.ingress_rule is None else self.ingress_rule


def is_malformed(packet: Packet) -> bool:
    for address in (packet.src, packet.dst):
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            return True
    source = packet.src
    if source.is_multicast or (source.version == 4 and int(source) > _MAX_UNICAST4):
        return True
    return (packet.protocol, source.version) in ((1, 6), (58, 4))


def is_never_routed(address: Address) -> bool:
    if isinstance(address, IPv6Address):
        return address.is_link_local or int(address) >> 32 == 0
    return address.is_link_local or address.is_loopback


def is_group(address: Address) -> bool:
    return address.is_multicast or (address.version == 4 and int(address) == 0xFFFFFFFF)
