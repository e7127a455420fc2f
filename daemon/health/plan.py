"""Which checks a node runs: of every balancer, its backends on this node. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from daemon.model.balancer import BalancedProtocol, CheckKind, Health, LoadBalancer
from daemon.model.base import Address
from daemon.model.mac import balancer_mac
from daemon.model.object import Domain, Endpoint
from daemon.model.snapshot import Snapshot

#: Source ports of checks; the datapath lets answers to them end quietly.
FIRST_PORT = 64512


@dataclass(frozen=True, slots=True)
class Target:
    domain: str
    balancer: str
    endpoint: str  # its name
    health: Health
    port: int
    vip: Address
    address: Address
    mac: str  # the balancer's
    peer_mac: str

    @property
    def path(self) -> str:
        return f"{self.domain}/{self.endpoint}"


def checked_domains(snapshot: Snapshot) -> frozenset[str]:
    """Those with a balancer that has health checks."""
    return frozenset(
        path
        for path, domain in snapshot.domains.items()
        if any(balancer.health for balancer in domain.spec.load_balancers)
    )


def targets_of(snapshot: Snapshot, node: str) -> frozenset[Target]:
    checked = checked_domains(snapshot)
    return frozenset(
        target
        for path, endpoint in (snapshot.endpoints.items() if checked else ())
        if endpoint.spec.node == node and path.rpartition("/")[0] in checked
        for target in _of_endpoint(
            path.rpartition("/")[0], snapshot.domains[path.rpartition("/")[0]], endpoint
        )
    )


def _of_endpoint(path: str, domain: Domain, endpoint: Endpoint) -> Iterator[Target]:
    labels = endpoint.spec.labels.items()
    groups = {g.name for g in domain.spec.groups if g.labels and g.labels.items() <= labels}
    for balancer in domain.spec.load_balancers:
        number = domain.balancer_ids.get(balancer.name)
        named = any(backend.endpoint == endpoint.name for backend in balancer.backends)
        if balancer.health is None or number is None or not (named or balancer.group in groups):
            continue
        ends = _ends(balancer, endpoint)
        port = _port(balancer, balancer.health)
        if ends and port:
            mac = balancer_mac(number)
            yield Target(
                path, balancer.name, endpoint.name, balancer.health, port, *ends, mac, endpoint.mac
            )


def _ends(balancer: LoadBalancer, endpoint: Endpoint) -> tuple[Address, Address] | None:
    """The first virtual address of whose family the backend has one as well."""
    for vip in balancer.addresses:
        for own in endpoint.addresses:
            if own.version == vip.version:
                return vip, own
    return None


def _port(balancer: LoadBalancer, health: Health) -> int:
    is_udp = health.kind is CheckKind.UDP
    protocol = BalancedProtocol.UDP if is_udp else BalancedProtocol.TCP
    ports = (one.to_port or one.port for one in balancer.listeners if one.protocol is protocol)
    return health.port or next(ports, 0)
