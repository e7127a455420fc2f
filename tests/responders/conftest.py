from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, IPv6Network

import pytest

from daemon.responders.facts import Facts, Gateway

MAC = "02:65:00:00:00:07"
ROUTER_MAC = "02:72:00:00:00:01"


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


@pytest.fixture
def facts() -> Facts:
    return Facts(
        name="web-1",
        ifindex=9,
        mac=raw(MAC),
        addresses4=(IPv4Interface("10.0.0.7/24"),),
        addresses6=(IPv6Interface("fd00:1::7/64"),),
        subnets6=(IPv6Network("fd00:1::/64"),),
        gateways=(
            Gateway(
                raw(ROUTER_MAC),
                (IPv4Interface("10.0.0.1/24"),),
                (IPv6Interface("fd00:1::1/64"),),
            ),
        ),
        dns4=(IPv4Address("10.0.0.53"), IPv4Address("9.9.9.9")),
        dns6=(IPv6Address("fd00::53"),),
        search=("shop.example", "example"),
        lease_s=3600,
        mtu_bytes=1430,
    )
