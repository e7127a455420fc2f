"""The same over an underlay that speaks IPv6 only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from bench import loadtool
from bench.loadtool import Ends, Held
from plumctl.run import run
from tests.system.conftest import NAME, sandbox
from tests.system.zone import Guest, Zone, domain, echoed, endpoint, tenant, until

TENANT = "t-sys-six"
LAB = f"{TENANT}/lab"
MTU = 1500 - 70


@pytest.fixture(scope="module")
def six() -> Iterator[Zone]:
    yield from sandbox(f"{NAME}-six", 2, 6)


@pytest.fixture(scope="module")
def guests(six: Zone) -> Iterator[Mapping[str, Guest]]:
    nets = {"lan": 1, "far": 2}
    bridges = [
        {"name": name, "subnets": [f"10.3.{n}.0/24", f"fd03:{n}::/64"]} for name, n in nets.items()
    ]
    interfaces = [
        {"bridge": name, "addresses": [f"10.3.{n}.1/24", f"fd03:{n}::1/64"]}
        for name, n in nets.items()
    ]
    routers = [{"name": "gw", "interfaces": interfaces}]
    six.apply(
        [
            tenant(TENANT),
            domain(TENANT, "lab", bridges, routers=routers),
            endpoint(f"{LAB}/a", "lan", "n1", "10.3.1.11", "fd03:1::11"),
            endpoint(f"{LAB}/b", "lan", "n2", "10.3.1.12", "fd03:1::12"),
            endpoint(f"{LAB}/r", "far", "n2", "10.3.2.11", "fd03:2::11"),
        ]
    )
    yield {path.split("/")[1]: guest for path, guest in six.guests(TENANT).items()}
    six.drop_tenant(TENANT)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("server", ["b", "r"])
def test_both_families_cross_it_with_full_packets(
    guests: Mapping[str, Guest], server: str, family: int
) -> None:
    a, there = guests["a"], guests[server]
    echoed(a, there, family=family)
    size = MTU - (28 if family == 4 else 48)
    ping = ["ping", "-n", "-c", "1", "-W", "3", "-M", "do", "-s"]
    assert " 0% packet loss" in a.run(*ping, str(size), there.ip(family))
    assert "100% packet loss" in a.run(*ping, str(size + 1), there.ip(family), ok=False)
    assert " 0% packet loss" in a.run("ping", "-n", "-c", "1", "-s", "9000", there.ip(family))


@pytest.mark.parametrize("family", [4, 6])
def test_bulk_tcp_and_the_death_of_the_daemons(
    six: Zone, guests: Mapping[str, Guest], family: int
) -> None:
    a, r = guests["a"], guests["r"]
    ends = Ends(a.namespace, r.namespace, r.ip(family))
    with loadtool.running("hold", ends, 3, connections=20, timeout_ms=2000) as held:
        six.kill()
        with r.start("iperf3", "-s", "-1", "-p", "5300") as process:
            until(lambda: ":5300" in r.run("ss", "-Hltn"))
            a.run("iperf3", "-c", r.ip(family), "-p", "5300", "-n", "100M")
            process.communicate(timeout=10)
        six.start()
        result = held.result(Held)
    assert (result.opened, result.broken) == (20, 0)


def test_broadcast_crosses_it(guests: Mapping[str, Guest]) -> None:
    a, b = guests["a"], guests["b"]
    text = b"to everybody"
    with a.wire() as here, b.wire() as there:
        ends = IP(src=a.ip(), dst="10.3.1.255") / UDP(dport=9) / Raw(text)
        here.send(Ether(src=a.mac, dst="ff:ff:ff:ff:ff:ff") / ends)
        there.await_frame(lambda frame: text in frame)


def test_frame_from_no_vtep_is_dropped(six: Zone, guests: Mapping[str, Guest]) -> None:
    name, fabric = f"{NAME}-six-rogue", six.layout.fabric
    a, b = guests["a"], guests["b"]
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", fabric, "link", "add", "rogue", "type", "veth", "peer", "name", "eth0",
            "netns", name)  # fmt: skip
        run("ip", "-n", fabric, "link", "set", "rogue", "master", "switch", "up")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", name, "addr", "add", "2001:db8:0:1::200/64", "dev", "eth0", "nodad")
        rogue = Guest("rogue", name, addresses=("2001:db8:0:1::200",))
        vni = six.view(LAB, "domain").allocated["vnis"]["lan"]
        inner = Ether(src=a.mac, dst=b.mac) / IP(src=a.ip(), dst=b.ip()) / UDP() / Raw(b"injected")
        with b.wire() as wire, rogue.udp(5000, 6) as here:
            with six.drops("VTEP", None):
                here.sendto(bytes(VXLAN(flags=8, vni=vni) / inner), ("2001:db8:0:1::2", 4789))
            echoed(a, b)
            assert not [frame for frame in wire.frames() if b"injected" in frame]
    finally:
        run("ip", "netns", "del", name)
