"""ENCAPSULATE and DECAPSULATE: bytes on the underlay, and what is taken from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from daemon.abi import Drop, Index, Node
from daemon.compiler.wide import wide
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, checked, echo, payload, ping, tcp, to, udp
from tests.bpf.lab import NEXT_HOP, OK, PATH_MAC, SHOT, Lab, vxlan

pytestmark = pytest.mark.privileged


@pytest.fixture(params=["underlay4", "underlay6"])
def vteps(lab: Lab, request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The zone over an underlay of either family."""
    if request.param == "underlay4":
        return t.VTEPS
    lab.program(t.zone(vteps=t.VTEPS6))
    return t.VTEPS6


def wrapped(frame: Packet | bytes, vni: int, vteps: tuple[str, ...], node: int) -> bytes:
    """What n1 sends to a node, but for the source port, which is a hash."""
    head = Ether(src=PATH_MAC, dst=NEXT_HOP[node])
    src, dst = vteps[0], vteps[node - 1]
    if ":" in src:
        head /= IPv6(src=src, dst=dst, hlim=64)
    else:
        head /= IP(src=src, dst=dst, ttl=64, id=0, flags="DF")
    tunnel = b"\x08\0\0\0" + vni.to_bytes(3, "big") + b"\0" + bytes(frame)
    data = bytearray(bytes(head / UDP(sport=0, dport=4789, chksum=0) / tunnel))
    if ":" in src:
        data[60:62] = bytes(2)  # RFC 6935: no checksum; scapy would fill it in
    return bytes(data)


def without_port(frame: bytes) -> bytes:
    at = 34 if frame[12:14] == b"\x08\0" else 54
    port = int.from_bytes(frame[at : at + 2], "big")
    assert port >= 49152
    return frame[:at] + bytes(2) + frame[at + 2 :]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [0, 1, 18, 100, 1400])
def test_frame_to_another_node_is_wrapped_exactly(
    lab: Lab, vteps: tuple[str, ...], family: int, size: int
) -> None:
    for target, node in (("c", 2), ("f", 3)):
        packet = udp("a", target, family, size=size)
        slow = lab.send("a", packet)
        assert without_port(slow.frame) == wrapped(packet, t.WEB, vteps, node)
        assert slow.sent == {"a": 1} and not slow.received
        with lab.fast_path_only():
            assert lab.send("a", packet).frame == slow.frame


@pytest.mark.parametrize("family", FAMILIES)
def test_wrapped_frame_is_unwrapped_to_the_same_bytes(
    lab: Lab, vteps: tuple[str, ...], family: int
) -> None:
    packet = udp("c", "a", family)
    frame = vxlan(packet, src=vteps[1], dst=vteps[0])
    slow = lab.receive(frame)
    assert (slow.delivered_to, slow.frame) == ("a", bytes(packet))
    assert slow.received == {"a": 1} and not slow.sent
    with lab.fast_path_only():
        fast = lab.receive(frame)
    assert (fast.delivered_to, fast.frame) == ("a", bytes(packet))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_of_ping_and_tcp_crosses(lab: Lab, vteps: tuple[str, ...], family: int) -> None:
    assert lab.send("a", ping("a", "c", family)).tunnel.vni == t.WEB
    reply = vxlan(ping("c", "a", family, reply=True), src=vteps[1], dst=vteps[0])
    assert lab.receive(reply).delivered_to == "a"
    assert lab.send("a", tcp("a", "c", "S", family)).tunnel.vni == t.WEB
    answer = tcp("c", "a", "SA", family, 9, 1001, 80, 40000)
    outcome = lab.receive(vxlan(answer, src=vteps[1], dst=vteps[0]))
    assert outcome.delivered_to == "a"
    assert checked(outcome.frame).haslayer(TCP)


def test_outer_port_is_the_flows_own(lab: Lab) -> None:
    ports = {
        lab.send("a", udp("a", "c", sport=port)).tunnel.outer[UDP].sport
        for port in range(1000, 1040)
    }
    assert len(ports) > 30


@pytest.mark.parametrize("ago_s", [11.0, 0.0])
def test_stale_path_is_left_to_the_kernel(lab: Lab, ago_s: float) -> None:
    if ago_s:
        lab.refresh_paths(ago_s)
    else:
        lab.forget_paths()
    outcome = lab.send("a", udp("a", "c"))
    want = wrapped(udp("a", "c"), t.WEB, t.VTEPS, 2)
    assert outcome.verdict == 7
    assert without_port(outcome.frame)[12:] == want[12:], "the kernel fills in the MACs"
    announce = Ether(src=t.mac("a"), dst=t.mac("c")) / ARP(
        op=2, hwsrc=t.mac("a"), psrc=t.ip4("a"), hwdst=t.mac("c"), pdst=t.ip4("c")
    )
    # For ARP the kernel looks up nothing: the last way known is better than none.
    outcome = lab.send("a", announce)
    assert outcome.drop == (None if ago_s else Drop.NO_PATH)
    assert not ago_s or outcome.frame[:6].hex(":") == NEXT_HOP[2]


def test_path_refreshed_this_very_moment_is_fresh(lab: Lab) -> None:
    """The datapath's clock is coarse: it may be some milliseconds behind plumd's."""
    deadline = time.monotonic() + 0.1
    while time.monotonic() < deadline:
        lab.refresh_paths(0.0)
        frame = lab.send("a", udp("a", "c")).frame
        assert frame[:6].hex(":") == NEXT_HOP[2]


def test_node_without_address_is_no_path(lab: Lab) -> None:
    lab.erase("plum_node", Index(2))
    for _ in range(2):
        assert lab.send("a", udp("a", "c")).drop == Drop.NO_PATH


# ---- what the underlay may send -------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_unknown_vtep_is_dropped_fast_and_slow(
    lab: Lab, vteps: tuple[str, ...], family: int
) -> None:
    packet = udp("c", "a", family)
    good = vxlan(packet, src=vteps[1], dst=vteps[0])
    assert lab.receive(good).delivered_to == "a"
    stranger = "2001:db8:ffff::99" if ":" in vteps[0] else "192.0.2.99"
    for source in (stranger, vteps[0]):
        outcome = lab.receive(vxlan(packet, src=source, dst=vteps[0]))
        assert outcome.drops == {("node", Drop.VTEP): 1}
    assert lab.flow(str(t.WEB)).packets == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": b"\0\0\0\0"},
        {"flags": b"\x88\0\0\0"},
        {"flags": b"\x0c\0\0\0"},
        {"flags": b"\x08\0\0\x01"},
        {"flags": b"\x08\x80\0\0"},
        {"last": 1},
        {"last": 0x80},
    ],
)
def test_flags_and_reserved_bits_must_be_ours(
    lab: Lab, vteps: tuple[str, ...], changes: dict[str, Any]
) -> None:
    packet = udp("c", "a")
    assert lab.receive(vxlan(packet, src=vteps[1], dst=vteps[0])).delivered_to == "a"
    outcome = lab.receive(vxlan(packet, src=vteps[1], dst=vteps[0], **changes))
    assert outcome.drops == {("node", Drop.VXLAN): 1}


@pytest.mark.parametrize("vni", [0, 1, 4999, 6002, 0xFFFFFE])
def test_unknown_vni_is_dropped(lab: Lab, vteps: tuple[str, ...], vni: int) -> None:
    outcome = lab.receive(vxlan(udp("c", "a"), vni, vteps[1], vteps[0]))
    assert outcome.drops == {("node", Drop.VNI): 1}


def test_vni_of_another_bridge_reaches_nobody_of_ours(lab: Lab) -> None:
    assert lab.receive(vxlan(udp("c", "a"), t.APP)).delivered_to is None
    assert lab.receive(vxlan(udp("c", "p"), t.RIVAL)).delivered_to is None
    assert not any(name in lab.copies() for name in ("a", "p"))


def test_frame_for_a_mac_elsewhere_is_not_here(lab: Lab) -> None:
    for target in ("c", "f"):
        outcome = lab.receive(vxlan(udp("f" if target == "c" else "c", target)))
        assert outcome.drops == {("node", Drop.NOT_HERE): 1}


def test_inner_frame_too_short_to_be_cut_out(lab: Lab) -> None:
    inner = Ether(src=t.mac("c"), dst=t.mac("a"), type=0x800) / payload(10)
    assert lab.receive(vxlan(inner)).drops == {("node", Drop.HELPER): 1}


def test_inner_tag_and_foreign_types_are_refused(lab: Lab) -> None:
    tagged = Ether(src=t.mac("c"), dst=t.mac("a")) / Dot1Q(vlan=5) / IP() / payload(60)
    assert lab.receive(vxlan(tagged)).drop == Drop.ETHERTYPE


HOSTS: dict[str, Callable[[], bytes]] = {
    "another port": lambda: vxlan(udp("c", "a"), port=4790),
    "another address": lambda: vxlan(udp("c", "a"), dst="192.0.2.77"),
    "TCP": lambda: bytes(
        Ether() / IP(src=t.VTEPS[1], dst=t.VTEPS[0]) / TCP(dport=4789) / payload(60)
    ),
    "ping": lambda: bytes(Ether() / IP(src=t.VTEPS[1], dst=t.VTEPS[0]) / ICMP() / payload(60)),
    "ARP": lambda: bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP()).ljust(64, b"\0"),
    "fragment": lambda: bytes(
        Ether() / IP(src=t.VTEPS[1], dst=t.VTEPS[0], flags="MF") / UDP(dport=4789) / payload(60)
    ),
    "IP options": lambda: bytes(
        Ether()
        / IP(src=t.VTEPS[1], dst=t.VTEPS[0], options=[IPOption(b"\x01" * 4)])
        / UDP(dport=4789)
        / payload(60)
    ),
    "short": lambda: bytes(
        Ether() / IP(src=t.VTEPS[1], dst=t.VTEPS[0]) / UDP(dport=4789) / payload(4)
    ),
    "IPv6 to another address": lambda: vxlan(
        udp("c", "a"), src="2001:db8:ffff::2", dst="2001:db8:ffff::77"
    ),
    "LLDP": lambda: bytes(Ether(type=0x88CC) / payload(100)),
}


@pytest.mark.parametrize("make", HOSTS.values(), ids=HOSTS)
def test_what_is_not_ours_passes_untouched(lab: Lab, make: Callable[[], bytes]) -> None:
    frame = make()
    outcome = lab.receive(frame)
    assert (outcome.verdict, outcome.frame) == (OK, frame)
    assert not outcome.drops


def test_tenant_cannot_inject_into_a_tunnel_from_outside(lab: Lab) -> None:
    """A frame with the outer addresses of a tunnel, sent by an endpoint."""
    outer = Ether(src=t.mac("a"), dst=t.ONE_MAC) / IP(src=t.VTEPS[1], dst=t.VTEPS[0])
    frame = outer / UDP(sport=4789, dport=4789) / (b"\x08\0\0\0\0\x13\x89\0" + bytes(udp("c", "b")))
    assert lab.send("a", frame).drop == Drop.SOURCE_ADDRESS


def test_rows_of_nodes_may_mix_families(lab: Lab) -> None:
    """Not compiled so, but the address decides, not the other nodes'."""
    lab.write("plum_node", Index(3), Node(wide(ip_address(t.VTEPS6[2]))))
    assert IPv6 in lab.send("a", udp("a", "f")).tunnel.outer
    assert IP in lab.send("a", udp("a", "c")).tunnel.outer


def test_refused_on_arrival_is_counted_for_the_receiver(lab: Lab) -> None:
    lab.program(t.zone(t.shop(default={"ingress": "deny", "egress": "allow"})))
    assert lab.receive(vxlan(udp("c", "a"))).drops == {("a", Drop.POLICY_INGRESS): 1}
    outcome = lab.receive(vxlan(to("c", "10.0.1.11", t.mac("a"), src="10.0.1.13") / echo()))
    assert outcome.drops == {("a", Drop.POLICY_INGRESS): 1}
    assert outcome.verdict == SHOT, "and nobody is told: the sender's node answers its own"
