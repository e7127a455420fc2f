"""From the model to the facts a responder answers from. Pure."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
)

from daemon.model.base import Address, Network
from daemon.model.derive import zone_name
from daemon.model.dns import bridges_with_names
from daemon.model.domain import Bridge
from daemon.model.mac import router_mac
from daemon.model.object import Domain, Endpoint
from daemon.responders.facts import Facts, Gateway, Route4, Route6


def facts_of(domain: Domain, endpoint: Endpoint, ifindex: int, mtu_bytes: int) -> Facts | None:
    """Facts of a local endpoint; None when its bridge tells guests nothing."""
    bridge = next((b for b in domain.spec.bridges if b.name == endpoint.spec.bridge), None)
    if bridge is None or not bridge.dhcp.enabled:
        return None
    faces = [_on_link(address, bridge.subnets) for address in endpoint.addresses]
    dhcp = bridge.dhcp
    gateways = _gateways(domain, bridge)
    servers, search = dhcp.dns, dhcp.search
    if bridge.name in bridges_with_names(domain.spec):
        servers = servers or tuple(face.ip for gateway in gateways for face in gateway.addresses)
        search = search or (zone_name(domain),)
    return Facts(
        name=endpoint.name,
        ifindex=ifindex,
        mac=_raw(endpoint.mac),
        addresses4=tuple(face for face in faces if isinstance(face, IPv4Interface)),
        addresses6=tuple(face for face in faces if isinstance(face, IPv6Interface)),
        subnets6=tuple(net for net in bridge.subnets if isinstance(net, IPv6Network)),
        gateways=gateways,
        dns4=tuple(server for server in servers if isinstance(server, IPv4Address)),
        dns6=tuple(server for server in servers if isinstance(server, IPv6Address)),
        search=search,
        routes4=tuple(
            Route4(route.to, route.via)
            for route in dhcp.routes
            if isinstance(route.to, IPv4Network) and isinstance(route.via, IPv4Address)
        ),
        routes6=tuple(
            Route6(route.to, route.via)
            for route in dhcp.routes
            if isinstance(route.to, IPv6Network) and isinstance(route.via, IPv6Address)
        ),
        options4=tuple((one.code, one.value) for one in dhcp.options if one.family == 4),
        options6=tuple((one.code, one.value) for one in dhcp.options if one.family == 6),
        lease_s=dhcp.lease_s,
        mtu_bytes=mtu_bytes,
    )


def _on_link(address: Address, subnets: tuple[Network, ...]) -> IPv4Interface | IPv6Interface:
    """The address with the length of its subnet; a host route of its own without one."""
    holding = [net.prefixlen for net in subnets if address in net]
    return ip_interface(f"{address}/{max(holding, default=address.max_prefixlen)}")


def _gateways(domain: Domain, bridge: Bridge) -> tuple[Gateway, ...]:
    return tuple(
        Gateway(
            _raw(router.mac or router_mac(domain.router_ids[router.name])),
            tuple(face for face in interface.addresses if isinstance(face, IPv4Interface)),
            tuple(face for face in interface.addresses if isinstance(face, IPv6Interface)),
        )
        for router in domain.spec.routers
        for interface in router.interfaces
        if interface.bridge == bridge.name and router.name in domain.router_ids
    )


def _raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
