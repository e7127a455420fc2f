from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from daemon.responders import dhcp4
from daemon.responders.facts import VIRTUAL_SERVER4, VIRTUAL_SERVER_MAC, Facts, Route4
from tests.responders.conftest import MAC, ROUTER_MAC, raw


def ask(
    kind: str, *options: tuple[str, Any], mac: str = MAC, chaddr: str = MAC, **bootp: Any
) -> bytes:
    packet = (
        Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
        / IP(src=bootp.get("ciaddr", "0.0.0.0"), dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / BOOTP(chaddr=raw(chaddr), xid=0x1234, **bootp)
        / DHCP(options=[("message-type", kind), *options, "end"])
    )
    return bytes(packet)


def told(frame: bytes | None) -> dict[str, Any]:
    assert frame is not None
    options: dict[str, Any] = {}
    for option in Ether(frame)[DHCP].options:
        if isinstance(option, tuple):
            options[str(option[0])] = option[1] if len(option) == 2 else list(option[1:])
    return options


def codes(options: bytes, wanted: int) -> Iterator[bytes]:
    """Values of every option with a code, as they lie in the message."""
    while options and options[0] != 255:
        if options[0] == wanted:
            yield options[2 : 2 + options[1]]
        options = options[2 + options[1] :]


def test_discover_is_offered_the_endpoints_address_with_its_options(facts: Facts) -> None:
    frame = dhcp4.answer(ask("discover"), facts)
    assert frame is not None
    packet = Ether(frame)
    assert (packet.src, packet.dst) == (ROUTER_MAC, MAC)
    assert (packet[IP].src, packet[IP].dst) == ("10.0.0.1", "10.0.0.7")
    assert (packet[UDP].sport, packet[UDP].dport) == (67, 68)
    assert packet[BOOTP].yiaddr == "10.0.0.7"
    assert packet[BOOTP].xid == 0x1234
    options = told(frame)
    assert options["message-type"] == 2
    assert options["server_id"] == "10.0.0.1"
    assert options["subnet_mask"] == "255.255.255.0"
    assert options["router"] == "10.0.0.1"
    assert options["name_server"] == ["10.0.0.53", "9.9.9.9"]
    assert options["interface-mtu"] == 1430
    assert options["lease_time"] == 3600
    assert options["renewal_time"] == 1800
    assert options["rebinding_time"] == 3150
    assert options["hostname"] == b"web-1"
    assert b"\x04shop\x07example\x00\x07example\x00" in frame


def test_checksums_and_lengths_are_right(facts: Facts) -> None:
    frame = dhcp4.answer(ask("discover"), facts)
    assert frame is not None
    packet = Ether(frame)
    rebuilt = Ether(frame)
    del rebuilt[IP].chksum, rebuilt[UDP].chksum, rebuilt[IP].len, rebuilt[UDP].len
    again = Ether(bytes(rebuilt))
    assert (again[IP].chksum, again[UDP].chksum) == (packet[IP].chksum, packet[UDP].chksum)
    assert (again[IP].len, again[UDP].len) == (packet[IP].len, packet[UDP].len)
    assert len(bytes(packet[BOOTP])) >= 300


def test_broadcast_flag_is_honoured(facts: Facts) -> None:
    frame = dhcp4.answer(ask("discover", flags=0x8000), facts)
    assert frame is not None
    packet = Ether(frame)
    assert (packet.dst, packet[IP].dst) == ("ff:ff:ff:ff:ff:ff", "255.255.255.255")


@pytest.mark.parametrize(
    ("options", "fields", "kind"),
    [
        ([("server_id", "10.0.0.1"), ("requested_addr", "10.0.0.7")], {}, 5),
        ([("server_id", "10.0.0.1"), ("requested_addr", "10.0.0.8")], {}, 6),
        ([("requested_addr", "10.0.0.7")], {}, 5),
        ([("requested_addr", "192.168.1.5")], {}, 6),
        ([], {"ciaddr": "10.0.0.7"}, 5),
        ([], {"ciaddr": "10.0.0.9"}, 6),
        ([], {}, 6),
    ],
)
def test_request_is_acknowledged_only_for_the_own_address(
    facts: Facts, options: list[tuple[str, Any]], fields: dict[str, Any], kind: int
) -> None:
    answer = dhcp4.answer(ask("request", *options, **fields), facts)
    assert told(answer)["message-type"] == kind
    assert answer is not None
    packet = Ether(answer)
    assert packet[BOOTP].yiaddr == ("10.0.0.7" if kind == 5 else "0.0.0.0")
    if kind == 6:
        assert packet.dst == "ff:ff:ff:ff:ff:ff"
        assert "lease_time" not in told(answer)


def test_request_to_another_server_gets_no_answer(facts: Facts) -> None:
    frame = ask("request", ("server_id", "10.0.0.99"), ("requested_addr", "10.0.0.7"))
    assert dhcp4.answer(frame, facts) is None


def test_inform_gets_settings_but_no_lease(facts: Facts) -> None:
    frame = dhcp4.answer(ask("inform", ciaddr="10.0.0.7"), facts)
    options = told(frame)
    assert options["message-type"] == 5
    assert "lease_time" not in options
    assert options["name_server"] == ["10.0.0.53", "9.9.9.9"]
    assert Ether(frame)[BOOTP].yiaddr == "0.0.0.0"
    assert dhcp4.answer(ask("inform", ciaddr="10.0.0.99"), facts) is None


@pytest.mark.parametrize("kind", ["release", "decline", "offer", "ack", "nak"])
def test_messages_that_ask_nothing_get_no_answer(facts: Facts, kind: str) -> None:
    assert dhcp4.answer(ask(kind, ciaddr="10.0.0.7"), facts) is None


def test_another_mac_gets_no_answer(facts: Facts) -> None:
    assert dhcp4.answer(ask("discover", mac="02:00:00:00:00:99"), facts) is None
    assert dhcp4.answer(ask("discover", chaddr="02:00:00:00:00:99"), facts) is None
    assert dhcp4.answer(ask("discover", giaddr="10.0.0.5"), facts) is None


def test_endpoint_without_ipv4_gets_no_answer(facts: Facts) -> None:
    assert dhcp4.answer(ask("discover"), replace(facts, addresses4=())) is None


def test_bridge_without_router_is_served_from_the_virtual_server(facts: Facts) -> None:
    frame = dhcp4.answer(ask("discover"), replace(facts, gateways=()))
    assert frame is not None
    packet = Ether(frame)
    assert raw(packet.src) == VIRTUAL_SERVER_MAC
    assert packet[IP].src == str(VIRTUAL_SERVER4)
    assert "router" not in told(frame)


def test_classless_routes_carry_the_default_route_too(facts: Facts) -> None:
    routes = (Route4(IPv4Network("172.16.0.0/12"), IPv4Address("10.0.0.2")),)
    frame = dhcp4.answer(ask("discover"), replace(facts, routes4=routes))
    assert frame is not None
    wanted = bytes([12, 172, 16, 10, 0, 0, 2, 0, 10, 0, 0, 1])
    assert bytes([121, len(wanted)]) + wanted in frame


def test_long_options_are_split_and_fit_what_the_client_takes(facts: Facts) -> None:
    search = tuple(f"a-rather-long-name-{n}.example" for n in range(12))
    facts = replace(facts, search=search)
    small = dhcp4.answer(ask("discover"), facts)
    large = dhcp4.answer(ask("discover", ("max_dhcp_size", 1500)), facts)
    assert small is not None and large is not None
    assert len(bytes(Ether(small)[IP])) <= 576
    assert "router" in told(small)
    assert 576 < len(bytes(Ether(large)[IP])) <= facts.mtu_bytes
    options = bytes(large)[large.index(dhcp4.MAGIC) + 4 :]
    assert len(list(codes(options, 119))) == 2  # RFC 3396: more than 255 bytes are split
    assert large.count(b"a-rather-long-name-") >= 12


def test_client_id_is_echoed(facts: Facts) -> None:
    frame = dhcp4.answer(ask("discover", ("client_id", b"\x01" + raw(MAC))), facts)
    assert frame is not None
    assert bytes([61, 7, 1]) + raw(MAC) in frame


def test_further_options_are_told_as_given(facts: Facts) -> None:
    given = ((42, bytes([10, 0, 0, 5])), (66, b"boot.example"), (43, b"\x01\x02"))
    frame = dhcp4.answer(ask("discover"), replace(facts, options4=given))
    assert frame is not None
    options = frame.split(dhcp4.MAGIC, 1)[1]
    for code, value in given:
        assert list(codes(options, code)) == [value]
