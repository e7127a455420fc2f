"""All rows of one domain on one node."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TypeVar, cast

from daemon.abi import Ep, EpFlag, EpKey, Epoch, Host, HostKey, Index, MacKey, Peer, Row
from daemon.compiler.balancing import Balancer, Down, balancer_rows, balancers
from daemon.compiler.limits import limit_rows, limited
from daemon.compiler.peers import Peers
from daemon.compiler.policy import Policies
from daemon.compiler.result import Device, Names, Packed, Rows, Table, pack
from daemon.compiler.routing import Interface, host_rows, interfaces, rif_rows, route_rows
from daemon.compiler.seat import Seat, seats
from daemon.compiler.switching import bridge_rows, flood_rows, mac_rows, source_rows
from daemon.compiler.tiers import gates, groups, standing
from daemon.compiler.underlay import bridge_mtu
from daemon.compiler.uplinks import Way, uplink_rows
from daemon.compiler.wide import wide
from daemon.model.dns import bridges_with_names
from daemon.model.object import AdminPolicy, Domain, Endpoint
from daemon.model.policy import Action, Group

K = TypeVar("K", bound=Hashable)

_MASK = (1 << 64) - 1


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
    ways: tuple[Way, ...] = ()  # out of the zone
    down: Down = frozenset()  # backends that fail their checks
    #: Administrators' policies for the domain, as `tiers.concerning` orders them.
    admin: tuple[AdminPolicy, ...] = ()
    #: Paths of rules that do not count at this time.
    asleep: frozenset[str] = frozenset()

    @property
    def groups(self) -> tuple[Group, ...]:
        return groups(self.domain, self.admin)


@dataclass(frozen=True, slots=True)
class DomainRows:
    rows: Rows
    packed: Packed
    names: Names
    mtu: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompiledDomain:
    """A domain's rows, and what `incremental.step` needs to follow a small change."""

    given: DomainInput  # without its endpoints
    output: DomainRows
    local: tuple[Seat, ...]  # by path
    #: Remote endpoints by VNI and node, and plum_host and plum_peer rows by class.
    remote: Counter[tuple[int, int]]
    classes: Counter[int]
    #: Keys of plum_host and plum_mac that more than one thing claims.
    contested: Mapping[str, AbstractSet[Row]]
    sums: Mapping[str, int]  # of the tables an epoch is made of: `table_sum`
    peers: Peers
    policies: Policies
    balancers: Sequence[Balancer]


def compile_domain(given: DomainInput) -> DomainRows:
    """Raises CompileError where the domain asks for more than the maps hold."""
    return compile_whole(given).output


def compile_whole(given: DomainInput) -> CompiledDomain:
    """The same with what is needed to go on from there. Raises CompileError."""
    domain = given.domain
    mtus = bridge_mtus(given)
    places = seats(domain, given.endpoints, given.node, given.node_ids, given.devices, given.groups)
    local = tuple(seat for seat in places if not seat.node)
    remote = Counter([(seat.vni, seat.node) for seat in places if seat.node])
    judges = standing(domain, given.admin)
    faces = gates(domain)
    peers = Peers([*judges, *faces.values()], places)
    ifaces = interfaces(domain)
    lbs = balancers(domain)
    routes, hops = route_rows(domain, given.path, ifaces, given.ways)
    rows: Rows = {
        "plum_bridge": bridge_rows(domain, mtus),
        "plum_mac": mac_rows(ifaces, lbs, places),
        "plum_flood": flood_rows(given.path, domain, local, remote),
        "plum_source": source_rows(local),
        "plum_route": routes,
        "plum_hop": hops,
        "plum_host": host_rows(domain.id, ifaces, lbs, places, peers),
        "plum_peer": peers.rows(domain.id, outside=bool(given.ways)),
        **balancer_rows(domain.id, lbs, places, given.down),
    }
    uplink_rows(domain, given.node, given.ways, places, rows, given.down)
    # After every classification.
    policies = Policies(given.path, judges, peers.classes, domain.spec.default, given.asleep)
    rows["plum_rif"] = rif_rows(ifaces, {of: policies.gate(one) for of, one in faces.items()})
    rows["plum_limit"] = limit_rows(local)
    rows["plum_ep"] = ep_rows(domain, local, policies, mtus)
    rows["plum_verdict"] = policies.verdicts
    rows["plum_span"] = policies.spans
    packed = pack(rows)
    sums = {name: table_sum(name, table) for name, table in packed.items()}
    rows["plum_epoch"] = epoch_rows(local, sums)
    packed |= pack({"plum_epoch": rows["plum_epoch"]})
    names = Names(
        rules=policies.rules,
        slots=slots(local),
        domains={domain.id: given.path},
        bridges={vni: (given.path, bridge) for bridge, vni in domain.vnis.items()},
        routers={number: (given.path, name) for name, number in domain.router_ids.items()},
    )
    return CompiledDomain(
        replace(given, endpoints=()),
        DomainRows(rows, packed, names, endpoint_mtus(local, mtus)),
        local,
        remote,
        _classes(rows),
        _contested(domain.id, ifaces, lbs, places),
        sums,
        peers,
        policies,
        lbs,
    )


def bridge_mtus(given: DomainInput) -> dict[str, int]:
    return {b.name: bridge_mtu(b, given.tunnel_mtu) for b in given.domain.spec.bridges}


def slots(local: Iterable[Seat]) -> dict[int, str]:
    return {seat.endpoint.slot: seat.path for seat in local}


def endpoint_mtus(local: Iterable[Seat], mtus: Mapping[str, int]) -> dict[str, int]:
    return {seat.path: mtus[seat.endpoint.spec.bridge] for seat in local}


def _classes(rows: Rows) -> Counter[int]:
    hosts = cast(Iterable[Host], rows["plum_host"].values())
    peers = cast(Iterable[Peer], rows["plum_peer"].values())
    return Counter([*(row.peer_class for row in hosts), *(row.peer_class for row in peers)])


def _contested(
    domain: int, ifaces: Sequence[Interface], lbs: Sequence[Balancer], places: Sequence[Seat]
) -> dict[str, AbstractSet[Row]]:
    """Keys that an endpoint shares with a router, a balancer, a pair or another endpoint,
    or would, had it that address or MAC."""
    addrs = _repeated([addr for seat in places for addr in seat.addresses])
    macs = _repeated([(seat.vni, seat.mac) for seat in places])
    for interface in ifaces:
        addrs |= {interface.link_local, *(wide(one.ip) for one in interface.addresses)}
        macs.add((interface.vni, interface.mac))
    for balancer in lbs:
        addrs.update(balancer.addresses)
        macs.add((balancer.vni, balancer.mac))
    for seat in places:
        for pair in seat.pairs:
            addrs.add(pair.prefix.addr)
            macs.add((seat.vni, pair.mac))
    return {
        "plum_host": {HostKey(domain, addr) for addr in addrs},
        "plum_mac": {MacKey(*mac) for mac in macs},
    }


def _repeated(claims: list[K]) -> set[K]:
    if len(set(claims)) == len(claims):
        return set()
    return {claim for claim, count in Counter(claims).items() if count > 1}


def ep_rows(
    domain: Domain, local: Iterable[Seat], policies: Policies, mtus: Mapping[str, int]
) -> Table:
    default = domain.spec.default
    base = EpFlag.INGRESS_ALLOW.value if default.ingress is Action.ALLOW else 0
    base |= EpFlag.EGRESS_ALLOW.value if default.egress is Action.ALLOW else 0
    dhcp = {bridge.name: bridge.dhcp.enabled for bridge in domain.spec.bridges}
    named = bridges_with_names(domain.spec)
    rows: Table = {}
    for seat in local:
        if not seat.ifindex:
            continue
        endpoint = seat.endpoint
        flags = base | (EpFlag.TAP.value if seat.tap else 0)
        flags |= EpFlag.LIMIT.value if limited(endpoint.spec.qos) else 0
        if endpoint.spec.bridge in named:
            flags |= EpFlag.DNS.value
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
            flow_quota=min(endpoint.spec.flow_quota, policies.limit(seat.groups)),
            flags=flags,
            mac=seat.mac,
        )
    return rows


def epoch_rows(local: Iterable[Seat], sums: Mapping[str, int]) -> Table:
    """One epoch for all slots of a domain: a flow between two of them depends on both.

    It is a hash of every row of the domain that only their content decides.
    """
    epoch = Epoch(sum(sums.values()) & _MASK)
    return {Index(seat.endpoint.slot): epoch for seat in local if seat.ifindex}


def table_sum(name: str, table: Mapping[bytes, bytes]) -> int:
    """Sum of the hashes of a table's rows: whatever their order, and a row can be taken
    out or put in without looking at the others. A sum is easier to forge than a hash,
    but a domain's rows are its own tenant's, whose flows it decides anyway.
    """
    fresh = blake2b(digest_size=8, person=name.encode()).copy
    digests = []
    for key, value in table.items():
        state = fresh()
        state.update(key + value)
        digests.append(state.digest())
    return sum(array("Q", b"".join(digests)))  # little endian, as every kernel we run on
