"""The underlay device: found by address, GRO on, the idle VXLAN socket closed to all."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from daemon.datapath.loader import Datapath
from daemon.drivers import underlay
from daemon.drivers.filters import Filters
from daemon.drivers.links import Links, Veth
from daemon.drivers.netlink import Netlink
from daemon.drivers.netns import Inside, configure, entered, netlink_in

pytestmark = pytest.mark.privileged

MakeNamespace = Callable[[], Path]
VTEPS = [ip_address("192.0.2.7"), ip_address("2001:db8::7")]


def run(namespace: Path, *command: str) -> str:
    whole = ["nsenter", f"--net={namespace}", *command]
    return subprocess.run(whole, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def fabric(node: Path, make_namespace: MakeNamespace) -> Path:
    """The node's neighbour on the underlay; the node holds both VTEP addresses."""
    outside = make_namespace()
    with netlink_in(outside) as kernel:
        pair = Veth("fabric", "", node, "under0", "02:00:00:00:00:99", 1600)
        made = Links(kernel).create(pair)
        inside = Inside((ip_interface("192.0.2.7/24"), ip_interface("2001:db8::7/64")))
        configure(node, "under0", made.peer_index, inside)
        configure(outside, "fabric", made.index, Inside((ip_interface("192.0.2.1/24"),)))
    return outside


@pytest.mark.parametrize("vtep", VTEPS, ids=str)
def test_underlay_is_found_by_its_address(
    kernel: Netlink, fabric: Path, vtep: IPv4Address | IPv6Address
) -> None:
    found = underlay.find(kernel, vtep)
    under0 = Links(kernel).find("under0")
    assert found is not None and under0 is not None
    assert (found.name, found.mtu, found.index) == ("under0", 1600, under0.index)
    assert underlay.find(kernel, ip_address("192.0.2.8")) is None


def test_gro_is_switched_on(node: Path, fabric: Path) -> None:
    assert "generic-receive-offload: off" in run(node, "ethtool", "-k", "under0")
    with entered(node):
        underlay.enable_gro("under0")
    assert "generic-receive-offload: on" in run(node, "ethtool", "-k", "under0")


@pytest.mark.parametrize("vtep", VTEPS, ids=str)
def test_idle_socket_is_open_and_survives_a_second_start(
    kernel: Netlink,
    node: Path,
    fabric: Path,
    programs: Datapath,
    vtep: IPv4Address | IPv6Address,
) -> None:
    program = programs.programs["t_drop"]
    for _ in range(2):
        underlay.ensure_gro_device(kernel, vtep, program.fd, "t_drop")
    assert ":4789" in run(node, "ss", "-uanH")
    device = Links(kernel).find(underlay.GRO_DEVICE)
    assert device is not None and device.up
    assert Filters(kernel).attached([device.index])[device.index].program_id == program.id
    (shown,) = json.loads(run(node, "ip", "-j", "addr", "show", underlay.GRO_DEVICE))
    assert shown["addr_info"] == []


def test_frame_injected_into_the_idle_socket_dies_at_its_filter(
    kernel: Netlink, node: Path, fabric: Path, programs: Datapath
) -> None:
    underlay.ensure_gro_device(kernel, VTEPS[0], programs.programs["t_drop"].fd, "t_drop")
    (shown,) = json.loads(run(node, "ip", "-j", "link", "show", underlay.GRO_DEVICE))
    inner = Ether(src="02:00:00:00:00:01", dst=shown["address"])
    inner = inner / IP(src="192.0.2.1", dst="192.0.2.7") / ICMP()
    frame = bytes(VXLAN(vni=underlay.GRO_VNI, flags=0x8) / inner)

    def injected() -> tuple[int, int]:
        """ICMP echo requests the node's stack saw, packets the device took."""
        icmp = [line.split() for line in run(node, "cat", "/proc/net/snmp").splitlines()]
        names, values = [words for words in icmp if words[0] == "Icmp:"]
        stats = json.loads(run(node, "ip", "-j", "-s", "link", "show", underlay.GRO_DEVICE))
        return int(values[names.index("InEchos")]), stats[0]["stats64"]["rx"]["packets"]

    with entered(fabric):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        for _ in range(5):
            sender.sendto(frame, ("192.0.2.7", underlay.VXLAN_PORT))
    deadline = time.monotonic() + 2
    while (seen := injected()) != (0, 5):
        assert time.monotonic() < deadline, seen
        time.sleep(0.01)
