from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from scapy.layers import inet6 as i6
from scapy.layers.l2 import Ether

from daemon.responders import ra
from daemon.responders.facts import Facts, Gateway, Route6
from tests.responders.conftest import MAC, ROUTER_MAC, raw

GUEST = "fe80::65:ff:fe00:7"


def solicit(src: str = GUEST, hlim: int = 255, mac: str = MAC) -> bytes:
    packet = Ether(src=mac, dst="33:33:00:00:00:02") / i6.IPv6(src=src, dst="ff02::2", hlim=hlim)
    return bytes(packet / i6.ICMPv6ND_RS())


def one(frames: list[bytes]) -> Any:
    assert len(frames) == 1
    packet = Ether(frames[0])
    again = Ether(frames[0])
    del again[i6.ICMPv6ND_RA].cksum
    assert Ether(bytes(again))[i6.ICMPv6ND_RA].cksum == packet[i6.ICMPv6ND_RA].cksum
    assert packet[i6.IPv6].hlim == 255
    return packet


def test_solicitation_is_answered_by_the_router(facts: Facts) -> None:
    packet = one(ra.answer(solicit(), facts))
    assert (packet.src, packet.dst) == (ROUTER_MAC, MAC)
    assert (packet[i6.IPv6].src, packet[i6.IPv6].dst) == ("fe80::72:ff:fe00:1", GUEST)
    advert = packet[i6.ICMPv6ND_RA]
    assert (advert.M, advert.O, advert.routerlifetime) == (1, 1, 9000)
    prefix = packet[i6.ICMPv6NDOptPrefixInfo]
    assert (prefix.prefix, prefix.prefixlen, prefix.L, prefix.A) == ("fd00:1::", 64, 1, 0)
    assert packet[i6.ICMPv6NDOptMTU].mtu == 1430
    assert packet[i6.ICMPv6NDOptSrcLLAddr].lladdr == ROUTER_MAC
    assert packet[i6.ICMPv6NDOptRDNSS].dns == ["fd00::53"]
    assert packet[i6.ICMPv6NDOptDNSSL].searchlist == ["shop.example.", "example."]


def test_unspecified_source_is_answered_to_all_nodes(facts: Facts) -> None:
    packet = one(ra.answer(solicit(src="::"), facts))
    assert (packet.dst, packet[i6.IPv6].dst) == ("33:33:00:00:00:01", "ff02::1")


def test_unsolicited_goes_to_all_nodes(facts: Facts) -> None:
    assert one(ra.unsolicited(facts))[i6.IPv6].dst == "ff02::1"


def test_bridge_without_router_is_no_default_route(facts: Facts) -> None:
    packet = one(ra.answer(solicit(), replace(facts, gateways=())))
    assert packet[i6.ICMPv6ND_RA].routerlifetime == 0
    assert packet[i6.ICMPv6NDOptPrefixInfo].prefix == "fd00:1::"


def test_every_router_of_the_bridge_advertises(facts: Facts) -> None:
    second = Gateway(raw("02:72:00:00:00:02"), (), facts.gateways[0].addresses6)
    frames = ra.unsolicited(replace(facts, gateways=(*facts.gateways, second)))
    assert [Ether(frame).src for frame in frames] == [ROUTER_MAC, "02:72:00:00:00:02"]


def test_bridge_without_ipv6_is_silent(facts: Facts) -> None:
    only4 = Gateway(raw(ROUTER_MAC), facts.gateways[0].addresses4)
    silent = replace(facts, gateways=(only4,), subnets6=(), addresses6=())
    assert ra.answer(solicit(), silent) == []
    assert ra.unsolicited(silent) == []


def test_routes_through_the_router_are_told(facts: Facts) -> None:
    routes = (
        Route6(IPv6Network("fd00:9::/48"), IPv6Address("fd00:1::1")),
        Route6(IPv6Network("fd00:8::/48"), IPv6Address("fd00:1::99")),
    )
    packet = one(ra.unsolicited(replace(facts, routes6=routes)))
    option = packet[i6.ICMPv6NDOptRouteInfo]
    assert (option.prefix, option.plen) == ("fd00:9::", 48)
    assert i6.ICMPv6NDOptRouteInfo not in option.payload


def test_forged_solicitations_get_no_answer(facts: Facts) -> None:
    assert ra.answer(solicit(hlim=64), facts) == []
    assert ra.answer(solicit(mac="02:00:00:00:00:99"), facts) == []
    broken = bytearray(solicit())
    broken[-1] ^= 1
    assert ra.answer(bytes(broken), facts) == []
