"""What the model says of a connection agrees with the oracle, from whoever it is asked."""

from __future__ import annotations

from ipaddress import ip_address
from random import Random

import pytest

from daemon.compiler.guest import UnsendableError
from daemon.compiler.packet import Outcome
from daemon.compiler.trial import attempt
from tests.compiler.build import domain, endpoint, snapshot
from tests.oracle import Oracle
from tests.strategies import zone

ZONES = 60


def test_every_pair_of_random_zones_fares_as_the_oracle_says() -> None:
    seen = {True: 0, False: 0}
    for seed in range(ZONES):
        given, random = zone(seed).snapshot, Random(seed)
        for source in sorted(given.endpoints):
            own = given.endpoints[source]
            peers = [
                (path, address)
                for path, peer in given.endpoints.items()
                if path != source and path.startswith(f"{own.tenant}/{own.spec.domain}/")
                for address in peer.addresses
            ]
            for path, address in random.sample(peers, min(3, len(peers))):
                port = random.choice([22, 53, 80, 443, 8080])
                try:
                    made = attempt(given, source, address, 6, port)
                except UnsendableError:
                    continue
                fates = Oracle(given, own.tenant, own.spec.domain).fates(source, made.packet)
                end = made.prediction
                what = end.drop.name if end.outcome is Outcome.DROPPED else end.outcome.value
                receiver = made.receiver if what == "delivered" else ""
                expected = {(fate.what, fate.endpoint) for fate in fates}
                assert (what, receiver) in expected, f"seed {seed}: {source} -> {path}"
                seen[what == "delivered"] += 1
    assert min(seen.values()) > 50, seen


ROUTED = {
    "default": {"ingress": "allow"},
    "bridges": [
        {"name": "blue", "subnets": ["10.0.1.0/24"],
         "dhcp": {"routes": [{"to": "10.9.0.0/16", "via": "10.0.1.13"}]}},
        {"name": "red", "subnets": ["10.0.2.0/24"]},
    ],
    "routers": [{"name": "r", "interfaces": [{"bridge": "blue", "addresses": ["10.0.1.1/24"]}]}],
}  # fmt: skip


def test_a_guest_uses_its_neighbours_the_routes_it_was_told_and_its_gateway() -> None:
    given = snapshot(domain(**ROUTED), endpoint(1), endpoint(2, on="n2"), endpoint(3))
    router = "02:72:00:00:00:32"
    for target, mac in (
        ("10.0.1.12", "02:65:00:00:00:02"),
        ("10.9.3.4", "02:65:00:00:00:03"),
        ("10.0.2.12", router),
        ("10.0.1.1", router),
    ):
        assert attempt(given, "acme/shop/e1", ip_address(target), 6, 80).packet.dmac == mac


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("e1", "10.0.1.99", "has 10.0.1.99"),
        ("e1", "fd00:1::1", "no IPv6 address"),
        ("e4", "10.0.1.11", "no router of the domain has an IPv4 address there"),
    ],
)
def test_what_a_guest_cannot_even_send(source: str, target: str, said: str) -> None:
    given = snapshot(domain(**ROUTED), endpoint(1), endpoint(4, bridge="red"))
    with pytest.raises(UnsendableError, match=said):
        attempt(given, f"acme/shop/{source}", ip_address(target), 6, 80)
