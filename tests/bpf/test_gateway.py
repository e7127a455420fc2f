"""GATEWAY: between an external network and the edges, without a state of its own."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from daemon.abi import Drop, Neigh, NeighKey, PuntKind
from daemon.compiler.result import Outside
from daemon.compiler.wide import wide
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, checked, echo, payload, to
from tests.bpf.lab import REDIRECT, SHOT, Lab, vxlan
from tests.bpf.outside import (
    BLOCK,
    BLOCK_N2,
    EXT_MAC,
    EXT_VNI,
    FLOAT,
    OUT,
    OWN,
    REMOTE_FLOAT,
    ROUTER,
    SHARED,
    zone_with_uplink,
)

pytestmark = pytest.mark.privileged

DEVICE_MAC = "02:ee:00:00:00:01"
ROUTER_MAC = "02:ee:00:00:00:fe"


def as_gateway(lab: Lab, *others: str, **more: Any) -> Lab:
    """n1 is a gateway, with others; the router outside is known."""
    here = Outside("internet", lab.ifindex["outside"], DEVICE_MAC)
    down = more.pop("down", frozenset())
    lab.program(zone_with_uplink(("n1", *others), **more), outside=(here,), down=down)
    know(lab, *ROUTER.values())
    return lab


def know(lab: Lab, *addresses: str) -> None:
    from ipaddress import ip_address

    for address in addresses:
        key = NeighKey(EXT_VNI, wide(ip_address(address)))
        lab.write("plum_neigh", key, Neigh(1, bytes.fromhex(ROUTER_MAC.replace(":", ""))))


def edge(family: int, source: str, l4: Packet, to: str = "", node: int = 2) -> bytes:
    """From an edge, translated."""
    ip = IPv6 if family == 6 else IP
    inner = Ether(src=EXT_MAC, dst=EXT_MAC) / ip(src=source, dst=to or OUT[family]) / l4
    return vxlan(inner, vni=EXT_VNI, src=t.VTEPS[node - 1])


def outside(family: int, to: str, l4: Packet, source: str = "", **ip: Any) -> Packet:
    kind = IPv6 if family == 6 else IP
    head = kind(src=source or OUT[family], dst=to, **ip)
    return Ether(src=ROUTER_MAC, dst=DEVICE_MAC) / head / l4


@pytest.mark.parametrize("family", FAMILIES)
def test_out_by_the_route_to_the_router(lab: Lab, family: int) -> None:
    as_gateway(lab)
    sent = lab.receive(edge(family, SHARED[family], UDP(sport=BLOCK_N2 + 5, dport=53)))
    assert sent.verdict == REDIRECT and sent.drop is None
    packet = checked(sent.frame)
    assert (packet.src, packet.dst) == (DEVICE_MAC, ROUTER_MAC)
    assert packet[UDP].sport == BLOCK_N2 + 5


def test_only_the_node_that_has_a_public_port_sends_from_it(lab: Lab) -> None:
    as_gateway(lab)
    for source, port, node in (
        (SHARED[4], BLOCK_N2, 3),  # n2's block
        (SHARED[4], BLOCK, 2),  # ours
        (SHARED[4], 60000, 2),  # nobody's
        (FLOAT[4], 9, 2),  # of an endpoint here
        (t.ip4("c"), 9, 2),  # not translated
        ("8.8.4.4", 9, 2),
    ):
        refused = lab.receive(edge(4, source, UDP(sport=port, dport=53), node=node))
        assert refused.drop is Drop.SOURCE_ADDRESS, (source, port, node)
    allowed = lab.receive(edge(4, REMOTE_FLOAT, UDP(sport=9, dport=53)))
    assert allowed.drop is None


@pytest.mark.parametrize("family", FAMILIES)
def test_in_to_the_node_that_has_the_port(lab: Lab, family: int) -> None:
    as_gateway(lab)
    came = lab.from_outside(outside(family, SHARED[family], UDP(sport=53, dport=BLOCK_N2 + 5)))
    assert came.tunnel.vni == EXT_VNI and came.tunnel.outer[IP].dst == t.VTEPS[1]
    inner = checked(came.tunnel.inner)
    assert inner.src == inner.dst == EXT_MAC
    assert inner[UDP].dport == BLOCK_N2 + 5


def test_in_to_a_floating_address(lab: Lab) -> None:
    as_gateway(lab)
    syn = TCP(sport=5, dport=443, flags="S")
    far = lab.from_outside(outside(4, REMOTE_FLOAT, syn))
    assert far.tunnel.outer[IP].dst == t.VTEPS[1]
    near = lab.from_outside(outside(4, FLOAT[4], syn))
    assert near.delivered_to == "b" and checked(near.frame)[IP].dst == t.ip4("b")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_node_that_is_its_own_gateway(lab: Lab, family: int) -> None:
    as_gateway(lab)
    for _ in range(2):  # the second on the fast path
        sent = lab.send("a", to("a", OUT[family]) / UDP(sport=5000, dport=53) / payload(9))
        assert sent.sent == {"a": 1} and sent.drop is None
        packet = checked(sent.frame)
        assert (packet.src, packet.dst) == (DEVICE_MAC, ROUTER_MAC)
        port = packet[UDP].sport
        back = outside(family, SHARED[family], UDP(sport=53, dport=port) / payload(9))
        assert lab.from_outside(back).delivered_to == "a"


@pytest.mark.parametrize(
    "l4",
    [UDP(sport=BLOCK_N2 + 5, dport=53), TCP(sport=BLOCK_N2 + 5, dport=80, flags="S")],
    ids=["udp", "syn"],
)
def test_what_is_not_plain_takes_the_same_way(lab: Lab, l4: Packet) -> None:
    """IP options miss the fast path; all else about the packet is the same."""
    as_gateway(lab)
    ways = []
    for options in ([], [IPOption_NOP()] * 4):
        head = IP(src=SHARED[4], dst=OUT[4], options=options)
        out = lab.receive(vxlan(Ether(src=EXT_MAC, dst=EXT_MAC) / head / l4, EXT_VNI, t.VTEPS[1]))
        sent = checked(out.frame)
        came = lab.from_outside(outside(4, REMOTE_FLOAT, l4, options=options))
        inner = checked(came.tunnel.inner)
        ways.append(
            (
                (out.verdict, sent.src, sent.dst, sent[IP].src, sent[IP].ttl),
                (came.tunnel.vni, came.tunnel.outer[IP].dst, inner.dst, inner[IP].dst),
            )
        )
    assert ways[0] == ways[1]


def test_from_one_public_address_to_another(lab: Lab) -> None:
    """Hairpin: an endpoint reaches another one by its floating address."""
    as_gateway(lab)
    there = lab.send("a", to("a", REMOTE_FLOAT) / UDP(sport=5000, dport=53))
    assert there.tunnel.outer[IP].dst == t.VTEPS[1]
    inner = checked(there.tunnel.inner)
    assert (inner[IP].src, inner[IP].dst) == (SHARED[4], REMOTE_FLOAT)
    here = lab.send("a", to("a", FLOAT[4]) / UDP(sport=5001, dport=53))
    assert here.delivered_to == "b"
    assert (checked(here.frame)[IP].src, checked(here.frame)[IP].dst) == (SHARED[4], t.ip4("b"))
    between = lab.receive(edge(4, REMOTE_FLOAT, UDP(sport=7, dport=53), to=FLOAT[4]))
    assert between.delivered_to == "b"


def test_nobody_outside_uses_our_addresses(lab: Lab) -> None:
    as_gateway(lab)
    for source in (REMOTE_FLOAT, FLOAT[4]):
        forged = outside(4, FLOAT[4], UDP(sport=9, dport=53), source=source)
        assert lab.from_outside(forged).drop is Drop.SOURCE_ADDRESS
    for source in ("127.0.0.1", "224.0.0.1", "169.254.1.1"):
        martian = outside(4, FLOAT[4], UDP(sport=9, dport=53), source=source)
        assert lab.from_outside(martian).verdict in (0, SHOT)
        assert not lab.flows()


def test_arp_is_answered_for_what_this_gateway_claims(lab: Lab) -> None:
    as_gateway(lab)
    for address in (OWN[4], FLOAT[4], REMOTE_FLOAT, SHARED[4]):
        ask = Ether(src=ROUTER_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(
            op=1, hwsrc=ROUTER_MAC, psrc=ROUTER[4], pdst=address
        )
        reply = lab.from_outside(ask)
        assert reply.verdict == REDIRECT
        arp = Ether(reply.frame)[ARP]
        assert (arp.op, arp.hwsrc, arp.psrc, arp.pdst) == (2, DEVICE_MAC, address, ROUTER[4])
    other = Ether(src=ROUTER_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, pdst="198.19.5.77")
    assert lab.from_outside(other).verdict == 0  # the host's own business


def test_gateways_share_the_addresses_and_take_over(lab: Lab) -> None:
    addresses = (FLOAT[4], REMOTE_FLOAT, SHARED[4], "198.19.5.131", FLOAT[6], SHARED[6])

    def claimed() -> set[bytes]:
        return {key.addr for key in lab.rows("plum_claim")}

    as_gateway(lab, "n2")
    some = claimed()
    assert 2 < len(some) < 2 + len(addresses)
    as_gateway(lab, "n2", down=frozenset({("internet", "n2")}))
    assert claimed() > some and len(claimed()) == 2 + len(addresses)


def test_nd_is_answered_too(lab: Lab) -> None:
    as_gateway(lab)
    ask = (
        Ether(src=ROUTER_MAC, dst="33:33:ff:00:00:02")
        / IPv6(src=ROUTER[6], dst="ff02::1:ff00:2", hlim=255)
        / ICMPv6ND_NS(tgt=FLOAT[6])
        / ICMPv6NDOptSrcLLAddr(lladdr=ROUTER_MAC)
    )
    reply = lab.from_outside(ask)
    assert reply.verdict == REDIRECT
    packet = checked(reply.frame)
    assert packet[ICMPv6ND_NA].tgt == FLOAT[6] and packet[IPv6].dst == ROUTER[6]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gateway_answers_pings_to_itself(lab: Lab, family: int) -> None:
    as_gateway(lab)
    ping = outside(family, OWN[family], echo(family))
    pong = lab.from_outside(ping)
    assert pong.verdict == REDIRECT
    packet = checked(pong.frame)
    assert packet.dst == ROUTER_MAC


def test_an_unknown_neighbour_is_asked_for(lab: Lab) -> None:
    as_gateway(lab)
    waiting = lab.receive(edge(4, REMOTE_FLOAT, UDP(sport=1, dport=2), to="198.19.5.99"))
    assert waiting.drop is None and len(waiting.punted) == 1
    punt = waiting.punted[0]
    assert (punt.kind, punt.slot) == (PuntKind.NEIGH, EXT_VNI)
    assert Ether(bytes(punt.frame[: punt.len]))[IP].dst == "198.19.5.99"
    know(lab, "198.19.5.99")
    assert lab.receive(edge(4, REMOTE_FLOAT, UDP(sport=1, dport=2), to="198.19.5.99")).packet


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_too_large_for_the_way_in_is_told(lab: Lab, family: int) -> None:
    as_gateway(lab, mtu=1400)
    more = {"flags": "DF"} if family == 4 else {}
    large = outside(
        family, REMOTE_FLOAT if family == 4 else FLOAT[6], UDP() / payload(1450), **more
    )
    if family == 6:
        lab.program(
            zone_with_uplink(("n1",), mtu=1400, floating=[{"address": FLOAT[6], "endpoint": "c"}]),
            outside=(Outside("internet", lab.ifindex["outside"], DEVICE_MAC),),
        )
    told = lab.from_outside(large)
    assert told.drop is Drop.MTU and told.verdict == REDIRECT
    packet = checked(told.frame)
    if family == 4:
        assert packet[IP].src == OWN[4] and packet[ICMP].nexthopmtu == 1400
    else:
        assert packet[IPv6].src == OWN[6] and packet[ICMPv6PacketTooBig].mtu == 1400


def shop_front(
    lab: Lab, *backends: str, gateway: bool = True, gateways: tuple[str, ...] = ("n1", "n2")
) -> None:
    """A load balancer of `backends` behind a public address of each family."""
    front = {
        "name": "front",
        "bridge": "web",
        "addresses": ["10.0.1.200", "2001:db8:1::200"],
        "listeners": [{"port": 80, "to_port": 8080}],
        "backends": [{"endpoint": name} for name in backends],
    }
    floating = [{"address": address, "load_balancer": "front"} for address in VIP.values()]
    here = Outside("internet", lab.ifindex["outside"], DEVICE_MAC)
    lab.program(
        zone_with_uplink(gateways, floating=floating, load_balancers=[front]),
        outside=(here,) if gateway else (),
    )
    know(lab, *ROUTER.values())


VIP = {4: "198.19.5.140", 6: "2001:db8:e:2::40"}


def syn(family: int, sport: int) -> Packet:
    return outside(family, VIP[family], TCP(sport=sport, dport=80, flags="S", seq=7))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_load_balancer_behind_a_public_address(lab: Lab, family: int) -> None:
    shop_front(lab, "b", "c", "d", "f")
    near: dict[str, int] = {}
    far: dict[str, int] = {}
    for sport in range(2000, 2060):
        came = lab.from_outside(syn(family, sport))
        if came.delivered_to:
            packet = checked(came.frame)
            head = packet[IP] if family == 4 else packet[IPv6]
            assert head.dst == t.ip(came.delivered_to, family) and head.src == OUT[family]
            assert packet[TCP].dport == 8080
            near[came.delivered_to] = near.get(came.delivered_to, 0) + 1
        else:
            vtep = came.tunnel.outer[IP].dst
            far[vtep] = far.get(vtep, 0) + 1
    assert set(near) == {"b", "d"} and set(far) == {t.VTEPS[1], t.VTEPS[2]}
    assert min(*near.values(), *far.values()) > 5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_backend_answers_from_the_public_address(lab: Lab, family: int) -> None:
    shop_front(lab, "b", gateways=("n1",))
    for turn in range(2):
        came = lab.from_outside(syn(family, 3000 + turn))
        assert came.delivered_to == "b"
        sa = TCP(sport=8080, dport=3000 + turn, flags="SA", seq=9, ack=8)
        left = checked(lab.send("b", to("b", OUT[family]) / sa).frame)
        head = left[IP] if family == 4 else left[IPv6]
        assert (head.src, left[TCP].sport, left.dst) == (VIP[family], 80, ROUTER_MAC)
        ack = TCP(sport=3000 + turn, dport=80, flags="A", seq=8, ack=10)
        assert lab.from_outside(outside(family, VIP[family], ack)).delivered_to == "b"


def test_what_gateway_and_edge_choose_is_the_same(lab: Lab) -> None:
    """An edge gets only connections that it gives to its own backends."""
    shop_front(lab, "b", "c", "d", gateway=False)
    taken = 0
    for sport in range(2000, 2040):
        inner = Ether(src=EXT_MAC, dst=EXT_MAC) / syn(4, sport)[IP]
        came = lab.receive(vxlan(inner, vni=EXT_VNI))
        assert came.delivered_to in ("b", "d") or came.drop is Drop.NOT_HERE
        taken += came.drop is None
    assert 15 < taken < 40


def test_a_connection_stays_while_others_move(lab: Lab) -> None:
    shop_front(lab, "b", "d")
    before = {sport: lab.from_outside(syn(4, sport)).delivered_to for sport in range(2000, 2030)}
    shop_front(lab, "b", "d", "p")
    for sport, name in before.items():
        ack = TCP(sport=sport, dport=80, flags="A", seq=8, ack=10)
        sa = TCP(sport=8080, dport=sport, flags="SA", seq=9, ack=8)
        assert lab.send(name or "", to(name or "", OUT[4]) / sa).drop is None
        assert lab.from_outside(outside(4, VIP[4], ack)).delivered_to == name


def test_only_nodes_with_backends_speak_for_a_load_balancer(lab: Lab) -> None:
    shop_front(lab, "b", "c")
    l4 = TCP(sport=80, dport=9, flags="SA")
    assert lab.receive(edge(4, VIP[4], l4, node=2)).drop is None
    assert lab.receive(edge(4, VIP[4], l4, node=3)).drop is Drop.SOURCE_ADDRESS
    assert lab.receive(edge(4, VIP[4], TCP(sport=81, dport=9), node=2)).drop is Drop.SOURCE_ADDRESS


def test_a_tagged_network_leaves_the_untagged_alone(lab: Lab) -> None:
    as_gateway(lab, vlan=100)
    untagged = outside(4, FLOAT[4], UDP(sport=9, dport=53))
    assert lab.from_outside(untagged).verdict == 0
