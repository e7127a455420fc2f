from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scapy.layers import dhcp6 as d6
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from daemon.responders import dhcp6
from daemon.responders.facts import Facts
from tests.responders.conftest import MAC, ROUTER_MAC, raw

CLIENT = "fe80::65:ff:fe00:7"
ALL_SERVERS = "ff02::1:2"


def client_id() -> Any:
    return d6.DHCP6OptClientId(duid=d6.DUID_LL(lladdr=MAC))


def our_id(facts: Facts) -> Any:
    return d6.DHCP6OptServerId(duid=d6.DUID_LL(lladdr=ROUTER_MAC))


def ia(*addresses: str, iaid: int = 5) -> Any:
    return d6.DHCP6OptIA_NA(
        iaid=iaid, ianaopts=[d6.DHCP6OptIAAddress(addr=address) for address in addresses]
    )


def ask(
    message: Any, *options: Any, client: bool = True, dst: str = ALL_SERVERS, src: str = CLIENT
) -> bytes:
    packet = (
        Ether(src=MAC, dst="33:33:00:01:00:02")
        / IPv6(src=src, dst=dst)
        / UDP(sport=546, dport=547)
        / message(trid=0xABCDEF)
    )
    for option in ([client_id()] if client else []) + list(options):
        packet = packet / option
    return bytes(packet)


def answered(frame: bytes | None, message: Any) -> Any:
    assert frame is not None
    packet = Ether(frame)
    assert (packet.src, packet.dst) == (ROUTER_MAC, MAC)
    assert (packet[IPv6].src, packet[IPv6].dst) == ("fe80::72:ff:fe00:1", CLIENT)
    assert (packet[UDP].sport, packet[UDP].dport) == (547, 546)
    assert message in packet, packet.summary()
    assert packet[message].trid == 0xABCDEF
    again = Ether(frame)
    del again[UDP].chksum
    assert Ether(bytes(again))[UDP].chksum == packet[UDP].chksum
    assert packet[d6.DHCP6OptServerId].duid.lladdr == ROUTER_MAC
    return packet


def addresses(packet: Any) -> dict[str, int]:
    options = packet[d6.DHCP6OptIA_NA].ianaopts
    return {o.addr: o.validlft for o in options if isinstance(o, d6.DHCP6OptIAAddress)}


def test_solicit_is_advertised_the_endpoints_addresses(facts: Facts) -> None:
    packet = answered(dhcp6.answer(ask(d6.DHCP6_Solicit, ia()), facts), d6.DHCP6_Advertise)
    assert addresses(packet) == {"fd00:1::7": 3600}
    assert packet[d6.DHCP6OptIA_NA].iaid == 5
    assert packet[d6.DHCP6OptDNSServers].dnsservers == ["fd00::53"]
    assert [n.rstrip(b".") for n in map(_bytes, packet[d6.DHCP6OptDNSDomains].dnsdomains)] == [
        b"shop.example",
        b"example",
    ]


def _bytes(name: str | bytes) -> bytes:
    return name if isinstance(name, bytes) else name.encode()


def test_rapid_commit_is_answered_at_once(facts: Facts) -> None:
    frame = ask(d6.DHCP6_Solicit, ia(), d6.DHCP6OptRapidCommit())
    packet = answered(dhcp6.answer(frame, facts), d6.DHCP6_Reply)
    assert d6.DHCP6OptRapidCommit in packet
    assert addresses(packet) == {"fd00:1::7": 3600}


@pytest.mark.parametrize("message", [d6.DHCP6_Request, d6.DHCP6_Renew])
def test_request_and_renew_give_the_addresses(facts: Facts, message: Any) -> None:
    frame = ask(message, our_id(facts), ia("fd00:1::7", "fd00:1::dead"))
    packet = answered(dhcp6.answer(frame, facts), d6.DHCP6_Reply)
    assert addresses(packet) == {"fd00:1::7": 3600, "fd00:1::dead": 0}


def test_rebind_needs_no_server(facts: Facts) -> None:
    packet = answered(dhcp6.answer(ask(d6.DHCP6_Rebind, ia("fd00:1::7")), facts), d6.DHCP6_Reply)
    assert addresses(packet) == {"fd00:1::7": 3600}


@pytest.mark.parametrize(
    ("address", "code"), [("fd00:1::7", 0), ("fd00:2::7", 4), ("fd00:1::8", 4)]
)
def test_confirm_knows_the_own_addresses(facts: Facts, address: str, code: int) -> None:
    packet = answered(dhcp6.answer(ask(d6.DHCP6_Confirm, ia(address)), facts), d6.DHCP6_Reply)
    assert packet[d6.DHCP6OptStatusCode].statuscode == code


def test_release_is_acknowledged(facts: Facts) -> None:
    frame = ask(d6.DHCP6_Release, our_id(facts), ia("fd00:1::7"))
    packet = answered(dhcp6.answer(frame, facts), d6.DHCP6_Reply)
    assert packet[d6.DHCP6OptStatusCode].statuscode == 0


def test_information_request_gets_settings_only(facts: Facts) -> None:
    frame = ask(d6.DHCP6_InfoRequest, client=False)
    packet = answered(dhcp6.answer(frame, facts), d6.DHCP6_Reply)
    assert d6.DHCP6OptIA_NA not in packet
    assert packet[d6.DHCP6OptDNSServers].dnsservers == ["fd00::53"]


def test_a_second_association_and_delegation_are_refused(facts: Facts) -> None:
    delegation = d6.DHCP6OptIA_PD(iaid=9)
    frame = ask(d6.DHCP6_Solicit, ia(iaid=5), ia(iaid=6), delegation)
    packet = answered(dhcp6.answer(frame, facts), d6.DHCP6_Advertise)
    second = packet[d6.DHCP6OptIA_NA].payload
    assert second[d6.DHCP6OptIA_NA].iaid == 6
    assert second[d6.DHCP6OptIA_NA].ianaopts[0].statuscode == 2
    assert packet[d6.DHCP6OptIA_PD].iapdopt[0].statuscode == 6


def test_messages_for_another_server_get_no_answer(facts: Facts) -> None:
    other = d6.DHCP6OptServerId(duid=d6.DUID_LL(lladdr="02:00:00:00:00:99"))
    assert dhcp6.answer(ask(d6.DHCP6_Request, other, ia()), facts) is None
    assert dhcp6.answer(ask(d6.DHCP6_Request, ia()), facts) is None
    assert dhcp6.answer(ask(d6.DHCP6_Solicit, our_id(facts), ia()), facts) is None
    assert dhcp6.answer(ask(d6.DHCP6_Solicit, ia(), client=False), facts) is None
    assert dhcp6.answer(ask(d6.DHCP6_Advertise, our_id(facts), ia()), facts) is None


def test_only_link_local_multicast_is_served(facts: Facts) -> None:
    assert dhcp6.answer(ask(d6.DHCP6_Solicit, ia(), dst="fd00:1::1"), facts) is None
    assert dhcp6.answer(ask(d6.DHCP6_Solicit, ia(), src="fd00:1::7"), facts) is None


def test_endpoint_without_ipv6_is_told_so(facts: Facts) -> None:
    frame = dhcp6.answer(ask(d6.DHCP6_Solicit, ia()), replace(facts, addresses6=()))
    packet = answered(frame, d6.DHCP6_Advertise)
    assert packet[d6.DHCP6OptIA_NA].ianaopts[0].statuscode == 2


def test_other_macs_get_no_answer(facts: Facts) -> None:
    frame = ask(d6.DHCP6_Solicit, ia())
    assert dhcp6.answer(frame, replace(facts, mac=raw("02:00:00:00:00:99"))) is None
