"""Endpoints of every kind: brought, found, moved, made again, and what their end leaves."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from daemon.drivers.links import device_name
from daemon.drivers.netns import entered
from plumctl.errors import PlumError
from plumctl.run import run
from plumctl.sandbox import fabric
from tests.system.zone import Guest, Zone, domain, echoed, endpoint, tenant, until

TENANT = "t-sys-kind"
LAB = f"{TENANT}/lab"
OUTSIDE = "t-sys-outside"  # a namespace of somebody else
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


@pytest.fixture(scope="module")
def peer(zone_of_three: Zone) -> Iterator[Guest]:
    bridges = [{"name": "lan", "subnets": ["10.5.1.0/24", "fd05:1::/64"]}]
    zone_of_three.apply(
        [
            tenant(TENANT),
            domain(TENANT, "lab", bridges),
            endpoint(f"{LAB}/peer", "lan", "n2", "10.5.1.2", "fd05:1::2"),
        ]
    )
    yield zone_of_three.guest(f"{LAB}/peer")
    zone_of_three.drop_tenant(TENANT)


@pytest.fixture
def outside() -> Iterator[str]:
    run("ip", "netns", "add", OUTSIDE)
    yield OUTSIDE
    run("ip", "netns", "del", OUTSIDE)


def links(zone: Zone, node: str) -> str:
    return zone.on(node, "ip", "-o", "link", "show")


def test_namespace_of_ours_goes_with_its_endpoint(plum: Zone, peer: Guest) -> None:
    path = f"{LAB}/own"
    plum.apply([endpoint(path, "lan", "n1", "10.5.1.10", "fd05:1::10")])
    guest = plum.guest(path)
    echoed(guest, peer)
    plum.delete(("endpoint", path))
    assert guest.namespace not in fabric.namespaces()
    assert path not in links(plum, "n1")


def test_namespace_of_others_stays_without_our_device(
    plum: Zone, peer: Guest, outside: str
) -> None:
    path = f"{LAB}/guest"
    attach = {"namespace": outside, "device": "nic7"}
    plum.apply([endpoint(path, "lan", "n1", "10.5.1.11", "fd05:1::11", attach=attach)])
    guest = plum.guest(path)
    echoed(guest, peer, family=6)
    plum.delete(("endpoint", path))
    assert outside in fabric.namespaces()
    assert "nic7" not in guest.run("ip", "-o", "link")


def veth(zone: Zone, node: str, name: str, namespace: str) -> Guest:
    """A pair somebody else made: one end on the node, one configured in a namespace."""
    zone.on(node, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns",
            namespace)  # fmt: skip
    guest = Guest("", namespace, addresses=("10.5.1.20", "fd05:1::20"))
    guest.run("ip", "link", "set", "eth0", "up", "mtu", "1400", "address", "02:00:00:00:05:20")
    guest.run("ip", "addr", "add", "10.5.1.20/24", "dev", "eth0")
    guest.run("ip", "addr", "add", "fd05:1::20/64", "dev", "eth0", "nodad")
    return guest


@pytest.mark.parametrize("name", ["port5", "plug0"])
def test_veth_of_others_is_adopted_and_let_go(
    plum: Zone, peer: Guest, outside: str, name: str
) -> None:
    path = f"{LAB}/adopted"
    guest = veth(plum, "n1", name, outside)
    spec = {"mac": "02:00:00:00:05:20", "attach": {"kind": "veth", "device": name}}
    plum.apply([endpoint(path, "lan", "n1", "10.5.1.20", "fd05:1::20", **spec)])
    for family in (4, 6):
        echoed(guest, peer, family=family)
        echoed(peer, guest, family=family)
    plum.delete(("endpoint", path))
    shown = plum.on("n1", "ip", "link", "show", name)
    assert "plum:" not in shown
    assert "state DOWN" in shown  # without our filter it would lead to the host
    assert plum.on("n1", "tc", "filter", "show", "dev", name, "ingress") == ""
    assert "10.5.1.20/24" in guest.run("ip", "addr")
    plum.on("n1", "ip", "link", "del", name)


def test_missing_device_is_said_and_heals(plum: Zone, peer: Guest, outside: str) -> None:
    path = f"{LAB}/late"
    spec = {"mac": "02:00:00:00:05:20", "attach": {"kind": "veth", "device": "late0"}}
    plum.apply([endpoint(path, "lan", "n3", "10.5.1.20", "fd05:1::20", **spec)], wait=False)
    view = until(lambda: (v := plum.view(path)).reason and "late0" in v.reason and v)
    assert view.state in ("pending", "error")
    assert "not there" in view.reason
    guest = veth(plum, "n3", "late0", outside)
    started = time.monotonic()
    until(lambda: plum.view(path).state == "programmed", 6)
    assert time.monotonic() - started < 3
    echoed(guest, peer)
    plum.on("n3", "ip", "link", "del", "late0")  # it goes again ...
    until(lambda: "late0" in plum.view(path).reason)
    guest = veth(plum, "n3", "late0", outside)  # ... and is there again
    until(lambda: plum.view(path).state == "programmed", 6)
    echoed(peer, guest)
    plum.delete(("endpoint", path))
    plum.on("n3", "ip", "link", "del", "late0")


def test_device_of_another_kind_and_of_another_endpoint_are_errors(
    plum: Zone, peer: Guest, outside: str
) -> None:
    veth(plum, "n3", "nontap", outside)
    paths = [f"{LAB}/wrong", f"{LAB}/first", f"{LAB}/second"]
    attach = {"kind": "veth", "device": "nontap"}
    plum.apply([endpoint(paths[0], "lan", "n3", attach={"kind": "tap", "device": "nontap"})],
               wait=False)  # fmt: skip
    until(lambda: "is of kind veth" in plum.view(paths[0]).reason)
    assert plum.view(paths[0]).state == "error"
    plum.delete(("endpoint", paths[0]))
    with pytest.raises(PlumError, match="belongs to endpoint"):
        plum.apply([endpoint(path, "lan", "n3", attach=attach) for path in paths[1:]])
    plum.on("n3", "ip", "link", "del", "nontap")


def test_tap_carries_a_guest_that_is_a_process(plum: Zone, peer: Guest) -> None:
    path = f"{LAB}/vm"
    with entered(plum.namespace("n1")):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"tap5", IFF_TAP | IFF_NO_PI))
    attach = {"kind": "tap", "device": "tap5"}
    plum.apply([endpoint(path, "lan", "n1", "10.5.1.30", "fd05:1::30", attach=attach)])
    mac = plum.guest(path).mac

    def read(wanted: type) -> Ether:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if select.select([fd], [], [], 0.5)[0]:
                frame = Ether(os.read(fd, 2000))
                if wanted in frame:
                    return frame
        raise AssertionError(f"no {wanted} for the guest")

    try:
        ask = ARP(hwsrc=mac, psrc="10.5.1.30", pdst=peer.ip())
        os.write(fd, bytes(Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ask))
        answer = read(ARP)
        assert (answer[ARP].op, answer[ARP].hwsrc) == (2, peer.mac)
        with peer.udp(7) as there:
            hello = UDP(sport=9, dport=7) / Raw(b"hello")
            ends = IP(src="10.5.1.30", dst=peer.ip())
            os.write(fd, bytes(Ether(src=mac, dst=peer.mac) / ends / hello))
            text, sender = there.recvfrom(10)
            assert (text, sender) == (b"hello", ("10.5.1.30", 9))
            there.sendto(b"h" * 1400, sender)  # the peer asks for the address, and is answered
            reply = read(UDP)
            assert bytes(reply[Raw]) == b"h" * 1400
            assert (reply.src, reply.dst) == (peer.mac, mac)
        plum.delete(("endpoint", path))
        shown = plum.on("n1", "ip", "link", "show", "tap5")
        assert "state DOWN" in shown and "plum:" not in shown
    finally:
        os.close(fd)


@pytest.mark.parametrize("family", [4, 6])
def test_endpoint_that_moves_takes_its_peers_along(plum: Zone, peer: Guest, family: int) -> None:
    """A peer goes on with the very same flow: same tuple, other node."""
    path = f"{LAB}/nomad"

    def place(node: str) -> Guest:
        plum.apply([endpoint(path, "lan", node, "10.5.1.40", "fd05:1::40")])
        return plum.guest(path)

    def heard(guest: Guest, here: socket.socket) -> bool:
        # The sandbox's nodes share one machine: the one that is left may delete the
        # namespace after the new one found it, which is then made again.
        with suppress(OSError), guest.udp(7, family) as there:
            there.settimeout(0.2)
            here.sendto(b"hello", (guest.ip(family), 7))
            text, sender = there.recvfrom(10)
            there.sendto(b"answer", sender)
            return (text, here.recv(10)) == (b"hello", b"answer")
        return False

    with peer.udp(4000, family) as here:
        here.settimeout(0.2)
        for node in ("n1", "n2", "n3", "n1"):
            guest = place(node)
            until(lambda guest=guest: heard(guest, here), 3)
    for node in ("n2", "n3"):
        assert path not in links(plum, node)
    plum.delete(("endpoint", path))
    until(lambda: guest.namespace not in fabric.namespaces())


def test_endpoint_made_again_under_its_name_is_a_new_one(plum: Zone, peer: Guest) -> None:
    path = f"{LAB}/phoenix"
    ids = set()
    for number in (50, 51, 50):
        plum.apply([endpoint(path, "lan", "n1", f"10.5.1.{number}", f"fd05:1::{number}")])
        peer.run("ip", "neigh", "flush", "dev", "eth0")
        guest = plum.guest(path)
        echoed(peer, guest)
        assert f"10.5.1.{number}/24" in guest.run("ip", "addr")
        ids.add(plum.view(path).allocated["id"])
        plum.delete(("endpoint", path))
    assert len(ids) == 3


def test_address_can_change_while_the_endpoint_stays(plum: Zone, peer: Guest) -> None:
    path = f"{LAB}/renamed"
    for number in (60, 61):
        plum.apply([endpoint(path, "lan", "n1", f"10.5.1.{number}", f"fd05:1::{number}")])
        guest = plum.guest(path)
        echoed(peer, guest)
        echoed(guest, peer, family=6)
    assert "10.5.1.60/24" not in guest.run("ip", "addr")
    plum.delete(("endpoint", path))


def test_foreign_device_in_the_way_is_left_alone(plum: Zone, peer: Guest) -> None:
    """Somebody's device has the very name ours would get."""
    first, path = f"{LAB}/before", f"{LAB}/blocked"
    plum.apply([endpoint(first, "lan", "n1")])
    name = device_name(plum.view(first).allocated["id"] + 1)
    plum.on("n1", "ip", "link", "add", name, "type", "veth", "peer", "name", "foreign")
    plum.apply([endpoint(path, "lan", "n1")], wait=False)
    until(lambda: "in the way" in plum.view(path).reason)
    assert name in links(plum, "n1")
    plum.on("n1", "ip", "link", "del", name)
    until(lambda: plum.view(path).state == "programmed", 6)
    echoed(peer, plum.guest(path))
    plum.delete(("endpoint", first), ("endpoint", path))
