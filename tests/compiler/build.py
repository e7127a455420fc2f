"""Small snapshots for the compiler's tables: two nodes, one bridge, one router."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from daemon.compiler.domain import DomainInput, DomainRows, compile_domain
from daemon.compiler.result import Device, Runtime
from daemon.model.domain import DomainSpec
from daemon.model.endpoint import EndpointSpec
from daemon.model.node import NodeSpec
from daemon.model.object import Domain, Endpoint, Node
from daemon.model.snapshot import Snapshot

RUNTIME = Runtime(underlay_ifindex=2)
VNI = {"blue": 100, "red": 101}
BLUE = {"name": "blue", "subnets": ["10.0.1.0/24", "fd00:1::/64"]}
RED = {"name": "red", "subnets": ["10.0.2.0/24"]}


def node(number: int, vtep: str | None = None, mtu: int = 1500) -> Node:
    spec = NodeSpec(vtep=ip_address(vtep or f"192.168.9.{number}"), underlay_mtu=mtu)
    return Node(name=f"n{number}", spec=spec, id=number)


def domain(**spec: Any) -> Domain:
    spec.setdefault("bridges", [BLUE, RED])
    routers = spec.get("routers", [])
    return Domain(
        tenant="acme",
        name="shop",
        spec=DomainSpec.model_validate(spec),
        id=7,
        vnis=VNI,
        router_ids={router["name"]: 50 + i for i, router in enumerate(routers)},
    )


def endpoint(number: int, on: str = "n1", bridge: str = "blue", **more: Any) -> Endpoint:
    """Endpoint eN: slot N, MAC 02:65:00:00:00:N, and address .(10 + N) unless given."""
    subnet = {"blue": "10.0.1", "red": "10.0.2"}[bridge]
    addresses = more.pop("addresses", [f"{subnet}.{10 + number}"])
    spec = EndpointSpec.model_validate({"domain": "shop", "bridge": bridge, "node": on, **more})
    return Endpoint(
        tenant="acme",
        name=f"e{number}",
        spec=spec,
        id=1000 + number,
        slot=number,
        mac=f"02:65:00:00:00:{number:02x}",
        addresses=tuple(map(ip_address, addresses)),
    )


def snapshot(a_domain: Domain, *endpoints: Endpoint) -> Snapshot:
    return Snapshot(
        revision=1,
        nodes={name: node(number) for number, name in ((1, "n1"), (2, "n2"), (3, "n3"))},
        domains={"acme/shop": a_domain},
        endpoints={f"acme/shop/{e.name}": e for e in endpoints},
    )


def compiled(a_domain: Domain, *endpoints: Endpoint, absent: tuple[str, ...] = ()) -> DomainRows:
    """Rows of the domain on n1; device of eN is 200 + N."""
    return compile_domain(
        DomainInput(
            path="acme/shop",
            domain=a_domain,
            endpoints=tuple((f"acme/shop/{e.name}", e) for e in endpoints),
            node="n1",
            node_ids={"n1": 1, "n2": 2, "n3": 3},
            devices={
                f"acme/shop/{e.name}": Device(200 + e.slot)
                for e in endpoints
                if e.spec.node == "n1" and e.name not in absent
            },
            tunnel_mtu=1450,
        )
    )
