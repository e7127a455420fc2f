"""LOAD_BALANCE: whom a connection goes to, what is rewritten, and what stays together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from daemon.abi import Drop, FlowFlag, FlowState
from tests.bpf import topology as t
from tests.bpf.frames import FAMILIES, PORT, checked, echo, payload, router_mac_of, to
from tests.bpf.lab import Lab, Outcome, vxlan

pytestmark = pytest.mark.privileged

VIP = {4: "10.0.1.200", 6: "2001:db8:1::200"}


def front(*backends: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": "front",
        "bridge": "web",
        "addresses": list(VIP.values()),
        "listeners": [{"port": 80, "to_port": 8080}, {"protocol": "udp", "port": 53}],
        "backends": [{"endpoint": b} if isinstance(b, str) else b for b in backends],
        **more,
    }


def balanced(lab: Lab, *backends: str | dict[str, Any], **more: Any) -> Lab:
    spec = {key: more.pop(key) for key in ("policies", "default") if key in more}
    lab.program(t.zone(t.shop(load_balancers=[front(*backends, **more)], **spec)))
    return lab


def dmac_of(client: str) -> str:
    return t.FRONT_MAC if t.PLACES[client][1] == "web" else router_mac_of(client)


def forth(client: str, family: int, flags: str = "", sport: int = PORT, **more: Any) -> Packet:
    """From a client to the virtual address: TCP with flags, else UDP."""
    head = to(client, VIP[family], dmac_of(client))
    if not flags:
        return head / UDP(sport=sport, dport=53, **more) / payload(32)
    tcp = {"seq": 1000 if flags == "S" else 1001, "ack": 0 if flags == "S" else 9001, **more}
    return head / TCP(sport=sport, dport=80, flags=flags, window=1000, **tcp)


def back(server: str, client: str, family: int, flags: str = "", sport: int = PORT) -> Packet:
    """The backend's answer to what it saw."""
    near = t.PLACES[server][1] == t.PLACES[client][1]
    head = to(server, t.ip(client, family), t.mac(client) if near else router_mac_of(server))
    if not flags:
        return head / UDP(sport=53, dport=sport) / payload(16)
    seq = 9000 if "S" in flags else 9001
    return head / TCP(sport=8080, dport=sport, flags=flags, seq=seq, ack=1001, window=1000)


def ends(frame: bytes) -> tuple[str, int, str, int]:
    """Source and destination of a frame whose every checksum is right."""
    packet = checked(frame)
    ip = packet[IP] if IP in packet else packet[IPv6]
    l4 = packet[TCP] if TCP in packet else packet[UDP]
    return ip.src, l4.sport, ip.dst, l4.dport


def connect(lab: Lab, client: str, server: str, family: int) -> None:
    """A handshake through the virtual address with a backend of this node."""
    assert lab.send(client, forth(client, family, "S")).delivered_to == server
    assert lab.send(server, back(server, client, family, "SA")).delivered_to == client
    assert lab.send(client, forth(client, family, "A")).delivered_to == server


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("client", "server"),
    [("a", "b"), ("d", "b"), ("a", "d"), ("z", "b")],
    ids=["one bridge", "routed client", "backend elsewhere", "two routers"],
)
def test_a_connection_goes_to_the_backend_and_answers_come_from_the_address(
    lab: Lab, family: int, client: str, server: str
) -> None:
    balanced(lab, server)
    slow = lab.send(client, forth(client, family, "S"))
    own = t.ip(client, family)
    assert slow.delivered_to == server
    assert ends(slow.frame) == (own, PORT, t.ip(server, family), 8080)
    eth = slow.packet[Ether]
    assert (eth.src, eth.dst) == (t.FRONT_MAC, t.mac(server))
    answer = lab.send(server, back(server, client, family, "SA"))
    assert answer.delivered_to == client
    assert ends(answer.frame) == (VIP[family], 80, own, PORT)
    assert {f.state for f in lab.flows().values()} == {FlowState.SYN_RECEIVED}
    slow = lab.send(client, forth(client, family, "A"))
    with lab.fast_path_only():
        fast = lab.send(client, forth(client, family, "A"))
        assert (fast.delivered_to, fast.frame) == (server, slow.frame)
        answer = lab.send(server, back(server, client, family, "A"))
        assert (answer.delivered_to, ends(answer.frame)[:2]) == (client, (VIP[family], 80))
    assert len(lab.flows()) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_backend_on_another_node(lab: Lab, family: int) -> None:
    balanced(lab, "c")
    slow = lab.send("a", forth("a", family))
    assert slow.tunnel.vni == t.WEB
    assert ends(slow.tunnel.inner) == (t.ip("a", family), PORT, t.ip("c", family), 53)
    first = lab.receive(vxlan(back("c", "a", family)))
    with lab.fast_path_only():
        fast = lab.receive(vxlan(back("c", "a", family)))
        assert lab.send("a", forth("a", family)).frame == slow.frame
    for answer in (first, fast):
        assert (answer.delivered_to, ends(answer.frame)[:2]) == ("a", (VIP[family], 53))


@pytest.mark.parametrize("family", FAMILIES)
def test_routers_on_the_way_count(lab: Lab, family: int) -> None:
    balanced(lab, "b")
    for client, hops in (("a", 0), ("d", 1), ("z", 2)):
        packet = lab.send(client, forth(client, family, "S")).packet
        ttl = packet[IP].ttl if family == 4 else packet[IPv6].hlim
        assert ttl == 64 - hops, client


def test_udp_without_a_checksum_stays_without(lab: Lab) -> None:
    balanced(lab, "b")
    for _ in range(2):  # slow, fast
        out = lab.send("a", forth("a", 4, chksum=0)).packet
        assert (out[UDP].chksum, out[IP].dst) == (0, t.ip4("b"))


def test_fragments_go_where_their_first_went(lab: Lab) -> None:
    balanced(lab, "b")
    whole = to("a", VIP[4], t.FRONT_MAC) / UDP(sport=PORT, dport=53) / payload(1000)
    for part in fragment(whole[IP], 400):
        out = lab.send("a", Ether(src=t.mac("a"), dst=t.FRONT_MAC) / part)
        assert (out.delivered_to, out.packet[IP].dst) == ("b", t.ip4("b"))


# ---- what it refuses


@pytest.mark.parametrize("family", FAMILIES)
def test_no_listener_and_no_backend_tell_the_client(lab: Lab, family: int) -> None:
    balanced(lab, "b")
    wrong = to("a", VIP[family], t.FRONT_MAC) / TCP(sport=PORT, dport=81, flags="S")
    for packet, reason, zone in (
        (wrong, Drop.NO_LISTENER, ("b",)),
        (forth("a", family, "S"), Drop.NO_BACKEND, ({"endpoint": "b", "weight": 0},)),
        (forth("a", family, "S"), Drop.NO_BACKEND, ("a",)),  # nobody but itself
    ):
        balanced(lab, *zone)
        out = lab.send("a", packet)
        assert out.drops == {("a", reason): 1}
        error = out.packet
        if family == 4:
            assert (error[ICMP].type, error[ICMP].code, error[IP].src) == (3, 3, VIP[4])
        else:
            assert (error[ICMPv6DestUnreach].code, error[IPv6].src) == (4, VIP[6])
    assert not lab.flows()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_address_answers_pings_and_its_neighbours(lab: Lab, family: int) -> None:
    balanced(lab, "b")
    out = lab.send("a", to("a", VIP[family], t.FRONT_MAC) / echo(family))
    kind = ICMP if family == 4 else ICMPv6EchoReply
    assert out.answered
    assert kind in checked(out.frame)
    who = Ether(src=t.mac("a"), dst="ff:ff:ff:ff:ff:ff") / ARP(
        op=1, hwsrc=t.mac("a"), psrc=t.ip4("a"), pdst=VIP[4]
    )
    answer = lab.send("a", who)
    assert answer.answered
    assert answer.packet[ARP].hwsrc == t.FRONT_MAC


def test_a_tunnel_frame_to_the_balancers_mac_is_refused(lab: Lab) -> None:
    balanced(lab, "b")
    inner = to("c", VIP[4], t.FRONT_MAC) / UDP(sport=1, dport=53)
    assert lab.receive(vxlan(inner)).drop is Drop.NOT_HERE


def test_one_port_to_the_address_and_to_its_backend_at_once(lab: Lab) -> None:
    """The backend could not tell the two apart: the later one is refused."""
    balanced(lab, "b")
    direct = to("a", t.ip4("b"), t.mac("b")) / TCP(sport=PORT, dport=8080, flags="S")
    assert lab.send("a", forth("a", 4, "S")).delivered_to == "b"
    assert lab.send("a", direct).drops == {("a", Drop.FLOW_CLASH): 1}
    assert lab.send("a", forth("a", 4, "S")).delivered_to == "b"  # the same again is no clash
    lab.forget()
    assert lab.send("a", direct).delivered_to == "b"
    assert lab.send("a", forth("a", 4, "S")).drops == {("a", Drop.FLOW_CLASH): 1}


# ---- whom it chooses


def chosen(lab: Lab, client: str, sport: int) -> str:
    out = lab.send(client, forth(client, 4, "S", sport))
    frame = out.frame if out.delivered_to else out.tunnel.inner
    return ends(frame)[2]


def test_every_backend_gets_its_share_but_the_client_itself(lab: Lab) -> None:
    balanced(lab, "a", "b", "c", {"endpoint": "d", "weight": 2})
    counts = Counter(chosen(lab, "a", port) for port in range(20000, 20400))
    assert set(counts) == {t.ip4("b"), t.ip4("c"), t.ip4("d")}
    assert counts[t.ip4("d")] > 1.3 * max(counts[t.ip4("b")], counts[t.ip4("c")])
    assert min(counts.values()) > 60


def test_source_affinity_looks_at_the_address_alone(lab: Lab) -> None:
    balanced(lab, "b", "c", "d", affinity="source")
    assert len({chosen(lab, "a", port) for port in range(20000, 20030)}) == 1


def test_a_connection_stays_when_backends_come_and_go(lab: Lab) -> None:
    balanced(lab, "b")
    connect(lab, "a", "b", 4)
    balanced(lab, {"endpoint": "b", "weight": 0}, "c", "d")  # b drains
    assert lab.send("a", forth("a", 4, "A")).delivered_to == "b"
    assert lab.send("b", back("b", "a", 4, "A")).delivered_to == "a"
    assert chosen(lab, "a", 20000) != t.ip4("b")


def test_a_connection_whose_backend_is_gone_ends(lab: Lab) -> None:
    balanced(lab, "b")
    connect(lab, "a", "b", 4)
    shop = t.shop(load_balancers=[front("c")])
    lab.program(t.zone(shop, without=("b",)))
    assert lab.send("a", forth("a", 4, "A")).drop in (Drop.NO_BACKEND, Drop.TCP_NO_HANDSHAKE)
    assert chosen(lab, "a", PORT) == t.ip4("c")


# ---- policies, state


def rules(**ports: int) -> list[dict[str, Any]]:
    """Deny TCP by direction to one port, of everybody."""
    return [
        {"name": "p", **{
            direction: [{"name": "no", "action": "deny", "protocol": "tcp", "ports": [port]}]
            for direction, port in ports.items()
        }}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("policies", "drop"),
    [
        (rules(egress=80), Drop.POLICY_EGRESS),
        (rules(ingress=8080), Drop.POLICY_INGRESS),
        (rules(egress=8080, ingress=80), None),
    ],
)
def test_the_client_is_judged_by_the_address_and_the_backend_by_its_own(
    lab: Lab, policies: list[dict[str, Any]], drop: Drop | None
) -> None:
    balanced(lab, "b", policies=policies)
    assert lab.send("a", forth("a", 4, "S")).drop is drop
    lab.forget()
    balanced(lab, "b")
    connect(lab, "a", "b", 4)
    balanced(lab, "b", policies=policies)  # judged again, from either side
    assert lab.send("b", back("b", "a", 4, "A")).drop is drop
    assert lab.send("a", forth("a", 4, "A")).drop is drop


@pytest.mark.parametrize("family", FAMILIES)
def test_both_entries_live_and_die_together(lab: Lab, family: int) -> None:
    balanced(lab, "b")
    connect(lab, "a", "b", family)
    flags = {f.flags & (FlowFlag.NEW_DST | FlowFlag.NEW_SRC) for f in lab.flows().values()}
    assert flags == {FlowFlag.NEW_DST, FlowFlag.NEW_SRC}
    kept = lab.collect()
    assert (kept.kept, kept.collected, lab.quota("a")) == (2, 0, 1)
    for key, flow in lab.flows().items():  # one side has been silent for long
        name = "plum_flow4" if family == 4 else "plum_flow6"
        if flow.flags & FlowFlag.NEW_SRC:
            lab.write(name, key, flow._replace(seen=1))
    assert lab.collect().kept == 2
    lab.edit_flows(seen=1)
    assert lab.collect().collected == 2


def test_a_reset_from_the_backend_closes(lab: Lab) -> None:
    balanced(lab, "b")
    connect(lab, "a", "b", 4)
    out: Outcome = lab.send("b", back("b", "a", 4, "RA"))
    assert out.delivered_to == "a"
    assert {f.state for f in lab.flows().values()} == {FlowState.CLOSED}
    assert lab.send("a", forth("a", 4, "S")).delivered_to == "b"
