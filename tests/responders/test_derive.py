from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface

from daemon.model.object import Domain, Endpoint
from daemon.responders.derive import facts_of

DOMAIN = Domain.model_validate(
    {
        "tenant": "acme",
        "name": "shop",
        "id": 1,
        "vnis": {"web": 100, "quiet": 101},
        "router_ids": {"r1": 5},
        "spec": {
            "bridges": [
                {
                    "name": "web",
                    "subnets": ["10.0.0.0/24", "fd00:1::/64"],
                    "dhcp": {
                        "dns": ["10.0.0.53", "fd00::53"],
                        "search": ["shop.example"],
                        "routes": [{"to": "172.16.0.0/12", "via": "10.0.0.2"}],
                        "lease_s": 600,
                    },
                },
                {"name": "quiet", "subnets": ["10.1.0.0/24"], "dhcp": {"enabled": False}},
            ],
            "routers": [
                {
                    "name": "r1",
                    "interfaces": [{"bridge": "web", "addresses": ["10.0.0.1/24", "fd00:1::1/64"]}],
                }
            ],
        },
    }
)


def endpoint(bridge: str, *addresses: str) -> Endpoint:
    return Endpoint.model_validate(
        {
            "tenant": "acme",
            "name": "web-1",
            "spec": {"domain": "shop", "bridge": bridge, "node": "n1"},
            "id": 7,
            "slot": 3,
            "mac": "02:65:00:00:00:07",
            "addresses": list(addresses),
        }
    )


def test_facts_follow_the_bridge_and_its_router() -> None:
    facts = facts_of(DOMAIN, endpoint("web", "10.0.0.7", "fd00:1::7"), 9, 1450)
    assert facts is not None
    assert facts.addresses4 == (IPv4Interface("10.0.0.7/24"),)
    assert facts.addresses6 == (IPv6Interface("fd00:1::7/64"),)
    assert facts.server_mac == bytes.fromhex("027200000005")
    assert str(facts.server4) == "10.0.0.1"
    assert [str(server) for server in (*facts.dns4, *facts.dns6)] == ["10.0.0.53", "fd00::53"]
    assert (facts.search, facts.lease_s, facts.mtu_bytes) == (("shop.example",), 600, 1450)
    assert [str(route.to) for route in facts.routes4] == ["172.16.0.0/12"]


def test_bridge_with_dhcp_off_tells_nothing() -> None:
    assert facts_of(DOMAIN, endpoint("quiet", "10.1.0.7"), 9, 1450) is None
