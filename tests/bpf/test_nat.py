"""NAT: public addresses on the edge that hosts the endpoint, out and in, and their errors."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import GRE, Ether
from scapy.packet import Packet

from daemon.abi import Drop, FlowFlag, FlowState
from daemon.model.external import NatBlock
from daemon.model.prefix import translated
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, checked, echo, payload, to
from tests.bpf.lab import Lab
from tests.bpf.outside import (
    BLOCK,
    EXT_MAC,
    EXT_VNI,
    FLOAT,
    FORWARD,
    OUT,
    SHARED,
    answer,
    zone_with_uplink,
)

pytestmark = pytest.mark.privileged

REFUSE = {"ingress": "deny", "egress": "allow"}


@pytest.fixture
def nat(lab: Lab) -> Lab:
    lab.program(zone_with_uplink())
    return lab


def out(name: str, family: int, l4: Packet, **more: Any) -> Packet:
    return to(name, OUT[family], **more) / l4


def head(packet: Packet) -> Any:
    return packet[IP] if IP in packet else packet[IPv6]


def ttl_of(packet: Packet) -> int:
    return int(packet[IP].ttl if IP in packet else packet[IPv6].hlim)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_leaves_has_a_shared_address_and_its_answer_finds_back(nat: Lab, family: int) -> None:
    sent = nat.send("a", out("a", family, UDP(sport=5000, dport=53) / payload(20)))
    assert sent.drop is None
    tunnel = sent.tunnel
    inner = checked(tunnel.inner)
    assert tunnel.vni == EXT_VNI and inner.src == inner.dst == EXT_MAC
    assert head(inner).src == SHARED[family] and head(inner).dst == OUT[family]
    assert ttl_of(inner) == 63
    port = inner[UDP].sport
    assert BLOCK <= port < BLOCK + 1024 and inner[UDP].dport == 53
    back = nat.receive(answer(family, SHARED[family], UDP(sport=53, dport=port) / payload(9)))
    assert back.delivered_to == "a"
    got = checked(back.frame)
    assert (head(got).src, head(got).dst) == (OUT[family], t.ip("a", family))
    assert (got[UDP].sport, got[UDP].dport) == (53, 5000)
    assert got.dst == t.mac("a") and ttl_of(got) == 59


def test_a_port_of_the_block_stays(nat: Lab) -> None:
    inner = checked(nat.send("a", out("a", 4, UDP(sport=BLOCK + 7, dport=53))).tunnel.inner)
    assert inner[UDP].sport == BLOCK + 7
    second = checked(nat.send("d", out("d", 4, UDP(sport=BLOCK + 7, dport=53))).tunnel.inner)
    assert second[UDP].sport != BLOCK + 7


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tcp_connection_runs_on_the_fast_path_both_ways(nat: Lab, family: int) -> None:
    syn = nat.send("a", out("a", family, TCP(sport=6000, dport=80, flags="S", seq=100)))
    port = checked(syn.tunnel.inner)[TCP].sport
    public = SHARED[family]
    sa = TCP(sport=80, dport=port, flags="SA", seq=900, ack=101)
    assert nat.receive(answer(family, public, sa)).delivered_to == "a"
    ack = TCP(sport=6000, dport=80, flags="A", seq=101, ack=901)
    assert nat.send("a", out("a", family, ack)).drop is None
    assert nat.flow("a").state == FlowState.ESTABLISHED
    first = TCP(sport=80, dport=port, flags="A", seq=901, ack=101) / payload(100)
    assert nat.receive(answer(family, public, first)).delivered_to == "a"
    with nat.fast_path_only():
        there = nat.send("a", out("a", family, ack / payload(50)))
        inner = checked(there.tunnel.inner)
        assert head(inner).src == public and inner[TCP].sport == port and ttl_of(inner) == 63
        more = TCP(sport=80, dport=port, flags="A", seq=1001, ack=151) / payload(100)
        back = nat.receive(answer(family, public, more))
        assert back.delivered_to == "a"
        got = checked(back.frame)
        assert got[TCP].dport == 6000 and head(got).dst == t.ip("a", family) and ttl_of(got) == 59


@pytest.mark.parametrize("family", FAMILIES)
def test_pings_leave_with_an_id_of_their_own(nat: Lab, family: int) -> None:
    sent = checked(nat.send("a", out("a", family, echo(family, id=9))).tunnel.inner)
    assert head(sent).src == SHARED[family]
    number = sent[ICMP].id if family == 4 else sent[IPv6].payload.id
    assert number >= BLOCK
    for _ in range(2):
        back = nat.receive(answer(family, SHARED[family], echo(family, id=number, reply=True)))
        assert back.delivered_to == "a"
        got = checked(back.frame)
        assert (got[ICMP].id if family == 4 else got[IPv6].payload.id) == 9


def test_a_port_keeps_its_public_port_whoever_it_talks_to(nat: Lab) -> None:
    ports = set()
    for other in ("8.8.8.8", "9.9.9.9", "1.1.1.1"):
        packet = to("a", other) / UDP(sport=5000, dport=53)
        ports.add(checked(nat.send("a", packet).tunnel.inner)[UDP].sport)
    assert len(ports) == 1
    # ... and lets only those in whom it has talked to.
    stranger = answer(4, SHARED[4], UDP(sport=53, dport=ports.pop()), source="7.7.7.7")
    assert nat.receive(stranger).drop is Drop.NO_PUBLIC


def test_what_nobody_asked_for_ends_at_the_edge(nat: Lab) -> None:
    assert nat.receive(answer(4, SHARED[4], UDP(sport=53, dport=BLOCK))).drop is Drop.NO_PUBLIC
    foreign = answer(4, SHARED[4], UDP(sport=53, dport=BLOCK + 1024))
    assert nat.receive(foreign).drop is Drop.NOT_HERE


@pytest.mark.parametrize("family", FAMILIES)
def test_a_floating_address_is_the_endpoints_both_ways(nat: Lab, family: int) -> None:
    there = checked(nat.send("b", out("b", family, UDP(sport=77, dport=53))).tunnel.inner)
    assert head(there).src == FLOAT[family] and there[UDP].sport == 77
    syn = TCP(sport=999, dport=80, flags="S", seq=5)
    came = nat.receive(answer(family, FLOAT[family], syn))
    assert came.delivered_to == "b"
    got = checked(came.frame)
    assert head(got).dst == t.ip("b", family) and got[TCP].dport == 80 and got.dst == t.mac("b")
    sa = TCP(sport=80, dport=999, flags="SA", seq=70, ack=6)
    back = checked(nat.send("b", out("b", family, sa)).tunnel.inner)
    assert head(back).src == FLOAT[family] and back[TCP].sport == 80
    ping = nat.receive(answer(family, FLOAT[family], echo(family, id=3)))
    assert ping.delivered_to == "b"
    pong = nat.send("b", out("b", family, echo(family, id=3, reply=True)))
    assert head(checked(pong.tunnel.inner)).src == FLOAT[family]


def test_a_prefix_is_translated_address_by_address(lab: Lab) -> None:
    inside, outside = "2001:db8:1::/64", "2001:db8:e:100::/64"
    lab.program(zone_with_uplink(prefixes=[{"inside": inside, "outside": outside}]))
    own = IPv6Address(t.ip6("a"))
    public = str(translated(own, IPv6Network(inside), IPv6Network(outside)))
    for l4 in (UDP(sport=77, dport=53) / payload(9), echo(6, id=5), GRE() / payload(20)):
        asked = out("a", 6, l4)
        sent = lab.send("a", asked)
        assert sent.drop is None
        there = checked(sent.tunnel.inner)
        assert there[IPv6].src == public
        assert bytes(there[IPv6].payload) == bytes(asked[IPv6].payload), "checksums and ports too"
    came = lab.receive(answer(6, public, TCP(sport=999, dport=80, flags="S", seq=5)))
    assert came.delivered_to == "a" and checked(came.frame)[IPv6].dst == str(own)
    nobody = str(IPv6Address(int(IPv6Address(public)) + 1))
    assert lab.receive(answer(6, nobody, UDP(sport=9, dport=9))).drop is Drop.NOT_HERE
    floats = checked(lab.send("b", out("b", 6, UDP(sport=77, dport=53))).tunnel.inner)
    assert floats[IPv6].src == FLOAT[6], "a floating address goes before"


def test_a_forwarded_port_leads_to_one_endpoint(nat: Lab) -> None:
    syn = TCP(sport=999, dport=2222, flags="S", seq=5)
    came = nat.receive(answer(4, FORWARD, syn))
    assert came.delivered_to == "d"
    got = checked(came.frame)
    assert (got[IP].dst, got[TCP].dport) == (t.ip4("d"), 22)
    sa = TCP(sport=22, dport=999, flags="SA", seq=70, ack=6)
    back = checked(nat.send("d", out("d", 4, sa)).tunnel.inner)
    assert (back[IP].src, back[TCP].sport) == (FORWARD, 2222)
    other = answer(4, FORWARD, TCP(sport=999, dport=2223, flags="S", seq=5))
    assert nat.receive(other).drop is Drop.NOT_HERE


def test_policies_judge_what_comes_from_outside(lab: Lab) -> None:
    allow = [
        {
            "name": "in",
            "ingress": [
                {
                    "name": "http",
                    "action": "allow",
                    "peers": [{"cidr": "8.8.0.0/16"}],
                    "protocol": "tcp",
                    "ports": [80],
                },
                {"name": "friends", "action": "allow", "peers": [{"group": "clients"}]},
            ],
        }
    ]
    lab.program(zone_with_uplink(default=REFUSE, policies=allow))
    syn = TCP(sport=999, dport=80, flags="S", seq=5)
    assert lab.receive(answer(4, FLOAT[4], syn)).delivered_to == "b"
    ssh = TCP(sport=999, dport=22, flags="S", seq=5)
    assert lab.receive(answer(4, FLOAT[4], ssh)).drop is Drop.POLICY_INGRESS
    # Nobody becomes a member of a group by forging its address outside.
    forged = answer(4, FLOAT[4], ssh, source=t.ip4("a"))
    assert lab.receive(forged).drop is Drop.POLICY_INGRESS


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_from_outside_are_about_the_inner_packet(nat: Lab, family: int) -> None:
    sent = checked(nat.send("a", out("a", family, UDP(sport=5000, dport=33434))).tunnel.inner)
    quote = bytes(head(sent))
    kind = ICMP(type=11, code=0) if family == 4 else ICMPv6TimeExceeded()
    came = nat.receive(answer(family, SHARED[family], kind / quote, source=_router(family)))
    assert came.delivered_to == "a"
    got = checked(came.frame)
    assert (head(got).src, head(got).dst) == (_router(family), t.ip("a", family))
    inner = _quoted(got, family)
    assert inner.src == t.ip("a", family) and inner.dst == OUT[family]
    assert inner[UDP].sport == 5000 and inner[UDP].dport == 33434


@pytest.mark.parametrize("family", FAMILIES)
def test_an_error_about_an_unknown_connection_stays_outside(nat: Lab, family: int) -> None:
    ip = IPv6 if family == 6 else IP
    quote = bytes(ip(src=SHARED[family], dst=OUT[family]) / UDP(sport=BLOCK, dport=1))
    kind = ICMP(type=3, code=1) if family == 4 else ICMPv6TimeExceeded()
    came = nat.receive(answer(family, SHARED[family], kind / quote))
    assert came.drop is Drop.ICMP_UNRELATED


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_of_an_endpoint_leave_with_its_public_address(nat: Lab, family: int) -> None:
    came = nat.receive(answer(family, FLOAT[family], UDP(sport=999, dport=7) / payload(40)))
    assert came.delivered_to == "b"
    quote = bytes(head(checked(came.frame)))
    kind = ICMP(type=3, code=3) if family == 4 else ICMPv6PacketTooBig(mtu=1280)
    left = checked(nat.send("b", out("b", family, kind / quote)).tunnel.inner)
    assert head(left).src == FLOAT[family]
    inner = _quoted(left, family)
    assert inner.dst == FLOAT[family] and inner.src == OUT[family]


def _router(family: int) -> str:
    return "198.18.7.7" if family == 4 else "2001:db8:7777::7"


def _quoted(packet: Packet, family: int) -> Packet:
    if family == 4:
        return IP(bytes(packet[ICMP].payload))
    return IPv6(bytes(packet[IPv6].payload)[8:])


def test_fragments_keep_together(nat: Lab) -> None:
    whole = to("a", OUT[4], flags=0) / UDP(sport=5000, dport=53) / payload(3000)
    sources = set()
    for part in fragment(whole[IP], 1200):
        outcome = nat.send("a", Ether(src=whole.src, dst=whole.dst) / part)
        sources.add(Ether(outcome.tunnel.inner)[IP].src)
    assert sources == {SHARED[4]}


def test_protocols_without_ports_need_a_floating_address(nat: Lab) -> None:
    esp = to("a", OUT[4], proto=50) / payload(40)
    assert nat.send("a", esp).drop is Drop.NAT_PROTOCOL
    own = checked(nat.send("b", to("b", OUT[4], proto=50) / payload(40)).tunnel.inner)
    assert own[IP].src == FLOAT[4]


def test_a_used_up_block_refuses_and_gives_back_what_ends(lab: Lab) -> None:
    lab.program(zone_with_uplink(block_ports=64))
    lab.config(udp_s=1, udp_stream_s=1)
    seen = set()
    refused = 0
    for sport in range(10_000, 10_080):
        outcome = lab.send("a", out("a", 4, UDP(sport=sport, dport=53)))
        if outcome.drop is Drop.NAT_EXHAUSTED:
            refused += 1
            continue
        seen.add(checked(outcome.tunnel.inner)[UDP].sport)
    assert len(seen) == 64 and refused == 16
    assert len(lab.rows("plum_nat_port")) == len(lab.rows("plum_nat")) == 64
    lab.edit_flows(seen=1)
    for key, port in lab.rows("plum_nat_port").items():
        lab.write("plum_nat_port", key, port._replace(seen=1))
    lab.collect()
    assert not lab.rows("plum_nat_port") and not lab.rows("plum_nat")
    assert lab.send("a", out("a", 4, UDP(sport=1, dport=53))).drop is None


def test_collection_spares_ports_in_use(nat: Lab) -> None:
    nat.send("a", out("a", 4, UDP(sport=5000, dport=53)))
    for key, port in nat.rows("plum_nat_port").items():
        nat.write("plum_nat_port", key, port._replace(seen=1))
    nat.collect()
    assert len(nat.rows("plum_nat_port")) == len(nat.rows("plum_nat")) == 1


def test_no_gateway_is_said_to_the_sender(lab: Lab) -> None:
    snapshot = zone_with_uplink()
    down = frozenset({("internet", "n2"), ("internet", "n3")})
    lab.program(snapshot, down=down)
    refused = lab.send("a", out("a", 4, UDP(sport=5000, dport=53)))
    assert refused.drop is Drop.NO_GATEWAY and refused.answered
    assert checked(refused.frame)[ICMP].type == 3


def test_a_dead_gateways_connections_go_on_through_another(lab: Lab) -> None:
    snapshot = zone_with_uplink()
    lab.program(snapshot)
    before = {}
    for sport in range(5000, 5016):
        tunnel = lab.send("a", out("a", 4, UDP(sport=sport, dport=53))).tunnel
        before[sport] = (tunnel.outer.dst, checked(tunnel.inner)[UDP].sport)
    assert len({mac for mac, _ in before.values()}) == 2  # both are used
    lab.program(snapshot, down=frozenset({("internet", "n2")}))
    for sport, (_, port) in before.items():
        tunnel = lab.send("a", out("a", 4, UDP(sport=sport, dport=53))).tunnel
        assert tunnel.outer[IP].dst == t.VTEPS[2]
        assert checked(tunnel.inner)[UDP].sport == port
        back = answer(4, SHARED[4], UDP(sport=53, dport=port), node=3)
        assert lab.receive(back).delivered_to == "a"


def test_a_connection_ends_with_its_public_address(lab: Lab) -> None:
    lab.program(zone_with_uplink())
    sent = lab.send("b", out("b", 4, UDP(sport=5000, dport=53)))
    assert sent.drop is None
    lab.program(zone_with_uplink(floating=[]))
    assert lab.send("b", out("b", 4, UDP(sport=5000, dport=53))).drop is Drop.NAT_GONE
    lease = zone_with_uplink()
    domain = lease.domains["acme/shop"]
    moved = {"one": {"n1": (NatBlock(address=ip_address(SHARED[4]), first=8192),)}}
    lab.forget()
    lab.program(zone_with_uplink())
    assert lab.send("a", out("a", 4, UDP(sport=5000, dport=53))).drop is None
    changed = domain.model_copy(update={"nat_blocks": moved})
    lab.program(replace(lease, domains={**lease.domains, "acme/shop": changed}))
    assert lab.send("a", out("a", 4, UDP(sport=5000, dport=53))).drop is Drop.NAT_GONE


def test_what_stays_inside_is_not_translated(nat: Lab) -> None:
    inside = nat.send("a", to("a", t.ip4("d")) / UDP(sport=5000, dport=53))
    assert inside.delivered_to == "d" and checked(inside.frame)[IP].src == t.ip4("a")
    assert not nat.flow("a").flags & FlowFlag.UPLINK
