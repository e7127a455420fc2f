"""A prefix translated into another (NPTv6), on the wire: both ends begin, by any gateway."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

import pytest

from daemon.drivers.netns import entered
from daemon.model.manifest import parse_manifests
from plumctl.run import run
from plumctl.sandbox.layout import NETNS_DIR
from tests.system.zone import Guest, Zone

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "prefix.yaml"
TENANT = "t-sys-cyberdyne"
HOST = "2001:db8:51::fe"
OUTSIDE = IPv6Network("2001:db8:51:112::/64")
NAMES = ("t-1", "t-3")


@pytest.fixture(scope="module")
def guests(zone_of_three: Zone) -> Iterator[dict[str, Guest]]:
    parsed = parse_manifests(EXAMPLE.read_text(), EXAMPLE.name)
    documents = [manifest.document() for manifest in parsed.manifests]
    for document in documents:
        document["name" if document["kind"] == "tenant" else "tenant"] = TENANT
    zone_of_three.apply(documents)
    yield {path.split("/")[1]: g for path, g in zone_of_three.guests(TENANT).items()}
    zone_of_three.drop_tenant(TENANT)


@pytest.fixture
def outside(zone_of_three: Zone) -> Path:
    return NETNS_DIR / zone_of_three.layout.outside


def public(plum: Zone, guest: Guest) -> str:
    told = plum.view(guest.path, "endpoint").document["public"]
    assert list(told.values()) == [guest.ip(6)]
    (address,) = told
    assert IPv6Address(address) in OUTSIDE
    return str(address)


@pytest.mark.parametrize("name", NAMES)
def test_both_ends_may_begin(
    plum: Zone, guests: dict[str, Guest], outside: Path, name: str
) -> None:
    guest = guests[name]
    address = public(plum, guest)
    with entered(outside):
        server = socket.create_server((HOST, 7100), family=socket.AF_INET6)
    with server, guest.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
        server.settimeout(5)
        client.bind(("", 7200))
        client.connect((HOST, 7100))
        accepted, peer = server.accept()
        accepted.close()
        assert peer[:2] == (address, 7200)
    with guest.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asked:
        asked.bind(("", 7300))
        asked.settimeout(5)
        with entered(outside):
            asker = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        with asker:
            asker.settimeout(5)
            asker.sendto(b"who?", (address, 7300))
            data, sender = asked.recvfrom(16)
            asked.sendto(data + b" me", sender)
            assert asker.recvfrom(16)[0] == b"who? me"


def test_one_reaches_the_other_by_its_public_address(plum: Zone, guests: dict[str, Guest]) -> None:
    first, other = (guests[name] for name in NAMES)
    first.run("ping", "-6", "-c", "2", "-i", "0.2", "-W", "2", public(plum, other))


def test_a_traceroute_from_outside_ends_at_the_public_address(
    plum: Zone, guests: dict[str, Guest], outside: Path
) -> None:
    address = public(plum, guests["t-3"])
    traceroute = ("traceroute", "-6", "-n", "-q", "1", "-w", "1", "-m", "6", address)
    with entered(outside):
        hops = run(*traceroute).splitlines()
    assert address in hops[-1]
