"""A real guest on a tap in a domain: its own kernel, its own DHCP client, virtio.

With the offloads of virtio on, frames without checksums and TCP segments of many times
the MTU cross the datapath; it must also do with all of them off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.guest.bulk import GIVE, TAKE, Bulk, serving
from tests.guest.busybox import run_busybox
from tests.guest.machine import Report, Tap
from tests.guest.sizes import watching
from tests.system.zone import Document, Guest, Zone, domain, endpoint, tenant

pytestmark = [pytest.mark.privileged, pytest.mark.guest, pytest.mark.timeout(180)]

TENANT = "t-guest"
MAC = "02:00:00:00:00:52"
DEVICE = "vm0"
ADDRESS, ADDRESS6 = "10.61.1.20", "fd61:1::20"
GATEWAY, GATEWAY6 = "10.61.1.1", "fd61:1::1"
MTU = 1450  # 1500 less the tunnel over IPv4
BULK_BYTES = 4 << 20
LIMIT_S = 60
#: Bits of virtio_net.h: CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, HOST_TSO4, HOST_TSO6.
OFFLOAD_BITS = (0, 1, 7, 8, 11, 12)

FEATURES = "cat /sys/bus/virtio/devices/virtio0/features"


def documents() -> list[Document]:
    dhcp = {
        "dns": ["10.61.2.53"],
        "search": ["shop.example"],
        "routes": [{"to": "10.99.0.0/16", "via": GATEWAY}],
    }
    bridges = [
        {"name": "front", "subnets": ["10.61.1.0/24", "fd61:1::/64"], "dhcp": dhcp},
        {"name": "back", "subnets": ["10.61.2.0/24", "fd61:2::/64"]},
    ]
    router = {
        "name": "core",
        "interfaces": [
            {"bridge": "front", "addresses": [f"{GATEWAY}/24", f"{GATEWAY6}/64"]},
            {"bridge": "back", "addresses": ["10.61.2.1/24", "fd61:2::1/64"]},
        ],
    }
    path = f"{TENANT}/real"
    return [
        tenant(TENANT),
        domain(TENANT, "real", bridges, routers=[router]),
        endpoint(
            f"{path}/vm",
            "front",
            "n1",
            ADDRESS,
            ADDRESS6,
            mac=MAC,
            attach={"kind": "tap", "device": DEVICE},
        ),
        endpoint(f"{path}/beside", "front", "n1", "10.61.1.40", "fd61:1::40"),
        endpoint(f"{path}/near", "front", "n2", "10.61.1.30", "fd61:1::30"),
        endpoint(f"{path}/far", "back", "n2", "10.61.2.30", "fd61:2::30"),
    ]


@dataclass(frozen=True)
class Field:
    """The guest's tap, and who it talks to."""

    tap: Tap
    node: Guest  # where the tap is
    beside: Guest  # on the same node and bridge
    near: Guest  # on the other node, same bridge
    far: Guest  # on the other node, behind the router


@pytest.fixture(scope="module")
def field(zone_of_two: Zone) -> Iterator[Field]:
    zone = zone_of_two
    zone.on("n1", "ip", "tuntap", "add", DEVICE, "mode", "tap")
    try:
        zone.apply(documents())
        peers = [zone.guest(f"{TENANT}/real/{name}") for name in ("beside", "near", "far")]
        node = Guest("n1", zone.layout.namespace("n1"))
        yield Field(Tap(DEVICE, MAC, zone.namespace("n1")), node, *peers)
        zone.drop_tenant(TENANT)
        assert DEVICE in zone.on("n1", "ip", "link"), "a device that was adopted was deleted"
    finally:
        zone.on("n1", "ip", "link", "delete", DEVICE)


def bulk_commands(peer: Guest, family: int) -> list[str]:
    """Fetch and hash; hash and send."""
    address = peer.ip(family)
    return [
        f"nc -w 20 {address} {GIVE} </dev/null | sha256sum",
        f"sha256sum /upload; nc -w 20 {address} {TAKE} </upload",
    ]


UPLOAD = f"head -c {BULK_BYTES} /dev/urandom >/upload"
#: The kernel learns the router from its advertisement. Debian's busybox has no DHCPv6 client.
SET_UP6 = [
    f"echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip address add {ADDRESS6}/64 dev eth0",
    "n=0; until ip -6 route show default | grep 'via fe80::72:'; do"
    " [ $((n += 1)) -lt 50 ] || exit 1; usleep 100000; done",
]


def assert_bulk(report: Report, peer: Guest, family: int, bulk: Bulk) -> None:
    fetched, sent = (report.of(command) for command in bulk_commands(peer, family))
    assert fetched.output.split()[0] == bulk.sha256, "what arrived is not what was sent"
    assert sent.output.split()[0] in bulk.taken, "what arrived is not what was sent"


def features(report: Report) -> str:
    """One digit for each bit of OFFLOAD_BITS."""
    bits = report.of(FEATURES).output.strip()
    return "".join(bits[bit] for bit in OFFLOAD_BITS)


def test_guest_with_offloads_lives_in_a_domain(field: Field) -> None:
    peers = (field.near, field.far)
    commands = [
        "ip -4 -o address show dev eth0",
        "cat /sys/class/net/eth0/mtu",
        "ip -4 route",
        f"arping -c 2 -w 2 -I eth0 {GATEWAY}",
        f"ping -c 2 -W 2 {GATEWAY}",
        *(f"ping -c 3 -W 2 {peer.ip()}" for peer in peers),
        f"ping -c 1 -W 2 -s {MTU - 28} {field.far.ip()}",
        f"traceroute -n -q 1 -w 2 -I {field.far.ip()}",
        *SET_UP6,
        f"ping -6 -c 2 -W 2 {GATEWAY6}",
        *(f"ping -6 -c 3 -W 2 {peer.ip(6)}" for peer in peers),
        FEATURES,
        UPLOAD,
        *bulk_commands(field.far, 4),
        *bulk_commands(field.far, 6),
    ]
    with serving(field.far, BULK_BYTES) as bulk, watching(field.node, DEVICE) as sizes:
        report = run_busybox(field.tap, commands, LIMIT_S)
    address, mtu, route, arping = report.results[:4]
    trace = report.results[8]
    facts = report.facts
    assert (facts["ip"], facts["router"], facts["mtu"]) == (ADDRESS, GATEWAY, str(MTU))
    assert (facts["dns"], facts["search"]) == ("10.61.2.53", "shop.example")
    assert facts["staticroutes"].split()[:2] == ["10.99.0.0/16", GATEWAY]
    assert f"{ADDRESS}/24" in address.output
    assert mtu.output.split() == [str(MTU)]
    assert f"default via {GATEWAY}" in route.output
    assert re.search(rf"reply from {GATEWAY} \[02:72:", arping.output), arping.output
    assert re.findall(r"^ *\d+ +([\d.]+) ", trace.output, re.M) == [GATEWAY, field.far.ip()]
    for result in report.results:
        assert result.status == 0, result
        assert not result.command.startswith("ping") or " 0% packet loss" in result.output, result
    assert features(report) == "111111"
    assert_bulk(report, field.far, 4, bulk)
    assert_bulk(report, field.far, 6, bulk)
    assert sizes.from_guest > MTU, "the guest sent nothing that was left to segment"


def test_guest_with_offloads_takes_whole_packets_from_its_node(field: Field) -> None:
    """Not those of other nodes: the kernel segments what came out of a tunnel for a tap."""
    commands = [*SET_UP6, UPLOAD, *bulk_commands(field.beside, 4), *bulk_commands(field.beside, 6)]
    with serving(field.beside, BULK_BYTES) as bulk, watching(field.node, DEVICE) as sizes:
        report = run_busybox(field.tap, commands, LIMIT_S)
    assert not [result for result in report.results if result.status]
    assert_bulk(report, field.beside, 4, bulk)
    assert_bulk(report, field.beside, 6, bulk)
    assert sizes.to_guest > MTU and sizes.from_guest > MTU


def test_guest_without_offloads_gets_every_byte(field: Field) -> None:
    """What a peer's veth leaves to an offload is done before the guest sees it."""
    tap = replace(field.tap, offloads=False)
    commands = [*SET_UP6, FEATURES, UPLOAD]
    commands += bulk_commands(field.beside, 4) + bulk_commands(field.far, 6)
    with (
        serving(field.beside, BULK_BYTES) as from_beside,
        serving(field.far, BULK_BYTES) as from_far,
        watching(field.node, DEVICE) as sizes,
    ):
        report = run_busybox(tap, commands, LIMIT_S)
    assert not [result for result in report.results if result.status]
    assert features(report) == "000000"
    assert_bulk(report, field.beside, 4, from_beside)
    assert_bulk(report, field.far, 6, from_far)
    assert 0 < sizes.to_guest <= MTU and 0 < sizes.from_guest <= MTU
