"""Rates on the wire: what TCP gets through, and what one endpoint's rate is to another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.zone import Guest, Zone, domain, endpoint, tenant, until

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(120)]

TENANT = "t-sys-qos"
SECONDS = 3
BRIDGES = [
    {"name": "lan", "subnets": ["10.60.1.0/24", "fd00:60::/64"]},
]
#: Node of each.
PLACES = {"a": "n1", "b": "n2", "c": "n1"}


@pytest.fixture(scope="module")
def guests(zone_of_three: Zone) -> Iterator[dict[str, Guest]]:
    zone_of_three.apply([tenant(TENANT), domain(TENANT, "d", BRIDGES)])
    programmed(zone_of_three)
    yield {name: zone_of_three.guest(f"{TENANT}/d/{name}") for name in PLACES}
    zone_of_three.drop_tenant(TENANT)


def programmed(plum: Zone, **qos: Any) -> None:
    """Every endpoint; `a` with this quality of service."""
    plum.apply(
        [
            endpoint(f"{TENANT}/d/{name}", "lan", node, **({"qos": qos} if name == "a" else {}))
            for name, node in PLACES.items()
        ]
    )


def mbit(sender: Guest, receiver: Guest, family: int = 4) -> float:
    """What TCP delivers, in 1e6 bits of payload a second, once it has found its pace."""
    server = receiver.start("iperf3", "-s", "-1")
    try:
        until(lambda: ":5201" in receiver.run("ss", "-Hltn"))
        flags = ("-c", receiver.ip(family), "-t", str(SECONDS), "-O", "1", "-J")
        said = json.loads(sender.run("iperf3", *flags, timeout_s=SECONDS + 20))
    finally:
        server.kill()
        server.communicate()
    return float(said["end"]["sum_received"]["bits_per_second"]) / 1e6


@pytest.mark.parametrize(
    ("direction", "peer", "rate", "family"),
    [("egress", "b", 20, 4), ("egress", "c", 100, 4), ("ingress", "b", 100, 6)],
)
def test_tcp_gets_the_rate_within_five_percent(
    plum: Zone, guests: dict[str, Guest], direction: str, peer: str, rate: int, family: int
) -> None:
    programmed(plum, **{direction: {"rate_kbit": rate * 1000}})
    ends = (guests["a"], guests[peer])
    sender, receiver = ends if direction == "egress" else ends[::-1]
    reached = mbit(sender, receiver, family)
    assert 0.95 * rate <= reached <= 1.05 * rate
    assert plum.dropped("LIMIT", f"{TENANT}/d/a") > 0


def test_the_other_direction_and_other_endpoints_are_not_held_up(
    plum: Zone, guests: dict[str, Guest]
) -> None:
    programmed(plum, egress={"rate_kbit": 2000})
    assert mbit(guests["b"], guests["a"]) > 20
    assert mbit(guests["c"], guests["b"]) > 20
