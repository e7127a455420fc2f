"""How the guest behind an endpoint opens a connection: its source, next hop and MACs.

A guest configured as Plum tells it to be (statically, by DHCP or RA).
"""

from __future__ import annotations

from daemon.compiler.lookup import Lookup
from daemon.compiler.packet import Packet
from daemon.compiler.wide import wide
from daemon.model.base import Address
from daemon.model.domain import Bridge
from daemon.model.object import Domain, Endpoint


class UnsendableError(Exception):
    """The guest itself gives up: no source address, no route, nobody answers for the next hop."""


def first_packet(
    rows: Lookup,
    domain: Domain,
    endpoint: Endpoint,
    target: Address,
    protocol: int,
    port: int = 0,
    icmp_type: int = 0,
) -> Packet:
    """What it sends to connect to `target`; from port 49152. Raises UnsendableError."""
    bridge = next(b for b in domain.spec.bridges if b.name == endpoint.spec.bridge)
    source = source_of(endpoint, target)
    if source is None:
        raise UnsendableError(f"{endpoint.name} has no IPv{target.version} address")
    hop = _next_hop(bridge, domain, source, target)
    host = rows.host(domain.id, wide(hop))
    if host is None or host.vni != domain.vnis[bridge.name]:
        raise UnsendableError(f"no endpoint or router of bridge {bridge.name} has {hop}")
    return Packet(
        smac=endpoint.mac,
        dmac=host.mac.hex(":"),
        src=source,
        dst=target,
        protocol=protocol,
        sport=49152,
        dport=port,
        icmp_type=icmp_type,
    )


def source_of(endpoint: Endpoint, target: Address) -> Address | None:
    """The address it would speak to `target` from."""
    return next((own for own in endpoint.addresses if own.version == target.version), None)


def _next_hop(bridge: Bridge, domain: Domain, source: Address, target: Address) -> Address:
    if any(target in subnet for subnet in bridge.subnets):
        return target
    told = [route for route in bridge.dhcp.routes if target in route.to]
    if told:
        return max(told, key=lambda route: route.to.prefixlen).via
    subnet = next((net for net in bridge.subnets if source in net), None)
    gateways = (
        face.ip
        for router in domain.spec.routers
        for interface in router.interfaces
        if interface.bridge == bridge.name
        for face in interface.addresses
        if subnet is not None and face.ip in subnet
    )
    gateway = next(gateways, None)
    if gateway is None:
        raise UnsendableError(
            f"{target} is on no subnet of bridge {bridge.name}, and no router of the domain "
            f"has an IPv{target.version} address there"
        )
    return gateway
