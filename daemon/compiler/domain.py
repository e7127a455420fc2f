"""All rows of one domain on one node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from daemon.abi import Ep, EpFlag, EpKey, Epoch, Index
from daemon.compiler.balancing import balancer_rows, balancers
from daemon.compiler.order import APPLY_ORDER
from daemon.compiler.peers import Peers
from daemon.compiler.policy import Policies
from daemon.compiler.result import Device, Names, Packed, Rows, Table, pack
from daemon.compiler.routing import host_rows, interfaces, rif_rows, route_rows
from daemon.compiler.seat import Seat, seats
from daemon.compiler.switching import bridge_rows, flood_rows, mac_rows, source_rows
from daemon.compiler.underlay import bridge_mtu
from daemon.model.object import Domain, Endpoint
from daemon.model.policy import Action


@dataclass(frozen=True, slots=True)
class DomainInput:
    """Everything the rows of a domain on a node follow from."""

    path: str
    domain: Domain
    #: Endpoints of the domain by path, sorted by path.
    endpoints: tuple[tuple[str, Endpoint], ...]
    node: str
    node_ids: Mapping[str, int]
    #: Devices of its local endpoints.
    devices: Mapping[str, Device]
    #: Bytes of the largest tenant packet the underlay takes.
    tunnel_mtu: int


@dataclass(frozen=True, slots=True)
class DomainRows:
    rows: Rows
    packed: Packed
    names: Names
    mtu: dict[str, int] = field(default_factory=dict)


def compile_domain(given: DomainInput) -> DomainRows:
    """Raises CompileError where the domain asks for more than the maps hold."""
    domain, spec = given.domain, given.domain.spec
    mtus = {bridge.name: bridge_mtu(bridge, given.tunnel_mtu) for bridge in spec.bridges}
    places = seats(domain, given.endpoints, given.node, given.node_ids, given.devices)
    peers = Peers(spec.policies, places)
    ifaces = interfaces(domain)
    lbs = balancers(domain)
    routes, hops = route_rows(domain, given.path, ifaces)
    rows: Rows = {
        "plum_bridge": bridge_rows(domain, mtus),
        "plum_mac": mac_rows(ifaces, lbs, places),
        "plum_flood": flood_rows(given.path, domain, places),
        "plum_source": source_rows(places),
        "plum_rif": rif_rows(ifaces),
        "plum_route": routes,
        "plum_hop": hops,
        "plum_host": host_rows(domain.id, ifaces, lbs, places, peers),
        "plum_peer": peers.rows(domain.id),
        **balancer_rows(domain.id, lbs, places),
    }
    policies = Policies(given.path, spec.policies, peers.classes)  # after every classification
    rows["plum_ep"] = _ep_rows(domain, places, policies, mtus)
    rows["plum_verdict"] = policies.verdicts
    rows["plum_span"] = policies.spans
    packed = pack(rows)
    epoch = Epoch(_digest(packed))
    local = [seat for seat in places if not seat.node]
    rows["plum_epoch"] = {Index(s.endpoint.slot): epoch for s in local if s.ifindex}
    packed |= pack({"plum_epoch": rows["plum_epoch"]})
    names = Names(
        rules=policies.rules,
        slots={seat.endpoint.slot: seat.path for seat in local},
        domains={domain.id: given.path},
        bridges={vni: (given.path, bridge) for bridge, vni in domain.vnis.items()},
        routers={number: (given.path, name) for name, number in domain.router_ids.items()},
    )
    mtu = {seat.path: mtus[seat.endpoint.spec.bridge] for seat in local}
    return DomainRows(rows, packed, names, mtu)


def _ep_rows(
    domain: Domain, places: list[Seat], policies: Policies, mtus: Mapping[str, int]
) -> Table:
    default = domain.spec.default
    base = EpFlag.INGRESS_ALLOW.value if default.ingress is Action.ALLOW else 0
    base |= EpFlag.EGRESS_ALLOW.value if default.egress is Action.ALLOW else 0
    dhcp = {bridge.name: bridge.dhcp.enabled for bridge in domain.spec.bridges}
    rows: Table = {}
    for seat in places:
        if not seat.ifindex:
            continue
        endpoint = seat.endpoint
        flags = base | (EpFlag.TAP.value if seat.tap else 0)
        if dhcp[endpoint.spec.bridge]:
            families = {address.version for address in endpoint.addresses}
            flags |= EpFlag.DHCP4.value if 4 in families else 0
            flags |= EpFlag.DHCP6.value if 6 in families else 0
        rows[EpKey(seat.ifindex)] = Ep(
            ingress_set=policies.set_id(True, seat.groups),
            egress_set=policies.set_id(False, seat.groups),
            id=endpoint.id,
            slot=endpoint.slot,
            domain=domain.id,
            vni=seat.vni,
            mtu=mtus[endpoint.spec.bridge],
            flow_quota=endpoint.spec.flow_quota,
            flags=flags,
            mac=seat.mac,
        )
    return rows


def _digest(packed: Packed) -> int:
    """64 bits over every row of the domain, in an order that only content decides.

    One value for all slots of a domain: a flow between two of them depends on both.
    """
    state = blake2b(digest_size=8, person=b"epoch")
    for name in APPLY_ORDER:
        rows = sorted([key + value for key, value in packed.get(name, {}).items()])
        state.update(f"{name} {len(rows)}".encode())
        state.update(b"".join(rows))
    return int.from_bytes(state.digest(), "little")
