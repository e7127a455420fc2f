"""plum_source, plum_mac, plum_flood, plum_bridge, plum_ep."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from daemon.abi import Ep, EpFlag, EpKey, Flood, FloodKey, MacKey, Port, SourceKey
from daemon.compiler.wide import mac_bytes, wide, wide_prefix
from tests.compiler.build import BLUE, compiled, domain, endpoint

MAC1 = mac_bytes("02:65:00:00:00:01")
SHARED = "02:aa:00:00:00:01"
ROUTER = {"name": "r", "interfaces": [{"bridge": "blue", "addresses": ["10.0.1.1/24"]}]}


def source(mac: bytes, text: str) -> SourceKey:
    prefix = wide_prefix(ip_network(text))
    return SourceKey(96 + prefix.bits, 1, mac, prefix.addr)


def test_sources_are_own_addresses_link_local_and_pairs() -> None:
    pairs = [{"address": "203.0.113.0/24"}, {"address": "10.0.1.100/32", "mac": SHARED}]
    rows = compiled(
        domain(),
        endpoint(1, addresses=["10.0.1.11", "fd00:1::11"], allowed_pairs=pairs),
        endpoint(2, on="n2"),
    ).rows
    assert set(rows["plum_source"]) == {
        source(MAC1, "10.0.1.11"),
        source(MAC1, "fd00:1::11"),
        source(MAC1, "fe80::65:ff:fe00:1"),
        source(MAC1, "203.0.113.0/24"),
        source(mac_bytes(SHARED), "10.0.1.100/32"),
    }


def test_a_pair_for_all_of_ipv6_allows_no_ipv4() -> None:
    rows = compiled(domain(), endpoint(1, allowed_pairs=[{"address": "::/0"}])).rows
    mapped = int.from_bytes(wide(ip_address("192.0.2.1")), "big")
    for key in rows["plum_source"]:
        assert isinstance(key, SourceKey)
        shift = 224 - key.prefixlen
        assert mapped >> shift != int.from_bytes(key.addr, "big") >> shift


def test_macs_of_endpoints_routers_and_pairs_one_endpoint_uses() -> None:
    pair = [{"address": "10.0.1.100/32", "mac": SHARED}]
    one = endpoint(1, allowed_pairs=pair)
    far = endpoint(2, on="n2")
    rows = compiled(domain(routers=[ROUTER]), one, far).rows["plum_mac"]
    assert rows == {
        MacKey(100, MAC1): Port(0, 201, 0, 0),
        MacKey(100, mac_bytes(SHARED)): Port(0, 201, 0, 0),
        MacKey(100, mac_bytes("02:65:00:00:00:02")): Port(2, 0, 0, 0),
        MacKey(100, mac_bytes("02:72:00:00:00:32")): Port(0, 0, 50, 0),
    }
    both = compiled(domain(), one, endpoint(2, on="n2", allowed_pairs=pair)).rows["plum_mac"]
    assert MacKey(100, mac_bytes(SHARED)) not in both


def test_no_pair_takes_the_mac_of_a_router_or_a_neighbour() -> None:
    pairs = [
        {"address": "10.0.1.100/32", "mac": "02:72:00:00:00:32"},
        {"address": "10.0.1.101/32", "mac": "02:65:00:00:00:02"},
    ]
    given = domain(routers=[ROUTER])
    rows = compiled(given, endpoint(1, allowed_pairs=pairs), endpoint(2, on="n2")).rows["plum_mac"]
    assert rows[MacKey(100, mac_bytes("02:72:00:00:00:32"))] == Port(0, 0, 50, 0)
    assert rows[MacKey(100, mac_bytes("02:65:00:00:00:02"))] == Port(2, 0, 0, 0)


def test_flood_lists_local_devices_then_remote_nodes() -> None:
    rows = compiled(
        domain(),
        endpoint(3),
        endpoint(1),
        endpoint(2),
        endpoint(4, on="n3"),
        endpoint(5, on="n2"),
        endpoint(6, on="n3"),
        endpoint(7, on="n2", bridge="red"),
        absent=("e2",),
    ).rows["plum_flood"]
    assert rows == {
        FloodKey(100, 0): Flood(0, 201),
        FloodKey(100, 1): Flood(0, 203),
        FloodKey(100, 2): Flood(2, 0),
        FloodKey(100, 3): Flood(3, 0),
        FloodKey(101, 0): Flood(2, 0),
    }


def test_a_bridge_that_does_not_flood_has_no_list() -> None:
    given = domain(bridges=[{**BLUE, "flood": False}])
    assert compiled(given, endpoint(1), endpoint(2)).rows["plum_flood"] == {}


def test_nothing_points_at_an_endpoint_without_a_device() -> None:
    result = compiled(domain(), endpoint(1), endpoint(2), absent=("e1",))
    assert list(result.rows["plum_ep"]) == [EpKey(202)]
    assert MacKey(100, MAC1) not in result.rows["plum_mac"]
    assert len(result.rows["plum_host"]) == 1
    assert len(result.rows["plum_epoch"]) == 1
    assert result.mtu == {"acme/shop/e1": 1450, "acme/shop/e2": 1450}
    assert result.names.slots == {1: "acme/shop/e1", 2: "acme/shop/e2"}


@pytest.mark.parametrize(
    ("default", "dhcp", "addresses", "flags"),
    [
        ({}, True, ["10.0.1.11"], EpFlag.EGRESS_ALLOW | EpFlag.DHCP4),
        ({"ingress": "allow", "egress": "deny"}, True, ["fd00:1::1"],
         EpFlag.INGRESS_ALLOW | EpFlag.DHCP6),
        ({"egress": "deny"}, False, ["10.0.1.11", "fd00:1::1"], EpFlag(0)),
    ],
)  # fmt: skip
def test_flags_of_an_endpoint(
    default: dict[str, str], dhcp: bool, addresses: list[str], flags: EpFlag
) -> None:
    given = domain(default=default, bridges=[{**BLUE, "dhcp": {"enabled": dhcp}}])
    row = compiled(given, endpoint(1, addresses=addresses)).rows["plum_ep"][EpKey(201)]
    assert isinstance(row, Ep)
    assert row.flags == flags
    assert (row.id, row.slot, row.domain, row.vni, row.mtu) == (1001, 1, 7, 100, 1450)
    assert (row.ingress_set, row.egress_set) == (0, 0)
