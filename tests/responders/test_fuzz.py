"""Whatever a tenant sends: no exception, and every answer is well-formed and its own."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, IPv6Network

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers import dhcp6 as d6
from scapy.layers.dhcp import BOOTP
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, IPv6
from scapy.layers.l2 import Ether

from daemon.responders.facts import Facts, Gateway
from daemon.responders.service import answers_to
from tests.responders import test_dhcp4, test_dhcp6, test_ra
from tests.responders.conftest import MAC, ROUTER_MAC, raw

FACTS = Facts(
    name="web-1",
    ifindex=9,
    mac=raw(MAC),
    addresses4=(IPv4Interface("10.0.0.7/24"),),
    addresses6=(IPv6Interface("fd00:1::7/64"),),
    subnets6=(IPv6Network("fd00:1::/64"),),
    gateways=(
        Gateway(raw(ROUTER_MAC), (IPv4Interface("10.0.0.1/24"),), (IPv6Interface("fd00:1::1/64"),)),
    ),
    dns4=(IPv4Address("10.0.0.53"),),
)

SEEDS = {
    "dhcp4": [
        test_dhcp4.ask("discover", ("max_dhcp_size", 1500)),
        test_dhcp4.ask("request", ("server_id", "10.0.0.1"), ("requested_addr", "10.0.0.7")),
        test_dhcp4.ask("inform", ciaddr="10.0.0.7"),
    ],
    "dhcp6": [
        test_dhcp6.ask(d6.DHCP6_Solicit, test_dhcp6.ia("fd00:1::7"), d6.DHCP6OptRapidCommit()),
        test_dhcp6.ask(d6.DHCP6_Request, test_dhcp6.our_id(FACTS), test_dhcp6.ia("fd00:1::8")),
        test_dhcp6.ask(d6.DHCP6_Confirm, test_dhcp6.ia("fd00:1::7")),
    ],
    "ra": [test_ra.solicit(), test_ra.solicit(src="::")],
}


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    kind = draw(st.sampled_from(sorted(SEEDS)))
    frame = bytearray(draw(st.sampled_from(SEEDS[kind])))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(frame) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                frame[at] = draw(st.integers(0, 255))
            case 1:
                del frame[at:]
            case 2:
                frame[at:at] = draw(st.binary(max_size=40))
            case 3:
                frame[at] ^= 1 << draw(st.integers(0, 7))
        if not frame:
            break
    return kind, bytes(frame)


def check(kind: str, frame: bytes) -> None:
    for answer in answers_to(kind, frame, FACTS):
        packet = Ether(answer)
        assert packet.src == ROUTER_MAC
        assert packet.dst in (MAC, "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01")
        assert len(answer) <= 14 + FACTS.mtu_bytes
        if kind == "dhcp4":
            assert packet[IP].len == len(answer) - 14
            assert packet[UDP].dport == 68
            assert packet[BOOTP].yiaddr in ("10.0.0.7", "0.0.0.0")
        else:
            assert packet[IPv6].plen == len(answer) - 54
            assert (ICMPv6ND_RA in packet) == (kind == "ra")


@settings(max_examples=1500, deadline=None)
@given(mutated())
def test_mutated_requests_never_raise_nor_get_nonsense(case: tuple[str, bytes]) -> None:
    check(*case)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(SEEDS)), st.binary(max_size=600))
def test_random_bytes_never_raise(kind: str, frame: bytes) -> None:
    check(kind, frame)
    ethernet = b"\xff" * 6 + raw(MAC)
    check(kind, ethernet + (b"\x08\x00" if kind == "dhcp4" else b"\x86\xdd") + frame)
