"""Tenants that misbehave, on the wire: each attack fails and is counted by its reason."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Advertise
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from plumctl.errors import PlumError
from plumctl.run import run
from tests.system.zone import (
    ETH_P_ALL,
    SO_RCVBUFFORCE,
    Guest,
    Wire,
    Zone,
    domain,
    echoed,
    endpoint,
    tenant,
    until,
)

TENANT = "t-sys-att"
ONE, TWO = f"{TENANT}/one", f"{TENANT}/two"
ALL = "ff:ff:ff:ff:ff:ff"
PAIR_MAC = "02:aa:00:00:00:01"
PAIRS = [
    {"address": "10.9.1.200"},
    {"address": "fd09:1::200"},
    {"address": "10.9.1.201", "mac": PAIR_MAC},
]
BRIDGES = [
    {"name": "lan", "subnets": ["10.9.1.0/24", "fd09:1::/64"]},
    {"name": "far", "subnets": ["10.9.2.0/24", "fd09:2::/64"]},
]
ROUTER = {
    "name": "gw",
    "interfaces": [
        {"bridge": "lan", "addresses": ["10.9.1.1/24", "fd09:1::1/64"]},
        {"bridge": "far", "addresses": ["10.9.2.1/24", "fd09:2::1/64"]},
    ],
}
SERVICE = 7000


@dataclass
class Lan:
    """`a` attacks from n1; `b` on n2 and `c` on n1 share its bridge, `r` on n3 is routed.

    `rival` and `rival_b` have the addresses of `a` and `b` in another domain.
    """

    a: Guest
    b: Guest
    c: Guest
    r: Guest
    rival: Guest
    rival_b: Guest
    router_mac: str
    vni: int


@pytest.fixture(scope="module")
def lan(zone_of_three: Zone) -> Iterator[Lan]:
    zone = zone_of_three
    zone.apply(
        [
            tenant(TENANT),
            domain(TENANT, "one", BRIDGES, routers=[ROUTER]),
            domain(TENANT, "two", BRIDGES, routers=[ROUTER]),
            endpoint(f"{ONE}/a", "lan", "n1", "10.9.1.11", "fd09:1::11", allowed_pairs=PAIRS),
            endpoint(f"{ONE}/b", "lan", "n2", "10.9.1.12", "fd09:1::12"),
            endpoint(f"{ONE}/c", "lan", "n1", "10.9.1.13", "fd09:1::13"),
            endpoint(f"{ONE}/r", "far", "n3", "10.9.2.11", "fd09:2::11"),
            endpoint(f"{TWO}/a", "lan", "n1", "10.9.1.11", "fd09:1::11"),
            endpoint(f"{TWO}/b", "lan", "n2", "10.9.1.12", "fd09:1::12"),
        ]
    )
    guests = zone.guests(TENANT)
    for name in ("one/a", "two/a"):
        guests[name].run("ping", "-c", "1", "-W", "3", "10.9.1.1")
    gateway = guests["one/a"].run("ip", "-j", "neigh", "show", "10.9.1.1").split('"lladdr":"')[1]
    yield Lan(
        *(guests[f"one/{name}"] for name in "abcr"),
        guests["two/a"],
        guests["two/b"],
        gateway[:17],
        zone.view(ONE, "domain").allocated["vnis"]["lan"],
    )
    zone.drop_tenant(TENANT)


def from_a(lan: Lan, to: Guest | None = None, **ip: object) -> Packet:
    target = to or lan.b
    dmac = lan.router_mac if target is lan.r else target.mac
    return Ether(src=lan.a.mac, dst=dmac) / IP(**{"src": lan.a.ip(), "dst": target.ip(), **ip})


def from_a6(lan: Lan, **ip: object) -> Packet:
    ends = {"src": lan.a.ip(6), "dst": lan.b.ip(6), **ip}
    return Ether(src=lan.a.mac, dst=lan.b.mac) / IPv6(**ends)


def datagram(text: bytes = b"attack") -> Packet:
    return UDP(sport=4000, dport=SERVICE) / Raw(text)


def arp(lan: Lan, claimed: str, mac: str | None = None, op: int = 2) -> Packet:
    return Ether(src=lan.a.mac, dst=ALL) / ARP(
        op=op, hwsrc=mac or lan.a.mac, psrc=claimed, hwdst=ALL, pdst=claimed
    )


def advert(lan: Lan, target: str, mac: str) -> Packet:
    return (
        Ether(src=lan.a.mac, dst="33:33:00:00:00:01")
        / IPv6(src=lan.a.ip(6), dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt=target, R=0, S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )


def attacks(lan: Lan) -> dict[str, tuple[str, list[Packet]]]:
    """Name -> drop reason and frames that `a` sends."""
    a, b = lan.a, lan.b
    own6 = {"src": a.ip(6), "dst": "ff02::1", "hlim": 255}
    to_all6 = Ether(src=a.mac, dst="33:33:00:00:00:01")
    oxen = Raw(b"x" * 64)
    return {
        "mac of b": (
            "SOURCE_MAC",
            [Ether(src=b.mac, dst=lan.c.mac) / from_a(lan)[IP] / datagram()],
        ),
        "mac of nobody": (
            "SOURCE_MAC",
            [Ether(src="02:00:00:00:00:99", dst=b.mac) / from_a(lan)[IP] / datagram()],
        ),
        "group mac": (
            "SOURCE_MAC",
            [Ether(src="03:00:00:00:00:99", dst=b.mac) / from_a(lan)[IP] / datagram()],
        ),
        "address of c": ("SOURCE_ADDRESS", [from_a(lan, src=lan.c.ip()) / datagram()]),
        "address of the gateway": ("SOURCE_ADDRESS", [from_a(lan, src="10.9.1.1") / datagram()]),
        "address of c, routed": (
            "SOURCE_ADDRESS",
            [from_a(lan, lan.r, src=lan.c.ip()) / datagram()],
        ),
        "IPv6 of c": ("SOURCE_ADDRESS", [from_a6(lan, src=lan.c.ip(6)) / datagram()]),
        "link-local of c": ("SOURCE_ADDRESS", [from_a6(lan, src="fe80::1234") / datagram()]),
        "pair with the wrong mac": ("SOURCE_ADDRESS", [from_a(lan, src="10.9.1.201") / datagram()]),
        "gratuitous ARP for b": ("ARP_SPOOF", [arp(lan, b.ip()), arp(lan, b.ip(), op=1)]),
        "gratuitous ARP for the gateway": ("ARP_SPOOF", [arp(lan, "10.9.1.1")]),
        "ARP with the mac of c": ("ARP_SPOOF", [arp(lan, a.ip(), lan.c.mac)]),
        "advertisement for b": ("ND_SPOOF", [advert(lan, b.ip(6), a.mac)]),
        "advertisement for the gateway": ("ND_SPOOF", [advert(lan, "fd09:1::1", a.mac)]),
        "advertisement with the mac of c": ("ND_SPOOF", [advert(lan, a.ip(6), lan.c.mac)]),
        "rogue DHCP": (
            "ROGUE_DHCP",
            [
                from_a(lan)
                / UDP(sport=67, dport=68)
                / BOOTP(op=2, chaddr=bytes(6), yiaddr="10.9.1.66")
                / DHCP(options=[("message-type", "offer"), "end"])
            ],
        ),
        "rogue DHCPv6": (
            "ROGUE_DHCP",
            [from_a6(lan) / UDP(sport=547, dport=546) / DHCP6_Advertise()],
        ),
        "rogue router": ("ROGUE_RA", [to_all6 / IPv6(**own6) / ICMPv6ND_RA()]),
        "redirect": ("ROGUE_RA", [to_all6 / IPv6(**own6) / ICMPv6ND_Redirect(tgt=a.ip(6))]),
        "ICMP redirect": ("ROGUE_RA", [from_a(lan) / ICMP(type=5, code=1, gw=a.ip()) / oxen]),
        "tagged": (
            "ETHERTYPE",
            [Ether(src=a.mac, dst=b.mac) / Dot1Q(vlan=5) / from_a(lan)[IP] / datagram()],
        ),
        "source route": (
            "IP_OPTIONS",
            [from_a(lan, options=IPOption(b"\x83\x07\x04\x0a\x09\x02\x01\x00")) / datagram()],
        ),
        "routing header": (
            "EXTENSION_HEADER",
            [from_a6(lan) / IPv6ExtHdrRouting(addresses=["fd09:1::13"]) / datagram()],
        ),
        "later fragment alone": (
            "FRAGMENT_FIRST",
            [from_a(lan, id=901, frag=4, proto=17) / oxen],
        ),
        "later IPv6 fragment alone": (
            "FRAGMENT_FIRST",
            [from_a6(lan) / IPv6ExtHdrFragment(nh=17, offset=4, id=902) / oxen],
        ),
        "tiny first fragment": (
            "FRAGMENT_TINY",
            [from_a(lan, id=903, flags="MF", proto=6) / Raw(b"\x10\x00\x1b\x58\0\0\0\1")],
        ),
        "mid-flow TCP": ("TCP_NO_HANDSHAKE", [from_a(lan) / TCP(sport=4001, dport=22, flags="PA")]),
        "blind RST": ("TCP_NO_HANDSHAKE", [from_a(lan) / TCP(sport=4002, dport=22, flags="R")]),
        "SYN and RST": ("TCP_FLAGS", [from_a(lan) / TCP(sport=4003, dport=22, flags="SR")]),
        "echo reply nobody asked for": (
            "ICMP_UNRELATED",
            [from_a(lan) / ICMP(type=0, id=9) / oxen],
        ),
        "IPv6 echo reply": ("ICMP_UNRELATED", [from_a6(lan) / ICMPv6EchoReply(id=9, data=b"x")]),
        "error about no flow": (
            "ICMP_UNRELATED",
            [from_a(lan) / ICMP(type=3, code=1) / IP(src=b.ip(), dst=a.ip()) / UDP() / oxen],
        ),
    }


ATTACKS = sorted(attacks(Lan(*(Guest(n, n, "02::", ("1.1.1.1", "::1")) for n in "abcrde"), "", 0)))


def marked(lan: Lan, wire: Wire, target: Guest) -> list[bytes]:
    """Frames the target saw, through one that `a` rightly sent last."""
    marker = random.randbytes(16)
    with lan.a.udp(0) as here:
        here.sendto(marker, (target.ip(), SERVICE))
    seen: list[bytes] = []
    for frame in wire.frames(5):
        if marker in frame:
            return seen
        seen.append(frame)
    raise AssertionError("the marker did not arrive")


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_dropped_counted_and_seen_by_nobody(plum: Zone, lan: Lan, name: str) -> None:
    reason, frames = attacks(lan)[name]
    with lan.b.wire() as at_b, lan.c.wire() as at_c, lan.a.wire() as mine:
        with plum.drops(reason, lan.a.path, len(frames)):
            for frame in frames:
                mine.send(frame)
        for wire, guest in ((at_b, lan.b), (at_c, lan.c)):
            seen = marked(lan, wire, guest)
            for frame in frames:
                assert bytes(frame) not in seen
                tail = bytes(frame)[14:]
                assert not [one for one in seen if tail in one and b"attack" in one]


@pytest.mark.parametrize(
    ("mac", "address"),
    [(None, "10.9.1.200"), (PAIR_MAC, "10.9.1.201"), (None, "fd09:1::200")],
)
def test_allowed_pair_passes(plum: Zone, lan: Lan, mac: str | None, address: str) -> None:
    layer = (
        IPv6(src=address, dst=lan.b.ip(6)) if ":" in address else IP(src=address, dst=lan.b.ip())
    )
    payload = random.randbytes(16)
    with lan.b.wire() as there, lan.a.wire() as here:
        here.send(Ether(src=mac or lan.a.mac, dst=lan.b.mac) / layer / datagram(payload))
        there.await_frame(lambda frame: payload in frame)


def test_tag_on_a_known_flow_is_no_way_round(plum: Zone, lan: Lan) -> None:
    """The kernel takes a tag off before our program sees the frame, and keeps it aside."""
    plain = from_a(lan) / datagram()
    with lan.b.wire() as there, lan.a.wire() as here:
        for _ in range(2):
            here.send(plain)
            there.await_frame(lambda frame: b"attack" in frame)
        with plum.drops("ETHERTYPE", lan.a.path):
            here.send(Ether(src=lan.a.mac, dst=lan.b.mac) / Dot1Q(vlan=7) / plain[IP])
        assert marked(lan, there, lan.b) == []


def test_spoofed_neighbours_leave_caches_alone(plum: Zone, lan: Lan) -> None:
    lan.b.run("ping", "-c", "1", "-W", "3", lan.c.ip())
    with lan.a.wire() as wire, plum.drops("ARP_SPOOF", lan.a.path, 2):
        for _ in range(2):
            wire.send(arp(lan, lan.c.ip()))
    assert lan.c.mac in lan.b.run("ip", "neigh", "show", lan.c.ip())


def test_rst_of_others_breaks_no_connection(plum: Zone, lan: Lan) -> None:
    """A neighbour forges it; a stranger with the very same address really sends it."""
    with lan.b.listen(SERVICE) as listener, lan.a.connect(lan.b.ip(), SERVICE) as mine:
        accepted, (address, port) = listener.accept()
        rst = IP(src=address, dst=lan.b.ip()) / TCP(sport=port, dport=SERVICE, flags="R", seq=1)
        with lan.c.wire() as wire, plum.drops("SOURCE_ADDRESS", lan.c.path):
            wire.send(Ether(src=lan.c.mac, dst=lan.b.mac) / rst)
        with lan.rival.wire() as wire, plum.drops("TCP_NO_HANDSHAKE", lan.rival.path):
            wire.send(Ether(src=lan.rival.mac, dst=lan.rival_b.mac) / rst)
        with accepted:
            mine.sendall(b"still")
            assert accepted.recv(10) == b"still"
            accepted.sendall(b"here")
            assert mine.recv(10) == b"here"


@pytest.mark.parametrize("family", [4, 6])
def test_same_tuple_in_two_domains_never_crosses(lan: Lan, family: int) -> None:
    pairs = [(lan.a, lan.b), (lan.rival, lan.rival_b)]
    servers = [server.udp(SERVICE, family) for _, server in pairs]
    clients = [client.udp(4444, family) for client, _ in pairs]
    for number, (client, (_, server)) in enumerate(zip(clients, pairs, strict=True)):
        client.sendto(b"from %d" % number, (server.ip(family), SERVICE))
        # and in fragments, with identifications that repeat
        client.sendto(b"%d" % number * 4000, (server.ip(family), SERVICE))
    for number, server in enumerate(servers):
        said = [server.recv(9000), server.recv(9000)]
        assert said == [b"from %d" % number, b"%d" % number * 4000]
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.recv(9000)
    for opened in (*servers, *clients):
        opened.close()


def test_same_fragment_id_in_two_domains_never_crosses(plum: Zone, lan: Lan) -> None:
    """The first fragment in one domain does not let the later one of another through."""
    whole = bytes(UDP(sport=4000, dport=SERVICE, len=24, chksum=0) / Raw(b"y" * 16))
    head = {"src": lan.a.ip(), "dst": lan.b.ip(), "id": 77, "proto": 17}
    with lan.rival.wire() as first, lan.a.wire() as later, lan.rival_b.wire() as rival_b:
        first.send(
            Ether(src=lan.rival.mac, dst=lan.rival_b.mac) / IP(flags="MF", **head) / Raw(whole[:16])
        )
        rival_b.await_frame(lambda frame: b"yyyyyyyy" in frame)
        with plum.drops("FRAGMENT_FIRST", lan.a.path):
            later.send(Ether(src=lan.a.mac, dst=lan.b.mac) / IP(frag=2, **head) / Raw(whole[16:]))


def test_nobody_on_the_host_hears_a_tenant(plum: Zone, lan: Lan) -> None:
    """Neither over link-local addresses of its device nor over the node's own."""
    device = plum.device(lan.a.path)
    assert plum.on("n1", "ip", "-o", "addr", "show", "dev", device) == ""
    host = Guest("n1", plum.layout.namespace("n1"))
    mac = plum.mac_of("n1", device)
    with host.udp(SERVICE, 6, "::") as listener, lan.a.wire() as wire:
        listener.setblocking(False)
        for source, target in (
            (lan.a.ip(), "192.0.2.1"),
            (lan.a.ip(), "169.254.1.1"),
            (lan.a.ip(), "255.255.255.255"),
        ):
            wire.send(Ether(src=lan.a.mac, dst=mac) / IP(src=source, dst=target) / datagram())
            wire.send(Ether(src=lan.a.mac, dst=ALL) / IP(src=source, dst=target) / datagram())
        wire.send(Ether(src=lan.a.mac, dst=mac) / IPv6(src=lan.a.ip(6), dst="ff02::1") / datagram())
        echoed(lan.a, lan.b)  # all of it went before
        with pytest.raises(BlockingIOError):
            listener.recv(100)
        assert plum.on("n1", "ip", "neigh", "show", "dev", device) == ""


def test_guest_sees_no_frame_of_the_host(plum: Zone, lan: Lan) -> None:
    """No multicast report, solicitation or whatever a kernel says on its devices."""
    device = plum.device(lan.c.path)
    mac = bytes.fromhex(plum.mac_of("n1", device).replace(":", ""))
    with lan.c.wire() as wire:
        plum.on("n1", "ip", "link", "set", device, "down")
        until(lambda: "state UP" in plum.on("n1", "ip", "link", "show", device))
        until(lambda: any("was down" in what for what in plum.repairs("n1")))
        lan.a.run("ping", "-c", "3", "-i", "0.4", "-W", "2", lan.c.ip())
        assert not [frame for frame in wire.frames() if frame[6:12] == mac]


def test_tenant_cannot_inject_tunnel_frames(plum: Zone, lan: Lan) -> None:
    inner = Ether(src=lan.rival.mac, dst=lan.rival_b.mac) / IP(src="10.9.1.11", dst="10.9.1.12")
    vni = plum.view(TWO, "domain").allocated["vnis"]["lan"]
    tunnel = UDP(sport=5000, dport=4789) / VXLAN(flags=8, vni=vni) / inner / datagram(b"injected")
    with lan.a.wire() as wire, lan.rival_b.wire() as target:
        for vtep in ("192.0.2.1", "192.0.2.2"):
            with plum.drops("NO_ROUTE", lan.a.path):
                outer = IP(src=lan.a.ip(), dst=vtep)
                wire.send(Ether(src=lan.a.mac, dst=lan.router_mac) / outer / tunnel)
        echoed(lan.rival, lan.rival_b)
        assert not [frame for frame in target.frames() if b"injected" in frame]


def test_tunnel_frame_from_no_vtep_is_dropped_and_nothing_learned(plum: Zone, lan: Lan) -> None:
    name, fabric = "t-sys-rogue", plum.layout.fabric
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", fabric, "link", "add", "rogue", "type", "veth", "peer", "name", "eth0",
            "netns", name)  # fmt: skip
        run("ip", "-n", fabric, "link", "set", "rogue", "master", "switch", "up")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", name, "addr", "add", "192.0.2.200/24", "dev", "eth0")
        inner = Ether(src=lan.a.mac, dst=lan.b.mac) / from_a(lan)[IP] / datagram(b"injected")
        rogue = Guest("rogue", name, addresses=("192.0.2.200",))
        with lan.b.wire() as target, rogue.udp(5000) as here:
            with plum.drops("VTEP", None, 3):
                for vni in (lan.vni, lan.vni, 0xFFFFFF):  # the last is the idle device's own
                    payload = bytes(VXLAN(flags=8, vni=vni) / inner)
                    here.sendto(payload, ("192.0.2.2", 4789))
            assert marked(lan, target, lan.b) == []
        assert plum.on("n2", "bridge", "fdb", "show", "dev", "plum_gro").strip() == ""
        with (
            rogue.udp(5001) as here,
            Guest("n2", plum.layout.namespace("n2")).udp(5002, 4, "192.0.2.2") as there,
        ):
            here.sendto(b"plain", ("192.0.2.2", 5002))  # the host's own traffic passes
            assert there.recv(10) == b"plain"
    finally:
        run("ip", "netns", "delete", name)


def test_fuzzed_dhcp_leaves_the_responders_alive(plum: Zone, lan: Lan) -> None:
    good = bytes(
        Ether(src=lan.a.mac, dst=ALL)
        / IP(src="0.0.0.0", dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / BOOTP(chaddr=bytes.fromhex(lan.a.mac.replace(":", "")), xid=7)
        / DHCP(options=[("message-type", "discover"), ("max_dhcp_size", 1400), "end"])
    )
    pid, dice = plum.pid("n1"), random.Random(5)
    with lan.a.wire() as wire, plum.drops("PUNT_LIMIT", lan.a.path):
        for _ in range(1500):
            frame = bytearray(good)
            for _ in range(dice.randrange(1, 20)):
                frame[dice.randrange(42, len(frame))] = dice.randrange(256)
            cut = dice.choice([len(frame), dice.randrange(42, len(frame))])
            frame[16:18] = (cut - 14).to_bytes(2)
            frame[24:26] = _ip_checksum(frame[14:34])
            frame[38:40], frame[40:42] = (cut - 34).to_bytes(2), b"\0\0"
            wire.send(frame[:cut])

    def offered() -> bool:
        with lan.a.wire() as fresh:
            fresh.send(good)
            return any(b"\x63\x82\x53\x63" in one for one in fresh.frames(0.2))

    until(offered)
    assert plum.pid("n1") == pid
    assert "Traceback" not in plum.log("n1")


def _ip_checksum(header: bytes | bytearray) -> bytes:
    words = [int.from_bytes(header[i : i + 2]) for i in range(0, 20, 2) if i != 10]
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2)


def closed(rules: list[dict[str, object]]) -> list[dict[str, object]]:
    """A domain whose endpoints only friends reach."""
    groups = [{"name": "friends", "labels": {"friend": "yes"}}]
    policies = [{"name": "who", "ingress": rules}]
    spec = {"default": {"ingress": "deny"}, "groups": groups, "policies": policies}
    bridges = [{"name": "lan", "subnets": ["10.8.1.0/24"]}]
    return [tenant(f"{TENANT}2"), domain(f"{TENANT}2", "shut", bridges, **spec)]


FRIENDS_ONLY = [{"name": "friends", "peers": [{"group": "friends"}]}]
SHUT = f"{TENANT}2/shut"


@pytest.fixture
def shut(plum: Zone) -> Iterator[Zone]:
    friend = {"labels": {"friend": "yes"}}
    plum.apply(
        [
            *closed(FRIENDS_ONLY),
            endpoint(f"{SHUT}/enemy", "lan", "n1", "10.8.1.11"),
            endpoint(f"{SHUT}/friend", "lan", "n2", "10.8.1.12", **friend),
        ]
    )
    yield plum
    plum.drop_tenant(f"{TENANT}2")


def test_empty_peer_set_matches_nothing(shut: Zone) -> None:
    enemy, friend = shut.guest(f"{SHUT}/enemy"), shut.guest(f"{SHUT}/friend")
    shut.apply(closed([{"name": "nobody", "peers": []}]))
    with (
        friend.udp(SERVICE) as there,
        enemy.udp() as here,
        shut.drops("POLICY_INGRESS", friend.path),
    ):
        here.sendto(b"in?", (friend.ip(), SERVICE))
        there.settimeout(0.05)
        with pytest.raises(TimeoutError):
            there.recv(10)


def test_group_that_does_not_exist_is_refused_and_nothing_changes(shut: Zone) -> None:
    before = shut.view(SHUT, "domain").revision
    with pytest.raises(PlumError) as refused:
        shut.apply(closed([{"name": "r", "peers": [{"group": "freinds"}]}]))
    assert "freinds" in str(refused.value.problems)
    assert shut.view(SHUT, "domain").revision == before


@pytest.fixture
def victim(plum: Zone) -> Iterator[Guest]:
    """A namespace with open ears before anything is in it."""
    name = "t-sys-victim"
    run("ip", "netns", "add", name)
    yield Guest(f"{SHUT}/victim", name, addresses=("10.8.1.20",))
    run("ip", "netns", "delete", name)


def test_nothing_leaks_while_an_endpoint_comes_moves_and_goes(shut: Zone, victim: Guest) -> None:
    """Two enemies flood its address all the time, one on its node and one elsewhere."""
    shut.apply([endpoint(f"{SHUT}/enemy-2", "lan", "n3", "10.8.1.13")])
    enemies = [shut.guest(f"{SHUT}/{name}") for name in ("enemy", "enemy-2")]
    friend = shut.guest(f"{SHUT}/friend")
    ears = victim.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    ears.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    floods = []
    for enemy in enemies:
        # The neighbour is known from before, so nothing but the datapath keeps them off.
        mac = "02:65:00:00:77:77"
        enemy.run("ip", "neigh", "replace", victim.ip(), "lladdr", mac, "dev", "eth0")
        code = FLOOD.format(address=victim.ip(), port=SERVICE)
        floods.append(enemy.start("/usr/bin/python3", "-c", code))
    spec = {"mac": "02:65:00:00:77:77", "attach": {"namespace": victim.namespace}}
    try:
        for node in ("n1", "n2", "n3", "n1"):
            shut.apply([endpoint(victim.path, "lan", node, victim.ip(), **spec)])
            echoed(friend, victim)
        with shut.drops("POLICY_INGRESS", victim.path, 100):
            shut.apply(closed([]))  # the policy goes first
        shut.delete(("endpoint", victim.path))
        shut.apply([endpoint(victim.path, "lan", "n3", victim.ip(), **spec)])
        shut.delete(("endpoint", victim.path))
    finally:
        for flood in floods:
            flood.terminate()
            said = flood.communicate(timeout=5)[0]
            assert flood.returncode == -15, said
    heard = list(Wire(ears).frames())
    ears.close()
    assert [frame for frame in heard if b"question" in frame], "a friend must be heard"
    assert not [frame for frame in heard if b"flood" in frame]


def test_quota_of_one_tenant_costs_the_others_nothing(plum: Zone, lan: Lan) -> None:
    path = f"{ONE}/greedy"
    plum.apply([endpoint(path, "lan", "n1", flow_quota=16)])
    greedy = plum.guest(path)
    with lan.b.udp(SERVICE) as there, contextlib.ExitStack() as stack:
        with plum.drops("FLOW_QUOTA", path, 20):
            for _ in range(50):
                here = stack.enter_context(greedy.udp())
                here.sendto(b"more", (lan.b.ip(), SERVICE))
        heard = 0
        there.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            while there.recv(10):
                heard += 1
        assert 1 <= heard <= 16
    echoed(lan.c, lan.b)  # on the same node
    plum.delete(("endpoint", path))


FLOOD = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    try:
        s.sendto(b"flood", ("{address}", {port}))
    except OSError:
        pass
    time.sleep(0.0005)
"""
