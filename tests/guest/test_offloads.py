"""Bulk TCP of a real guest on a tap, with virtio's offloads and without.

With them, frames without checksums and TCP segments of many times the MTU cross the
datapath. What else a guest does in a domain: test_domain_guest.py.
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
GATEWAY = "10.61.1.1"
MTU = 1450  # 1500 less the tunnel over IPv4
BULK_BYTES = 4 << 20
LIMIT_S = 60
#: Bits of virtio_net.h: CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, HOST_TSO4, HOST_TSO6.
OFFLOAD_BITS = (0, 1, 7, 8, 11, 12)

FEATURES = "cat /sys/bus/virtio/devices/virtio0/features"


def documents() -> list[Document]:
    dhcp = {"routes": [{"to": "10.99.0.0/16", "via": GATEWAY}]}
    bridges = [
        {"name": "front", "subnets": ["10.61.1.0/24", "fd61:1::/64"], "dhcp": dhcp},
        {"name": "back", "subnets": ["10.61.2.0/24", "fd61:2::/64"]},
    ]
    router = {
        "name": "core",
        "interfaces": [
            {"bridge": "front", "addresses": [f"{GATEWAY}/24", "fd61:1::1/64"]},
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
        endpoint(f"{path}/far", "back", "n2", "10.61.2.30", "fd61:2::30"),
    ]


@dataclass(frozen=True)
class Field:
    """The guest's tap, and who it talks to."""

    tap: Tap
    node: Guest  # where the tap is
    beside: Guest  # on the same node and bridge
    far: Guest  # on the other node, behind the router


@pytest.fixture(scope="module")
def field(zone_of_two: Zone) -> Iterator[Field]:
    zone = zone_of_two
    zone.on("n1", "ip", "tuntap", "add", DEVICE, "mode", "tap")
    try:
        zone.apply(documents())
        peers = [zone.guest(f"{TENANT}/real/{name}") for name in ("beside", "far")]
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


def test_guest_with_offloads_gets_every_byte(field: Field) -> None:
    commands = [
        f"arping -c 2 -w 2 -I eth0 {GATEWAY}",
        f"ping -c 1 -W 2 -s {MTU - 28} {field.far.ip()}",
        *SET_UP6,
        FEATURES,
        UPLOAD,
        *bulk_commands(field.far, 4),
        *bulk_commands(field.far, 6),
    ]
    with serving(field.far, BULK_BYTES) as bulk, watching(field.node, DEVICE) as sizes:
        report = run_busybox(field.tap, commands, LIMIT_S)
    assert not [result for result in report.results if result.status]
    assert (report.facts["ip"], report.facts["mtu"]) == (ADDRESS, str(MTU))
    assert report.facts["staticroutes"].split()[:2] == ["10.99.0.0/16", GATEWAY]
    arping = report.of(commands[0]).output
    assert re.search(rf"reply from {GATEWAY} \[02:72:", arping), arping
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
