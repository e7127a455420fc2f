"""A node full of endpoints: time to program them, time to one's first packet, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import loadtool, plum
from bench.loadtool import Ends, LoadFailed, Probe
from bench.manifests import Manifest, domain, endpoint, many_endpoints
from bench.netns import ip, namespaces
from bench.plan import Plan
from bench.plum import Node, Zone
from bench.result import Measurement, at_most
from bench.stats import percentile
from bench.topology import OPEN_PORT, address, make_devices

COUNT = 1000
RULES = 10
CALM_S = 3.0
#: Subnets 1 and 2 hold the two ends of the first packet, these the thousand.
FILLED_SUBNETS = tuple(range(10, 15))

PROGRAM_BAR = at_most(3)
FIRST_PACKET_BAR = at_most(100)
MEMORY_BAR = at_most(150)


def run(plan: Plan) -> list[Measurement]:
    """The first packets are timed on the full node, which is no easier than an empty one."""
    prefix = f"{plan.prefix}-many"
    with plum.one_node(prefix) as zone, namespaces(f"{prefix}-w"):
        node = zone.nodes[0]
        make_devices(node.netns, f"{prefix}-w", COUNT, "many")
        zone.apply(domain(RULES, 4, (1, 2, *FILLED_SUBNETS)))
        empty_mb = node.resident_mb()
        fill = many_endpoints(COUNT, node.name, first_subnet=FILLED_SUBNETS[0], prefix="many")
        started = time.monotonic()
        zone.apply(fill)
        programmed_s = time.monotonic() - started
        full_mb = node.resident_mb()
        rest = _rest_percent(node, plan.seconds * 5)
        with _workload(zone, f"{prefix}-s", "server", subnet=2) as server:
            zone.apply([server])
            first_ms = tuple(_first_packet_ms(zone, prefix, n) for n in range(plan.creations))
    worst = percentile(first_ms, 99)
    return [
        Measurement(f"{COUNT:,} endpoints programmed", "s", (programmed_s,), PROGRAM_BAR),
        Measurement("created to first packet through, p99", "ms", (worst,), FIRST_PACKET_BAR),
        Measurement("created to first packet through", "ms", first_ms),
        Measurement(f"plumd resident, {COUNT:,} endpoints", "MB", (full_mb,), MEMORY_BAR),
        Measurement("plumd resident, no endpoint", "MB", (empty_mb,)),
        Measurement(f"plumd at rest, {COUNT:,} endpoints", "% of a CPU", (rest,)),
    ]


def _rest_percent(node: Node, seconds: float) -> float:
    """Processor used while nothing is asked of it, once it has calmed down."""
    time.sleep(CALM_S)
    used, started = node.cpu_s(), time.monotonic()
    time.sleep(max(seconds, CALM_S))
    return 100 * (node.cpu_s() - used) / (time.monotonic() - started)


@contextmanager
def _workload(zone: Zone, netns: str, device: str, subnet: int) -> Iterator[Manifest]:
    """A namespace on a veth of the first node, as host 1 of the subnet; yields the manifest
    of its endpoint, which is deleted at the end.
    """
    node = zone.nodes[0]
    manifest = endpoint(device, node.name, 4, subnet, 1, {"kind": "veth", "device": device})
    with namespaces(netns):
        ip(node.netns, f"link add {device} type veth peer name eth0 netns {netns}")
        plum.prepare(netns, 4, subnet, 1)
        yield manifest
        zone.delete([manifest])
        # The end of its namespace would take it along, but only some time later.
        ip(node.netns, f"link delete {device}")


def _first_packet_ms(zone: Zone, prefix: str, number: int) -> float:
    """From the request that creates an endpoint to the arrival of what its workload has
    been sending all along.
    """
    ends = Ends(f"{prefix}-c", f"{prefix}-s", address(4, 2, 1))
    with (
        _workload(zone, ends.client_netns, "first", subnet=1) as manifest,
        loadtool.running(
            "probe", ends, 5, protocol="udp", port=OPEN_PORT, interval_ms=1
        ) as probing,
    ):
        created_ns = time.monotonic_ns()
        zone.apply([manifest])
        seen = probing.result(Probe)
    if not seen.through or seen.arrived_ns < created_ns:
        how = "came before its endpoint" if seen.through else "never came"
        raise LoadFailed(f"creation {number}: the first packet {how}")
    return (seen.arrived_ns - created_ns) / 1e6
