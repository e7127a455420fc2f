"""Rows of load balancers: listeners, backends and their Maglev tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from daemon.abi import (
    MAGLEV_CHUNK,
    Backend,
    BackendKey,
    Maglev,
    MaglevKey,
    Vip,
    VipFlag,
    VipKey,
)
from daemon.compiler.identity import content_id
from daemon.compiler.maglev import maglev_table
from daemon.compiler.result import Rows, Table
from daemon.compiler.seat import Seat
from daemon.compiler.wide import MAPPED, mac_bytes, wide
from daemon.model.balancer import Affinity, BalancedProtocol, LoadBalancer
from daemon.model.mac import balancer_mac
from daemon.model.object import Domain

_PROTO = {BalancedProtocol.TCP: 6, BalancedProtocol.UDP: 17}


class Balancer(NamedTuple):
    number: int
    vni: int
    mac: bytes
    addresses: tuple[bytes, ...]
    spec: LoadBalancer


def balancers(domain: Domain) -> list[Balancer]:
    """In the order of the domain; on an unknown bridge there is none."""
    return [
        Balancer(
            domain.balancer_ids[spec.name],
            domain.vnis[spec.bridge],
            mac_bytes(balancer_mac(domain.balancer_ids[spec.name])),
            tuple(wide(address) for address in spec.addresses),
            spec,
        )
        for spec in domain.spec.load_balancers
        if spec.name in domain.balancer_ids and spec.bridge in domain.vnis
    ]


#: Balancer and endpoint, of backends that fail their balancer's health check.
Down = frozenset[tuple[str, str]]
NOBODY: Down = frozenset()


def balancer_rows(
    domain_id: int, found: Sequence[Balancer], seats: Sequence[Seat], down: Down = NOBODY
) -> Rows:
    """plum_vip, plum_backend and plum_maglev. A listener without backends has list 0."""
    vips: Table = {}
    backends: Table = {}
    tables: Table = {}
    for balancer in found:
        flags = VipFlag.SOURCE_AFFINITY.value if balancer.spec.affinity is Affinity.SOURCE else 0
        members = _members(balancer.spec, seats, down)
        for addr in balancer.addresses:
            if balancer.spec.health is not None:
                vips[VipKey(domain_id, addr, 0, 0)] = Vip(0, 0, VipFlag.CHECKED.value)
            number = add_list(_of_family(members, addr), backends, tables)
            for listener in balancer.spec.listeners:
                key = VipKey(domain_id, addr, listener.port, _PROTO[listener.protocol])
                to_port = listener.to_port or listener.port
                vips.setdefault(key, Vip(number, to_port, flags))
    return {"plum_vip": vips, "plum_backend": backends, "plum_maglev": tables}


def _members(spec: LoadBalancer, seats: Sequence[Seat], down: Down) -> list[tuple[Seat, int]]:
    """Endpoints that get new connections, with their weights, by path.

    When all of them are down all get some: a check that is wrong must not do what no
    dead server could, and a client of a dead one loses nothing by the attempt.
    """
    weights = {backend.endpoint: backend.weight for backend in spec.backends}
    found = []
    for seat in seats:
        in_group = spec.group is not None and spec.group in seat.groups
        weight = weights.get(seat.endpoint.name, 1 if in_group else 0)
        if weight:
            found.append((seat, weight))
    if spec.health is None or not down:
        return found
    up = [one for one in found if (spec.name, one[0].endpoint.name) not in down]
    return up or found


def _of_family(members: list[tuple[Seat, int]], vip: bytes) -> tuple[tuple[bytes, int], ...]:
    """Each one's first address of the virtual address's family."""
    is_ipv4 = vip.startswith(MAPPED)
    found = []
    for seat, weight in members:
        own = next((a for a in seat.addresses if a.startswith(MAPPED) == is_ipv4), None)
        if own is not None:
            found.append((own, weight))
    return tuple(found)


def public_list(
    of: bytes,
    spec: LoadBalancer,
    seats: Sequence[Seat],
    public: bytes,
    rows: Rows,
    down: Down = NOBODY,
) -> tuple[int, frozenset[int]]:
    """Rows of the backends behind a public address: the list's number, and their nodes.

    `of`: whose list it is: another's with the same addresses has other nodes.
    """
    members = _members(spec, seats, down)
    number = add_list(
        _of_family(members, public), rows["plum_backend"], rows["plum_maglev"], of, seats
    )
    return number, frozenset(seat.node for seat, _ in members)


def add_list(
    members: tuple[tuple[bytes, int], ...],
    backends: Table,
    tables: Table,
    of: bytes = b"",
    seats: Sequence[Seat] = (),
) -> int:
    """Rows of one list of backends; its number. With `seats` they say on which node each is."""
    if not members:
        return 0
    parts = (addr + weight.to_bytes(1, "little") for addr, weight in members)
    number = content_id("backends", *parts, of) if of else content_id("backends", *parts)
    if BackendKey(number, 0) in backends:
        return number
    nodes = {addr: seat.node for seat in seats for addr in seat.addresses}
    for index, (addr, _) in enumerate(members):
        backends[BackendKey(number, index)] = Backend(addr, nodes.get(addr, 0))
    raw = maglev_table(members).tobytes()  # little endian, as every kernel we run on
    size = 2 * MAGLEV_CHUNK
    for chunk in range(0, len(raw), size):
        row = Maglev(raw[chunk : chunk + size].ljust(size, b"\0"))
        tables[MaglevKey(number, chunk // size)] = row
    return number
