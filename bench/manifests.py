"""Manifests of the domain that is measured. Pure."""

from __future__ import annotations

from typing import Any

from bench.topology import OPEN_PORT, ROUTER_HOST, address, mac, prefix_bits

Manifest = dict[str, Any]

TENANT, DOMAIN, EXTERNAL = "bench", "course", "outside"
#: Given, so that a workload may know its gateway without asking.
ROUTER_MAC = "02:00:00:00:fe:fe"
#: A benchmark opens every port the kernel has for it within seconds.
FLOW_QUOTA = 200_000


def bridge(subnet: int) -> str:
    return f"net{subnet}"


def domain(rules: int, version: int, subnets: tuple[int, ...] = (1, 2)) -> list[Manifest]:
    """A tenant and a domain: a bridge per subnet, one router, everything refused in
    both directions but for `rules` rules, of which the last two open OPEN_PORT.
    """
    allow = [_filler(number) for number in range(rules - 2)] + [
        {"name": f"open-{protocol}", "protocol": protocol, "ports": [OPEN_PORT]}
        for protocol in ("tcp", "udp")
    ]
    bits = prefix_bits(version)
    spec = {
        "default": {"ingress": "deny", "egress": "deny"},
        "bridges": [
            {"name": bridge(subnet), "subnets": [f"{address(version, subnet, 0)}/{bits}"]}
            for subnet in subnets
        ],
        "routers": [
            {
                "name": "r1",
                "mac": ROUTER_MAC,
                "interfaces": [
                    {
                        "bridge": bridge(subnet),
                        "addresses": [f"{address(version, subnet, ROUTER_HOST)}/{bits}"],
                    }
                    for subnet in subnets
                ],
            }
        ],
        "policies": [{"name": "rules", "ingress": allow, "egress": allow}],
    }
    return [
        {"kind": "tenant", "name": TENANT},
        {"kind": "domain", "tenant": TENANT, "name": DOMAIN, "spec": spec},
    ]


def external() -> Manifest:
    """The network behind node n2, with ports for as many connections as a benchmark makes."""
    spec = {
        "gateways": [
            {"node": "n2", "device": "ep0", "addresses": [f"{address(4, 2, ROUTER_HOST)}/24"]}
        ],
        "nat": [f"{address(4, 2, 128)}/27"],
        "block_ports": 16384,
        "blocks_per_node": 16,
    }
    return {"kind": "external", "name": EXTERNAL, "spec": spec}


def _filler(number: int) -> Manifest:
    """A rule no measured packet matches; the same list as the nft contender's."""
    return {
        "name": f"filler-{number}",
        "peers": [{"cidr": f"198.18.{number >> 8 & 255}.{number & 255}/32"}],
        "protocol": "tcp",
        "ports": [1024 + number % 4096],
    }


def endpoint(
    name: str, node: str, version: int, subnet: int, host: int, attach: Manifest
) -> Manifest:
    """An endpoint with the MAC and address that `topology` expects of it."""
    return {
        "kind": "endpoint",
        "tenant": TENANT,
        "name": name,
        "spec": {
            "domain": DOMAIN,
            "bridge": bridge(subnet),
            "node": node,
            "mac": mac(subnet, host),
            "addresses": [address(version, subnet, host)],
            "attach": attach,
            "flow_quota": FLOW_QUOTA,
        },
    }


def many_endpoints(count: int, node: str, *, first_subnet: int, prefix: str) -> list[Manifest]:
    """`count` endpoints on existing veth devices `<prefix>0`, `<prefix>1`, ..., up to 200
    of them in each subnet from `first_subnet` on.
    """
    return [
        endpoint(
            f"{prefix}{number}",
            node,
            4,
            first_subnet + number // 200,
            1 + number % 200,
            {"kind": "veth", "device": f"{prefix}{number}"},
        )
        for number in range(count)
    ]
