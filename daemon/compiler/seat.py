"""Seats: a domain's endpoints in the form the compiler's loops read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from daemon.compiler.result import Device
from daemon.compiler.wide import Prefix, mac_bytes, wide, wide_prefix
from daemon.model.mac import link_local
from daemon.model.object import Domain, Endpoint
from daemon.model.policy import Group


class Pair(NamedTuple):
    """A further source: addresses and the MAC they are used with."""

    prefix: Prefix
    mac: bytes


class Seat(NamedTuple):
    path: str
    endpoint: Endpoint
    vni: int
    mac: bytes
    addresses: tuple[bytes, ...]
    pairs: tuple[Pair, ...]
    groups: frozenset[str]
    node: int  # 0: here
    ifindex: int  # of the local device, else 0
    tap: bool

    @property
    def reachable(self) -> bool:
        """Rows may point at it: it is elsewhere, or here with a device."""
        return bool(self.node or self.ifindex)

    @property
    def link_local(self) -> bytes:
        return link_local(self.endpoint.mac).packed


class Membership:
    """Groups by labels; endpoints with equal labels are looked up once."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = [(g.name, g.labels.items()) for g in groups if g.labels]
        self._known: dict[frozenset[tuple[str, str]], frozenset[str]] = {}

    def of(self, endpoint: Endpoint) -> frozenset[str]:
        """Groups whose every label the endpoint carries. A group without labels has nobody."""
        labels = frozenset(endpoint.spec.labels.items())
        groups = self._known.get(labels)
        if groups is None:
            groups = frozenset(name for name, wanted in self._groups if wanted <= labels)
            self._known[labels] = groups
        return groups


def seats(
    domain: Domain,
    endpoints: Sequence[tuple[str, Endpoint]],
    node: str,
    node_ids: Mapping[str, int],
    devices: Mapping[str, Device],
    groups: Sequence[Group],
) -> list[Seat]:
    """Endpoints in the order given; one whose bridge or node is unknown has no seat."""
    members = Membership(groups)
    nowhere = Device(ifindex=0)
    result = []
    for path, endpoint in endpoints:
        spec = endpoint.spec
        vni = domain.vnis.get(spec.bridge)
        if vni is None or spec.node not in node_ids:
            continue
        local = spec.node == node
        device = devices.get(path, nowhere) if local else nowhere
        mac = mac_bytes(endpoint.mac)
        pairs: tuple[Pair, ...] = ()
        if spec.allowed_pairs:
            pairs = tuple(
                Pair(wide_prefix(p.address), mac_bytes(p.mac) if p.mac else mac)
                for p in spec.allowed_pairs
            )
        result.append(
            Seat(
                path,
                endpoint,
                vni,
                mac,
                tuple([wide(address) for address in endpoint.addresses]),
                pairs,
                members.of(endpoint),
                0 if local else node_ids[spec.node],
                device.ifindex,
                device.tap,
            )
        )
    return result
