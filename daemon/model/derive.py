"""What follows from an object without asking anybody: names, overheads, MTUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from daemon.model.base import Address
from daemon.model.domain import Bridge, DomainSpec, Router, Uplink
from daemon.model.endpoint import AttachKind, EndpointSpec
from daemon.model.external import ExternalSpec
from daemon.model.node import NodeSpec
from daemon.model.object import Domain

#: Inner Ethernet 14, VXLAN 8, UDP 8, and the outer IP header (20 or 40 bytes).
TUNNEL_OVERHEAD_BYTES = {4: 50, 6: 70}


def tunnel_overhead_bytes(vtep: Address) -> int:
    """What a VXLAN tunnel over this underlay family takes from an IP packet's room."""
    return TUNNEL_OVERHEAD_BYTES[vtep.version]


def overlay_mtu_bytes(node: NodeSpec) -> int:
    """Largest IP packet an endpoint may send so that this node's underlay carries it."""
    return node.underlay_mtu - tunnel_overhead_bytes(node.vtep)


def bridge_mtu_bytes(bridge: Bridge, nodes: Iterable[NodeSpec]) -> int:
    """The bridge's own MTU, else what the smallest underlay of the zone allows."""
    if bridge.mtu is not None:
        return bridge.mtu
    return min((overlay_mtu_bytes(node) for node in nodes), default=1500 - 50)


def default_namespace(tenant: str, domain: str, name: str) -> str:
    """Namespace of a netns endpoint that names none (under /run/netns)."""
    return f"plum-{tenant}-{domain}-{name}"


def attach_namespace(tenant: str, name: str, spec: EndpointSpec) -> str | None:
    """Namespace the endpoint's device is moved into; None unless it is a netns endpoint."""
    if spec.attach.kind is not AttachKind.NETNS:
        return None
    return spec.attach.namespace or default_namespace(tenant, spec.domain, name)


def attach_device(spec: EndpointSpec) -> str:
    """Device name: inside the namespace for netns (eth0 unless given), else on the node."""
    if spec.attach.kind is AttachKind.NETNS:
        return spec.attach.device or "eth0"
    return spec.attach.device or ""


def uplinks_of(spec: DomainSpec) -> Iterator[tuple[int, Router, Uplink]]:
    """Routers of a domain that lead out of the zone, with their index."""
    for index, router in enumerate(spec.routers):
        if router.uplink is not None:
            yield index, router, router.uplink


def joins_only(spec: ExternalSpec) -> bool:
    """Nothing is outside: the network lies between domains of the zone."""
    return all(gateway.device is None for gateway in spec.gateways)


def gateways_of(spec: ExternalSpec) -> frozenset[str]:
    """Nodes through which an external network is reached."""
    return frozenset(gateway.node for gateway in spec.gateways)


def zone_name(domain: Domain) -> str:
    """Of its names, without a dot at the end."""
    given = domain.spec.dns.zone if domain.spec.dns else None
    return given or f"{domain.name}.{domain.tenant}.internal"
