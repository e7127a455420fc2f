"""Rows of the ways out of the zone: of a domain's routers, and of a node that is a gateway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, cast

from daemon import abi
from daemon.abi import EXTERNAL_ROUTER, PublicFlag, PublicKind, RouteKind, VipFlag
from daemon.compiler.balancing import NOBODY, Down, public_list
from daemon.compiler.identity import content_id
from daemon.compiler.result import Outside, Rows, Runtime, Table
from daemon.compiler.seat import Seat, seats
from daemon.compiler.wide import (
    IPV4,
    MAPPED,
    ZERO,
    Prefix,
    hides_ipv4,
    mac_bytes,
    narrow,
    wide,
    wide_prefix,
)
from daemon.model.balancer import Affinity
from daemon.model.base import Address
from daemon.model.derive import gateways_of, joins_only, uplinks_of
from daemon.model.domain import Uplink
from daemon.model.object import Domain, Endpoint, External
from daemon.model.prefix import first_of, one_to_one
from daemon.model.snapshot import Snapshot

_PROTO = {"tcp": 6, "udp": 17}

#: Device of a gateway that has none: what would leave by it has no route.
LOOPBACK = 1
_SHARED_BY = {PublicKind.BLOCK: PublicFlag.BY_BLOCK, PublicKind.PORT: PublicFlag.BY_PORT}
#: Node and gateway ids a public address is reached through.
Public = tuple[abi.PublicKey, str]


class Way(NamedTuple):
    """What a domain's rows need to know of an external network."""

    name: str
    vni: int
    mtu: int
    block_ports: int
    gateways: tuple[int, ...]  # nodes that are alive, sorted; 0: this one
    versions: frozenset[int]  # of its public addresses


def ways(
    domain: Domain,
    externals: Mapping[str, External],
    node: str,
    node_ids: Mapping[str, int],
    down: frozenset[tuple[str, str]],
    tunnel_mtu: int,
) -> tuple[Way, ...]:
    """The external networks the domain's routers lead to, by name. `down`: network and
    gateway, of those that do not answer."""
    names = {uplink.network for _, _, uplink in uplinks_of(domain.spec)}
    found = []
    for name in sorted(names & externals.keys()):
        spec = externals[name].spec
        alive = {
            0 if one.node == node else node_ids[one.node]
            for one in spec.gateways
            if one.node in node_ids and (name, one.node) not in down
        }
        versions = frozenset(net.version for net in (*spec.nat, *spec.floating))
        found.append(
            Way(
                name,
                externals[name].vni,
                min(spec.mtu, tunnel_mtu),
                spec.block_ports,
                tuple(sorted(alive)),
                versions,
            )
        )
    return tuple(found)


def uplink_rows(
    domain: Domain,
    node: str,
    found: Sequence[Way],
    places: Sequence[Seat],
    rows: Rows,
    down: Down = NOBODY,
) -> None:
    """Of the domain's own routers, on a node that hosts some of its endpoints."""
    by_name = {way.name: way for way in found}
    for name in ("plum_uplink", "plum_gateway", "plum_floating", "plum_nat_block", "plum_public"):
        rows[name] = {}
    local = {seat.endpoint.name: seat for seat in places if seat.ifindex}
    own = {name: [narrow(a) for a in seat.addresses] for name, seat in local.items()}
    for _, router, uplink in uplinks_of(domain.spec):
        way, number = by_name.get(uplink.network), domain.router_ids.get(router.name)
        if way is None or number is None:
            continue
        counts = {4: 0, 6: 0}
        for block in domain.nat_blocks.get(router.name, {}).get(node, ()):
            version, addr = block.address.version, wide(block.address)
            key = abi.NatBlockKey(number, version, counts[version])
            rows["plum_nat_block"][key] = abi.NatBlock(addr, block.first, way.block_ports)
            counts[version] += 1
        group = _gateway_group(way, rows["plum_gateway"])
        rows["plum_uplink"][abi.UplinkKey(number)] = abi.Uplink(
            group, len(way.gateways), way.vni, way.mtu, counts[4], counts[6]
        )
        for public, _, inner in one_to_one(uplink, own):
            mine = abi.FloatingKey(number, wide(inner))
            rows["plum_floating"][mine] = abi.Floating(wide(public))
        rows["plum_public"] |= _own_publics(domain, number, node, way, router.name, uplink, own)
        _balanced_rows(domain, way.vni, number, uplink, places, rows, down)


def _own_publics(
    domain: Domain,
    router: int,
    node: str,
    way: Way,
    name: str,
    uplink: Uplink,
    local: Mapping[str, Sequence[Address]],
) -> Iterator[tuple[abi.PublicKey, abi.PublicEnd]]:
    """What is translated here. A block has no endpoint: its flows say whose a port is."""
    for block in domain.nat_blocks.get(name, {}).get(node, ()):
        key = abi.PublicKey(way.vni, wide(block.address), block.first, 0, PublicKind.BLOCK.value)
        yield key, abi.PublicEnd(0, 0, domain.id, router, ZERO, 0, 0)
        yield _shared(way.vni, wide(block.address), PublicFlag.BY_BLOCK)
    for public, _, inner in one_to_one(uplink, local):
        key = abi.PublicKey(way.vni, wide(public), 0, 0, PublicKind.ADDRESS.value)
        yield key, abi.PublicEnd(0, 0, domain.id, router, wide(inner), 0, 0)
    for forward in uplink.forwards:
        for target in first_of(forward.address.version, local.get(forward.endpoint, ())):
            proto, to_port = _PROTO[forward.protocol], forward.to_port or forward.port
            addr = wide(forward.address)
            key = abi.PublicKey(way.vni, addr, forward.port, proto, PublicKind.PORT.value)
            yield key, abi.PublicEnd(0, 0, domain.id, router, wide(target), to_port, 0)
            yield _shared(way.vni, addr, PublicFlag.BY_PORT)


def _shared(vni: int, addr: bytes, flag: PublicFlag) -> tuple[abi.PublicKey, abi.PublicEnd]:
    """The row of an address that several have; the same whoever of them asks for it."""
    key = abi.PublicKey(vni, addr, 0, 0, PublicKind.ADDRESS.value)
    return key, abi.PublicEnd(0, 0, 0, 0, ZERO, 0, flag.value)


def _balanced_rows(
    domain: Domain,
    vni: int,
    router: int,
    uplink: Uplink,
    places: Sequence[Seat],
    rows: Rows,
    down: Down,
) -> None:
    """Load balancers at public addresses: the same rows on gateways and on edges, so that
    both choose the same backend."""
    balancers = {balancer.name: balancer for balancer in domain.spec.load_balancers}
    for floating in uplink.floating:
        balancer = balancers.get(floating.load_balancer or "")
        if balancer is None:
            continue
        public = wide(floating.address)
        of = domain.id.to_bytes(8, "little")
        number, nodes = public_list(of, balancer, places, public, rows, down)
        flags = VipFlag.SOURCE_AFFINITY.value if balancer.affinity is Affinity.SOURCE else 0
        for listener in balancer.listeners:
            proto, to_port = _PROTO[listener.protocol], listener.to_port or listener.port
            key = abi.PublicKey(vni, public, listener.port, proto, PublicKind.PORT.value)
            rows["plum_public"][key] = abi.PublicEnd(
                number, 0, domain.id, router, ZERO, to_port, flags
            )
        rows["plum_public"] |= [_shared(vni, public, PublicFlag.BY_PORT)]
        for node in sorted(nodes):
            key = abi.PublicKey(vni, public, node, 0, PublicKind.SENDER.value)
            rows["plum_public"][key] = abi.PublicEnd(0, node, domain.id, router, ZERO, 0, 0)


def _gateway_group(way: Way, rows: Table) -> int:
    if not way.gateways:
        return 0
    numbers = b"".join(number.to_bytes(4, "little") for number in way.gateways)
    group = content_id("gateways", way.vni.to_bytes(4, "little"), numbers)
    for index, number in enumerate(way.gateways):
        rows[abi.GatewayKey(group, index)] = abi.Gateway(number)
    return group


def default_routes(way: Way) -> Iterator[tuple[Prefix, abi.Route]]:
    """To the external network, of the families it has public addresses of."""
    route = abi.Route(0, RouteKind.UPLINK.value, way.vni, 0)
    if 4 in way.versions:
        yield Prefix(MAPPED + bytes(4), IPV4.bits), route
    if 6 in way.versions:
        yield Prefix(ZERO, 0), route


def external_rows(
    snapshot: Snapshot,
    node: str,
    node_ids: Mapping[str, int],
    runtime: Runtime,
    tunnel_mtu: int,
) -> Rows:
    """Of the external networks themselves, and of those this node is a gateway of."""
    tables = (
        "plum_external",
        "plum_attachment",
        "plum_public",
        "plum_claim",
        "plum_route",
        "plum_hop",
        "plum_rif",
        "plum_backend",
        "plum_maglev",
    )
    rows: Rows = {name: {} for name in tables}
    outside = {one.network: one for one in runtime.outside}
    for name, external in snapshot.externals.items():
        spec, here = external.spec, outside.get(name)
        if joins_only(spec) and node in gateways_of(spec):
            here = Outside(name, LOOPBACK, "00:00:00:00:00:00")
        mac = mac_bytes(here.mac) if here else bytes(6)
        rows["plum_external"][abi.ExternalKey(external.vni)] = abi.External(
            here.ifindex if here else 0,
            min(spec.mtu, tunnel_mtu),
            spec.vlan or 0,
            spec.block_ports,
            mac,
        )
        if here is None:
            continue
        if not joins_only(spec):
            key = abi.AttachmentKey(here.ifindex, spec.vlan or 0)
            rows["plum_attachment"][key] = abi.Attachment(external.vni)
            _outside_routes(external, node, here, rows)
        publics = list(_publics(snapshot, name, external.vni))
        for public, owner in publics:
            if owner != node and owner in node_ids:
                row = abi.PublicEnd(0, node_ids[owner], 0, 0, ZERO, 0, 0)
                rows["plum_public"][public] = row
                if public.kind in _SHARED_BY:
                    flag = _SHARED_BY[PublicKind(public.kind)]
                    rows["plum_public"] |= [_shared(external.vni, public.addr, flag)]
        _balanced_outside(snapshot, node, node_ids, name, external.vni, rows, dict(runtime.sick))
        if joins_only(spec):
            continue
        down = {gateway for network, gateway in runtime.down if network == name}
        alive = [g.node for g in spec.gateways if g.node not in down]
        own = {wide(a.ip) for g in spec.gateways if g.node == node for a in g.addresses}
        shared = {
            key.addr
            for key in cast(Iterable[abi.PublicKey], rows["plum_public"])
            if key.vni == external.vni
        } | {key.addr for key, _ in publics}
        claimed = own | {addr for addr in shared if claimant(addr, alive) == node}
        for addr in sorted(claimed):
            rows["plum_claim"][abi.ClaimKey(external.vni, addr)] = abi.Claim()
    return rows


def _balanced_outside(
    snapshot: Snapshot,
    node: str,
    node_ids: Mapping[str, int],
    network: str,
    vni: int,
    rows: Rows,
    sick: Mapping[str, Down],
) -> None:
    for path, domain in snapshot.domains.items():
        for _, router, uplink in uplinks_of(domain.spec):
            number = domain.router_ids.get(router.name)
            listens = any(floating.load_balancer for floating in uplink.floating)
            if uplink.network == network and listens and number is not None:
                members = sorted(
                    (p, e) for p, e in snapshot.endpoints.items() if p.startswith(f"{path}/")
                )
                places = seats(domain, members, node, node_ids, {}, domain.spec.groups)
                _balanced_rows(domain, vni, number, uplink, places, rows, sick.get(path, NOBODY))


def claimant(addr: bytes, gateways: Sequence[str]) -> str:
    """Which gateway answers for a public address: when one goes, only its own move."""

    def weight(name: str) -> bytes:
        return blake2b(addr + name.encode(), digest_size=8).digest()

    return max(gateways, key=weight, default="")


def _publics(snapshot: Snapshot, network: str, vni: int) -> Iterator[Public]:
    """Public addresses and ports of a network, each with the node it is translated on."""
    for path, domain in snapshot.domains.items():
        for _, router, uplink in uplinks_of(domain.spec):
            if uplink.network != network:
                continue
            for owner, blocks in domain.nat_blocks.get(router.name, {}).items():
                for block in blocks:
                    addr = wide(block.address)
                    key = abi.PublicKey(vni, addr, block.first, 0, PublicKind.BLOCK.value)
                    yield key, owner
            members = _members(snapshot, path, uplink)
            addresses = {name: endpoint.addresses for name, endpoint in members.items()}
            for public, name, _ in one_to_one(uplink, addresses):
                key = abi.PublicKey(vni, wide(public), 0, 0, PublicKind.ADDRESS.value)
                yield key, members[name].spec.node
            for forward in uplink.forwards:
                endpoint = members.get(forward.endpoint)
                if endpoint is not None:
                    addr, proto = wide(forward.address), _PROTO[forward.protocol]
                    key = abi.PublicKey(vni, addr, forward.port, proto, PublicKind.PORT.value)
                    yield key, endpoint.spec.node


def _members(snapshot: Snapshot, path: str, uplink: Uplink) -> dict[str, Endpoint]:
    """Endpoints of the domain, by name, that may be known by a public address or port."""
    if uplink.prefixes:
        start = f"{path}/"
        all_there = ((p, e) for p, e in snapshot.endpoints.items() if p.startswith(start))
        return {p.removeprefix(start): endpoint for p, endpoint in all_there}
    names = [floating.endpoint for floating in uplink.floating if floating.endpoint]
    names += [forward.endpoint for forward in uplink.forwards]
    found = ((name, snapshot.endpoints.get(f"{path}/{name}")) for name in names)
    return {name: endpoint for name, endpoint in found if endpoint is not None}


def _outside_routes(external: External, node: str, here: Outside, rows: Rows) -> None:
    """Neighbours of the gateway are reached directly, the rest through the routes."""
    number = EXTERNAL_ROUTER | external.vni
    own = [a for g in external.spec.gateways if g.node == node for a in g.addresses]
    mine: dict[Prefix, abi.Route] = {}
    first = {4: ZERO, 6: ZERO}
    for address in reversed(own):
        first[address.version] = wide(address.ip)
        connected = abi.Route(0, RouteKind.CONNECTED.value, external.vni, 0)
        mine[wide_prefix(address.network)] = connected
    for route in external.spec.routes:
        vias = sorted(wide(via) for via in route.via)
        group = content_id("outside", external.vni.to_bytes(4, "little"), *vias)
        for index, addr in enumerate(vias):
            rows["plum_hop"][abi.HopKey(group, index)] = abi.Hop(addr, external.vni)
        via = abi.Route(group, RouteKind.VIA.value, 0, len(vias))
        mine.setdefault(wide_prefix(route.to), via)
    if any(map(hides_ipv4, mine)) and IPV4 not in mine:
        mine[IPV4] = abi.Route(0, RouteKind.NONE.value, 0, 0)
    for prefix, found in mine.items():
        rows["plum_route"][abi.RouteKey(32 + prefix.bits, number, prefix.addr)] = found
    rif = abi.Rif(0, 0, first[4], first[6], mac_bytes(here.mac))
    rows["plum_rif"][abi.RifKey(number, external.vni)] = rif
