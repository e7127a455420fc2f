"""How large the simulated zone is, and what is in it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from daemon.model.mac import endpoint_mac
from daemon.model.object import Domain, Endpoint, Node, Tenant
from daemon.zone.counters import FIRST_VNI, Counters

TENANT = "scale"
BRIDGE = "net"


@dataclass(frozen=True, slots=True)
class Size:
    """Nodes form blocks; the domains of a block have their endpoints on all its nodes.

    So an endpoint more concerns as many nodes as a block has, however large the zone.
    """

    nodes: int
    per_block: int  # nodes
    domains: int
    endpoints: int  # of a domain
    agents: tuple[int, ...]  # how many run in each phase
    processes: int  # they share
    rate: float  # changes a second
    changes: int  # of each phase

    @property
    def blocks(self) -> int:
        return self.nodes // self.per_block

    @property
    def total(self) -> int:
        return self.domains * self.endpoints

    def hosts(self, domain: int) -> range:
        """Numbers of the nodes of a domain."""
        first = domain % self.blocks * self.per_block + 1
        return range(first, first + self.per_block)

    def domains_of(self, agents: int) -> list[int]:
        """Domains whose nodes are all among the first `agents`."""
        return [d for d in range(self.domains) if self.hosts(d)[-1] <= agents]


FULL = Size(1000, 10, 500, 100, (10, 100, 1000), 4, 20.0, 600)
QUICK = Size(40, 10, 20, 100, (10, 20, 40), 2, 20.0, 60)


def node_name(number: int) -> str:
    return f"n{number}"


def domain_name(number: int) -> str:
    return f"d{number}"


def node(number: int) -> Node:
    spec = {"vtep": str(ip_address("10.64.0.0") + number)}
    return Node.model_validate({"name": node_name(number), "id": number, "spec": spec})


def domain(number: int) -> Domain:
    """A bridge, a router, and a policy between two groups."""
    spec = {
        "bridges": [{"name": BRIDGE, "subnets": ["10.0.0.0/16"]}],
        "routers": [
            {"name": "r", "interfaces": [{"bridge": BRIDGE, "addresses": ["10.0.255.254/16"]}]}
        ],
        "groups": [{"name": name, "labels": {"app": name}} for name in ("web", "db")],
        "policies": [
            {
                "name": "db",
                "applies_to": "db",
                "ingress": [
                    {"name": "web", "peers": [{"group": "web"}], "protocol": "tcp", "ports": [5432]}
                ],
            }
        ],
    }
    return Domain.model_validate(
        {
            "tenant": TENANT,
            "name": domain_name(number),
            "spec": spec,
            "id": number + 1,
            "vnis": {BRIDGE: FIRST_VNI + number},
            "router_ids": {"r": number + 1},
        }
    )


def endpoint(owner: int, name: str, number: int, host: int, slot: int, on: int) -> Endpoint:
    """`number`: its id; `host`: its place in the subnet; `on`: its node's number."""
    return Endpoint.model_validate(
        {
            "tenant": TENANT,
            "name": name,
            "spec": endpoint_spec(owner, on, host),
            "id": number,
            "slot": slot,
            "mac": endpoint_mac(number),
            "addresses": [str(ip_address("10.0.0.0") + host)],
        }
    )


def endpoint_spec(owner: int, on: int, host: int) -> dict[str, Any]:
    labels = {"app": "web" if host % 2 else "db"}
    return {
        "domain": domain_name(owner),
        "bridge": BRIDGE,
        "node": node_name(on),
        "labels": labels,
    }


def addition(owner: int, name: str, on: int, host: int) -> dict[str, Any]:
    """The manifest of one more endpoint."""
    spec = endpoint_spec(owner, on, host)
    return {"kind": "endpoint", "tenant": TENANT, "name": name, "spec": spec}


def endpoints(size: Size) -> Iterator[Endpoint]:
    slots: dict[int, int] = {}
    number = 0
    for owner in range(size.domains):
        hosts = size.hosts(owner)
        for index in range(size.endpoints):
            number += 1
            on = hosts[index % len(hosts)]
            slots[on] = slots.get(on, -1) + 1
            yield endpoint(owner, f"e{index}", number, index + 1, slots[on], on)


def cold_endpoints(size: Size) -> Iterator[Endpoint]:
    """One on a node of its own in every domain: it then needs the whole zone."""
    on = size.nodes + 1
    for owner in range(size.domains):
        number = 10_000_000 + owner
        yield endpoint(owner, "cold", number, 60_000, owner, on)


def fixtures(size: Size) -> Iterator[Tenant | Node | Domain]:
    yield Tenant(name=TENANT)
    yield from map(node, range(1, size.nodes + 2))  # and the cold one
    yield from map(domain, range(size.domains))


def counters(size: Size) -> Counters:
    """As if the zone had been allocated."""
    return Counters(
        domain=size.domains,
        endpoint=size.total,
        router=size.domains,
        vni=FIRST_VNI + size.domains - 1,
    )
