"""A node full of endpoints: time to program them, time to one's first packet, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import loadtool, plum
from bench.loadtool import Ends, LoadFailed, Probe
from bench.manifests import domain, endpoint, many_endpoints
from bench.netns import ip, namespaces
from bench.plan import Plan
from bench.result import Measurement, at_most
from bench.stats import percentile
from bench.topology import ENDPOINT_MTU_BYTES, OPEN_PORT, address, give_address, know

COUNT = 1000
RULES = 10
#: Subnets 1 and 2 hold the two ends of the first packet, these the thousand.
FILLED_SUBNETS = tuple(range(10, 15))

PROGRAM_BAR = at_most(3)
FIRST_PACKET_BAR = at_most(100)
MEMORY_BAR = at_most(150)


def run(plan: Plan) -> list[Measurement]:
    """The first packets are timed on the full node, which is no easier than an empty one."""
    prefix = f"{plan.prefix}-many"
    with plum.zone(prefix, nodes=1) as zone, namespaces(f"{prefix}-w", f"{prefix}-s"):
        node = zone.nodes[0]
        _make_devices(node.netns, f"{prefix}-w")
        zone.apply(domain(RULES, 4, (1, 2, *FILLED_SUBNETS)))
        empty_mb = node.resident_mb()
        fill = many_endpoints(COUNT, node.name, first_subnet=FILLED_SUBNETS[0], prefix="many")
        started = time.monotonic()
        zone.apply(fill)
        programmed_s = time.monotonic() - started
        full_mb = node.resident_mb()
        with _attached(zone, f"{prefix}-s", "server", subnet=2):
            first_ms = tuple(_first_packet_ms(zone, prefix, n) for n in range(plan.creations))
    worst = percentile(first_ms, 99)
    return [
        Measurement(f"{COUNT:,} endpoints programmed", "s", (programmed_s,), PROGRAM_BAR),
        Measurement("created to first packet through, p99", "ms", (worst,), FIRST_PACKET_BAR),
        Measurement("created to first packet through", "ms", first_ms),
        Measurement(f"plumd resident, {COUNT:,} endpoints", "MB", (full_mb,), MEMORY_BAR),
        Measurement("plumd resident, no endpoint", "MB", (empty_mb,)),
    ]


def _make_devices(node_netns: str, workload_netns: str) -> None:
    lines = [
        f"link add many{number} type veth peer name many{number} netns {workload_netns}"
        for number in range(COUNT)
    ]
    ip(node_netns, *lines)


@contextmanager
def _attached(zone: plum.Zone, netns: str, name: str, subnet: int) -> Iterator[None]:
    """The namespace as endpoint `name`, host 1 of the subnet, on the first node."""
    node = zone.nodes[0]
    prepare(node.netns, netns, name, subnet)
    manifest = endpoint(name, node.name, 4, subnet, 1, {"kind": "veth", "device": name})
    zone.apply([manifest])
    try:
        yield
    finally:
        zone.delete([manifest])
        ip(node.netns, f"link delete {name}")


def prepare(node_netns: str, netns: str, device: str, subnet: int) -> None:
    """What the workload brings: a veth pair, its address, and its gateway as permanent
    neighbour (an ARP request lost while the endpoint is closed would cost a second).
    """
    ip(node_netns, f"link add {device} type veth peer name eth0 netns {netns}")
    ip(netns, f"link set eth0 mtu {ENDPOINT_MTU_BYTES} up")
    give_address(netns, "eth0", 4, subnet, 1)
    know(netns, "eth0", 4, subnet, plum.ROUTER_HOST)
    ip(netns, f"route add default via {address(4, subnet, plum.ROUTER_HOST)}")


def _first_packet_ms(zone: plum.Zone, prefix: str, number: int) -> float:
    """From the request that creates an endpoint to the arrival of what it has been
    sending all along.
    """
    ends = Ends(f"{prefix}-c", f"{prefix}-s", address(4, 2, 1))
    node = zone.nodes[0]
    with namespaces(ends.client_netns):
        prepare(node.netns, ends.client_netns, "first", 1)
        manifest = endpoint("first", node.name, 4, 1, 1, {"kind": "veth", "device": "first"})
        try:
            with loadtool.running(
                "probe", ends, 5, protocol="udp", port=OPEN_PORT, interval_ms=1
            ) as probing:
                created_ns = time.monotonic_ns()
                zone.apply([manifest])
                seen = probing.result(Probe)
        finally:
            zone.delete([manifest])
    if not seen.through or seen.arrived_ns < created_ns:
        raise LoadFailed(f"creation {number}: the first packet came {'early' if seen.through else 'never'}")
    return (seen.arrived_ns - created_ns) / 1e6
