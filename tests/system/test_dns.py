"""Names on the wire: dig over UDP and TCP, through a real forwarder, and in nobody else's zone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plumctl.sandbox import fabric
from tests.system.zone import Document, Guest, Zone, domain, endpoint, tenant, until

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(90)]

TENANT, RIVAL = "t-sys-dns", "t-sys-dns2"
UPSTREAM = "192.0.2.1"  # n1's VTEP address, which every node reaches
BRIDGES = [{"name": "lan", "subnets": ["10.70.1.0/24", "fd00:70::/64"]}]
ROUTERS = [
    {
        "name": "gw",
        "interfaces": [{"bridge": "lan", "addresses": ["10.70.1.1/24", "fd00:70::1/64"]}],
    }
]
NAMES: Document = {
    "zone": "shop.example",
    "forwarders": [UPSTREAM],
    "records": [
        {"name": "www", "type": "CNAME", "values": ["a.shop.example"]},
        {"name": "big", "type": "TXT", "values": [f"{n:03}" + "x" * 200 for n in range(40)]},
    ],
}


def documents(of: str, **names: Any) -> list[Document]:
    spec = {"routers": ROUTERS, "dns": NAMES | names}
    spec["groups"] = [{"name": "all", "labels": {"in": "all"}}]
    made = [tenant(of), domain(of, "d", BRIDGES, **spec)]
    for name, node, last in (("a", "n1", 11), ("b", "n2", 12)):
        addresses = (f"10.70.1.{last}", f"fd00:70::{last}")
        made.append(endpoint(f"{of}/d/{name}", "lan", node, *addresses, labels={"in": "all"}))
    return made


@pytest.fixture(scope="module")
def guests(zone_of_three: Zone) -> Iterator[dict[str, Guest]]:
    zone_of_three.apply(documents(TENANT))
    zone_of_three.apply(documents(RIVAL, zone="rival.example", forwarders=[]))
    paths = [f"{of}/d/{name}" for of in (TENANT, RIVAL) for name in "ab"]
    yield {path: zone_of_three.guest(path) for path in paths}
    for of in (TENANT, RIVAL):
        zone_of_three.drop_tenant(of)


@pytest.fixture
def forwarder(zone_of_three: Zone, tmp_path: Path) -> Iterator[Path]:
    """A plain dnsmasq on n1; what it was asked stands in its log."""
    log = tmp_path / "dnsmasq.log"
    command = [
        "dnsmasq",
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
    ]
    command += [
        "--bind-interfaces",
        f"--listen-address={UPSTREAM}",
        "--local-ttl=60",
        "--user=root",
    ]
    command += ["--address=/www.example.com/203.0.113.80", "--log-queries", f"--log-facility={log}"]
    name = zone_of_three.layout.namespace("n1")
    with subprocess.Popen(fabric.enter(name, [*command, "--pid-file="])) as running:
        until(lambda: log.exists() and "started" in log.read_text())
        yield log
        running.terminate()


def dig(guest: Guest, name: str, kind: str = "A", *more: str, server: str = "10.70.1.1") -> str:
    flags = ("+tries=1", "+time=3", "+noall", "+answer", "+comments", *more)
    return guest.run("dig", f"@{server}", name, kind, *flags)


def short(guest: Guest, name: str, kind: str = "A", *more: str, **where: str) -> list[str]:
    said = dig(guest, name, kind, *more, **where).splitlines()
    return sorted(line.split()[-1] for line in said if line and not line.startswith(";"))


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("server", ["10.70.1.1", "fd00:70::1"])
@pytest.mark.parametrize("how", ["+notcp", "+tcp", "+noedns"])
def test_every_endpoint_finds_the_others(
    guests: dict[str, Guest], name: str, server: str, how: str
) -> None:
    guest = guests[f"{TENANT}/d/{name}"]
    assert short(guest, "b.shop.example", "A", how, server=server) == ["10.70.1.12"]
    assert short(guest, "all.shop.example", "AAAA", how, server=server) == [
        *("fd00:70::11", "fd00:70::12"),
    ]
    assert short(guest, "www.shop.example", "A", how, server=server) == [
        *("10.70.1.11", "a.shop.example."),
    ]
    pointer = guest.run("dig", f"@{server}", "-x", "10.70.1.12", "+short", how).split()
    assert pointer == ["b.shop.example."]
    assert "NXDOMAIN" in dig(guest, "c.shop.example", "A", how, server=server)


def test_what_is_cut_over_udp_comes_whole_over_tcp(guests: dict[str, Guest]) -> None:
    guest = guests[f"{TENANT}/d/a"]
    assert " tc" in dig(guest, "big.shop.example", "TXT", "+ignore")
    lines = short(guest, "big.shop.example", "TXT")  # dig asks again by itself
    assert len(lines) == 40


def test_others_names_are_asked_of_the_forwarder_once(
    guests: dict[str, Guest], forwarder: Path
) -> None:
    guest = guests[f"{TENANT}/d/b"]
    for _ in range(3):
        assert short(guest, "www.example.com") == ["203.0.113.80"]
    assert forwarder.read_text().count("query[A] www.example.com") == 1
    assert "REFUSED" in dig(guests[f"{RIVAL}/d/b"], "www.example.com")


def test_a_domains_names_are_its_own(guests: dict[str, Guest], forwarder: Path) -> None:
    rival = guests[f"{RIVAL}/d/a"]
    assert "REFUSED" in dig(rival, "a.shop.example")
    assert short(rival, "a.rival.example") == ["10.70.1.11"]
    assert short(guests[f"{TENANT}/d/a"], "a.rival.example") == []


def test_names_follow_the_zone(plum: Zone, guests: dict[str, Guest]) -> None:
    guest = guests[f"{TENANT}/d/a"]
    plum.apply([endpoint(f"{TENANT}/d/late", "lan", "n2", "10.70.1.99")])
    assert short(guest, "late.shop.example") == ["10.70.1.99"]
    plum.delete(("endpoint", f"{TENANT}/d/late"))
    assert "NXDOMAIN" in dig(guest, "late.shop.example")


def test_dhcp_tells_where_names_are_answered(plum: Zone, guests: dict[str, Guest]) -> None:
    path = f"{TENANT}/d/asks"
    plum.apply([endpoint(path, "lan", "n1", "10.70.1.50", attach={"configure": "dhcp"})])
    guest = plum.guest(path)
    said = guest.run(
        *(
            "timeout",
            "3",
            "dhclient",
            "-4",
            "-1",
            "-v",
            "-d",
            "-sf",
            "/usr/bin/env",
            "-lf",
            "/dev/null",
        ),
        *("-pf", "/dev/null", "eth0"),
        ok=False,
    )
    plum.delete(("endpoint", path))
    assert "new_domain_name_servers=10.70.1.1" in said
    assert "new_domain_search=shop.example." in said
