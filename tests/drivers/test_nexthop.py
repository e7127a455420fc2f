"""Next hops, against a neighbour in another namespace."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from daemon.drivers.netlink import Netlink
from daemon.drivers.nexthop import NextHop, NextHops

pytestmark = pytest.mark.privileged


def ip(namespace: Path, *commands: str) -> None:
    for command in commands:
        arguments = ["nsenter", f"--net={namespace}", "ip", *command.split()]
        subprocess.run(arguments, check=True, capture_output=True)


@pytest.fixture
def other(node: Path, make_namespace: Callable[[], Path]) -> Path:
    """A neighbour of the node, and a router to everywhere else."""
    other = make_namespace()
    ip(node, f"link add under address 02:00:00:00:00:01 type veth peer name far netns {other.name}")
    ip(other, "link set far address 02:00:00:00:00:02")
    for namespace, device, last in ((node, "under", 1), (other, "far", 2)):
        ip(
            namespace,
            f"link set {device} up",
            f"addr add 192.0.2.{last}/24 dev {device}",
            f"addr add 2001:db8::{last}/64 dev {device} nodad",
        )
    ip(node, "route add default via 192.0.2.2", "-6 route add default via 2001:db8::2")
    return other


def resolve(kernel: Netlink, *addresses: str) -> dict[str, NextHop]:
    """As plumd does: again and again, while the kernel asks the neighbours."""
    wanted = [ip_address(address) for address in addresses]
    deadline = time.monotonic() + 5
    while True:
        found = NextHops(kernel).resolve(wanted)
        if len(found) == len(wanted) or time.monotonic() > deadline:
            return {str(address): hop for address, hop in found.items()}
        time.sleep(0.05)


def test_neighbours_and_routers_are_found(kernel: Netlink, other: Path) -> None:
    addresses = ("192.0.2.2", "198.51.100.9", "2001:db8::2", "2001:db8:9::9")
    found = resolve(kernel, *addresses)
    assert set(found) == set(addresses)
    for hop in found.values():
        assert (hop.source_mac.hex(":"), hop.mac.hex(":")) == (
            "02:00:00:00:00:01",
            "02:00:00:00:00:02",
        )


def test_what_has_no_route_is_left_out(kernel: Netlink, node: Path, other: Path) -> None:
    ip(node, "route del default")
    found = NextHops(kernel).resolve([ip_address("198.51.100.9")])
    assert found == {}


def test_a_neighbour_that_moves_is_found_again(kernel: Netlink, other: Path) -> None:
    resolve(kernel, "192.0.2.2")
    ip(other, "link set far address 02:00:00:00:00:99", "neigh flush dev far")
    subprocess.run(
        ["nsenter", f"--net={other}", "ping", "-c1", "-W2", "192.0.2.1"],
        check=True,
        capture_output=True,
    )
    deadline = time.monotonic() + 8
    while resolve(kernel, "192.0.2.2")["192.0.2.2"].mac.hex(":") != "02:00:00:00:00:99":
        assert time.monotonic() < deadline
        time.sleep(0.1)
