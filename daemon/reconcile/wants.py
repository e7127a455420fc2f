"""Which devices the endpoints of a node need. Pure."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

from daemon.compiler.underlay import bridge_mtu, tunnel_mtu
from daemon.drivers.links import device_name, host_mac
from daemon.drivers.netns import Inside, Route
from daemon.model.derive import attach_device, attach_namespace
from daemon.model.domain import Bridge
from daemon.model.endpoint import AttachKind, Configure
from daemon.model.object import Domain, Endpoint
from daemon.model.snapshot import Snapshot
from daemon.reconcile.host import Found, HostError, Want

_DEFAULTS = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


#: By path: what a want follows from, and the want; kept between calls.
Memory = dict[str, tuple[Endpoint, Domain | None, int, Want | HostError]]


def wants_of(
    snapshot: Snapshot, node: str, memory: Memory
) -> tuple[dict[str, Want], dict[str, HostError]]:
    """Devices by endpoint path, and endpoints that get none with the reason."""
    wants: dict[str, Want] = {}
    refused: dict[str, HostError] = {}
    taken: dict[tuple[str, str], str] = {}
    tunnel = tunnel_mtu(snapshot.nodes.values())
    local = sorted(p for p, endpoint in snapshot.endpoints.items() if endpoint.spec.node == node)
    for path in memory.keys() - local:
        del memory[path]
    for path in local:
        endpoint = snapshot.endpoints[path]
        domain = snapshot.domains.get(path.rpartition("/")[0])
        known = memory.get(path)
        if known and known[0] is endpoint and known[1] is domain and known[2] == tunnel:
            want = known[3]
        else:
            want = _want(path, endpoint, domain, tunnel)
            memory[path] = (endpoint, domain, tunnel, want)
        if isinstance(want, HostError):
            refused[path] = want
            continue
        place = (want.namespace or "", want.inner or want.device)
        owner = taken.setdefault(place, path)
        if owner == path:
            wants[path] = want
        else:
            where = f" in namespace {want.namespace}" if want.namespace else ""
            refused[path] = HostError(f"device {place[1]}{where} is endpoint {owner}'s")
    return wants, refused


def _want(path: str, endpoint: Endpoint, domain: Domain | None, tunnel: int) -> Want | HostError:
    spec = endpoint.spec
    bridges = domain.spec.bridges if domain else ()
    bridge = next((bridge for bridge in bridges if bridge.name == spec.bridge), None)
    if domain is None or bridge is None:
        return HostError(f"bridge {spec.bridge} of domain {spec.domain} does not exist")
    made = spec.attach.kind is AttachKind.NETNS
    if not made and not spec.attach.device:
        return HostError("attach.device does not say which device")
    static = made and spec.attach.configure is Configure.STATIC
    return Want(
        path=path,
        id=endpoint.id,
        slot=endpoint.slot,
        kind=spec.attach.kind,
        device=device_name(endpoint.id) if made else attach_device(spec),
        mac=endpoint.mac,
        mtu=bridge_mtu(bridge, tunnel),
        namespace=attach_namespace(endpoint.tenant, endpoint.name, spec),
        inner=attach_device(spec) if made else "",
        inside=_inside(endpoint, domain, bridge) if static else None,
    )


def _inside(endpoint: Endpoint, domain: Domain, bridge: Bridge) -> Inside:
    addresses = []
    for address in endpoint.addresses:
        lengths = [net.prefixlen for net in bridge.subnets if address in net]
        addresses.append(ip_interface(f"{address}/{max(lengths, default=address.max_prefixlen)}"))
    routes = [Route(route.to, route.via) for route in bridge.dhcp.routes]
    gateways = [
        face.ip
        for router in domain.spec.routers
        for interface in router.interfaces
        if interface.bridge == bridge.name
        for face in interface.addresses
    ]
    for version, default in _DEFAULTS.items():
        own = [address for address in addresses if address.version == version]
        if any(route.to == default for route in routes):
            continue
        for gateway in gateways:
            if any(gateway in address.network for address in own if gateway.version == version):
                routes.append(Route(default, gateway))
                break
    return Inside(tuple(addresses), tuple(routes))


def fits(want: Want, found: Found) -> bool:
    """Whether the device can serve, or has to be made anew."""
    if found.name != want.device:
        return False
    return want.kind is not AttachKind.NETNS or found.mac == host_mac(want.mac).hex(":")
