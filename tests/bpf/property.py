"""Random zones on real maps: what the loaded datapath does with a packet.

Three nodes, each with maps of its own, in one process: a packet runs through
plum_from_ep of its sender's node, and if it leaves by a tunnel, the frame it
became runs through plum_from_ul of the node it is addressed to. The answer is a
`Fate`, the same words that the oracle uses.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Raw

from daemon.abi import DROP_SLOT_NODE, Drop, DropKey, EpStat, Index, Neigh, NeighKey, RuleKey
from daemon.abi import Path as PathRow
from daemon.compiler.node import compile_node
from daemon.compiler.order import changes
from daemon.compiler.packet import Packet
from daemon.compiler.result import Compiled, Outside, Rows, Runtime
from daemon.compiler.wide import wide
from daemon.datapath import libbpf
from daemon.datapath.loader import Datapath, load
from daemon.datapath.testrun import run_packet
from tests.bpf.frames import checked
from tests.bpf.lab import FORGOTTEN, REDIRECT, SHOT, Namespace
from tests.oracle import Fate
from tests.strategies import EXTERNAL_VNI, ROUTER4, ROUTER6, Zone

NODES = 3
SLOTS = 32
FIRST_DEVICE = 100  # where tests/strategies.py starts
STRANGER, UNDERLAY, STREET = 90, 91, 92
SIZES = {
    "plum_epoch": SLOTS,
    "plum_meter": SLOTS,
    "plum_quota": SLOTS,
    "plum_ep_stat": SLOTS,
    "plum_punt_rate": SLOTS,
    "plum_flow4": 4096,
    "plum_flow6": 4096,
    "plum_frag": 256,
    "plum_punt": 8192,
}
MACS = (b"\x02\xff\0\0\0\x01", b"\x02\xff\0\0\0\x02")
ROUTER_MAC = b"\x02\xee\0\0\0\xfe"
TUNNEL_HEAD = {4: 50, 6: 70}


@dataclass(frozen=True)
class Seen:
    """What one program did with one frame."""

    verdict: int
    frame: bytes
    drops: dict[int, Drop]  # by slot
    hits: Counter[int]  # by rule
    received: set[int]  # slots
    sent: set[int]
    punted: bool


class Machine:
    """One node: the datapath, loaded, and the rows it holds now."""

    def __init__(self, pins: Path, program: Path) -> None:
        self.datapath: Datapath = load(pins, [program], SIZES)
        self.rows: Rows = {}
        self.compiled: Compiled | None = None
        self._punted = 0
        self._callback = libbpf.SAMPLE_FN(self._count)
        self._ring = libbpf.pointer(
            "read the ring",
            "ring_buffer__new",
            self.datapath.maps["plum_punt"].fd,
            self._callback,
            None,
            None,
        )

    def _count(self, *_: object) -> int:
        self._punted += 1
        return 0

    def close(self) -> None:
        libbpf.free("ring_buffer__free", self._ring)
        self.datapath.close()

    def program(self, compiled: Compiled) -> None:
        """From the last zone to this one as the reconciler does it, make before break."""
        for write in changes(self.rows, compiled.rows):
            table = self.datapath.maps[write.map]
            if write.value is None:
                table.delete(write.key.pack())
            else:
                table.update(write.key.pack(), write.value.pack())
        self.rows = compiled.rows
        self.compiled = compiled

    def forget_flows(self) -> None:
        for name in FORGOTTEN:
            table = self.datapath.maps[name]
            table.delete_many(table.dump())
        self.datapath.maps["plum_quota"].delete_many(Index(i).pack() for i in range(SLOTS))
        row = PathRow((1 << 63) - 1, UNDERLAY, *MACS)  # fresh for ever
        for address in (ROUTER4, ROUTER6):
            key = NeighKey(EXTERNAL_VNI, wide(ip_address(address)))
            self.datapath.maps["plum_neigh"].update(key.pack(), Neigh(1, ROUTER_MAC).pack())
        for node in range(1, NODES + 1):
            self.datapath.maps["plum_path"].update(Index(node).pack(), row.pack())

    def run(self, program: str, frame: bytes, ifindex: int) -> Seen:
        maps, self._punted = self.datapath.maps, 0
        result = run_packet(self.datapath.programs[program].fd, frame, ifindex=ifindex)
        drops = {}
        for key in maps["plum_drop"].dump():
            drop = DropKey.unpack(key)
            drops[drop.slot] = Drop(drop.reason)
            maps["plum_drop"].delete(key)
        hits: Counter[int] = Counter()
        for key, value in maps["plum_rule_stat"].dump().items():
            hits[RuleKey.unpack(key).rule] += struct.unpack("<Q", value)[0]
            maps["plum_rule_stat"].delete(key)
        received, sent = set(), set()
        for key, value in maps["plum_ep_stat"].dump().items():
            slot, stat = Index.unpack(key)[0], EpStat.unpack(value)
            received |= {slot} if stat.rx_packets else set()
            sent |= {slot} if stat.tx_packets else set()
            maps["plum_ep_stat"].delete(key)
        libbpf.call("consume the ring", "ring_buffer__consume", self._ring)
        punted = self._punted > 0
        return Seen(result.retval, result.data, drops, hits, received, sent, punted)


class World:
    """The machines and the devices they share: ifindexes are per node in the rows,
    so one namespace with each number serves all."""

    def __init__(self, pins: Path, program: Path) -> None:
        self._namespace = Namespace()
        with self._namespace.entered(), IPRoute() as ip:
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            wanted = [STRANGER, UNDERLAY, STREET, *range(FIRST_DEVICE, FIRST_DEVICE + 16)]
            for index in wanted:
                names = (f"d{index}", f"p{index}")
                ip.link("add", ifname=names[0], index=index, kind="veth", peer={"ifname": names[1]})
                assert socket.if_nametoindex(names[0]) == index
                for name in names:
                    ip.link("set", ifname=name, state="up", mtu=9000)
        self.machines = {n: Machine(pins / f"n{n}", program) for n in range(1, NODES + 1)}

    def close(self) -> None:
        for machine in self.machines.values():
            machine.close()
        self._namespace.close()

    def program(self, given: Zone) -> None:
        """The zone's rows on every node; nodes it does not have keep the last one's."""
        self.zone = given
        self.rules: dict[int, str] = {0: ""}
        for name, node in given.snapshot.nodes.items():
            outside = tuple(
                Outside(external.name, STREET, "02:ee:00:00:00:01")
                for external in given.snapshot.externals.values()
                for gateway in external.spec.gateways
                if gateway.node == name
            )
            runtime = Runtime(UNDERLAY, outside)
            compiled = compile_node(given.snapshot, name, given.devices, runtime)
            assert not compiled.errors
            self.machines[node.id].program(compiled)
            self.rules |= {number: rule for number, (_, rule) in compiled.names.rules.items()}
        self.nodes = {ip_address(str(n.spec.vtep)): n.id for n in given.snapshot.nodes.values()}

    def forget_flows(self) -> None:
        for machine in self.machines.values():
            machine.forget_flows()

    def send(self, sender: str, frame: bytes) -> tuple[Fate, bytes, Counter[str]]:
        """What becomes of it, the frame as it arrives, and the rules that were asked."""
        with self._namespace.entered():
            return self._send(sender, frame)

    def _send(self, sender: str, frame: bytes) -> tuple[Fate, bytes, Counter[str]]:
        node = self.zone.snapshot.nodes[self.zone.snapshot.endpoints[sender].spec.node].id
        device = self.zone.devices.get(sender)
        machine = self.machines[node]
        seen = machine.run("plum_from_ep", frame, device.ifindex if device else STRANGER)
        hits = self._names(seen)
        if seen.punted:  # plumd answers
            return Fate("answered"), frame, hits
        if seen.verdict == SHOT and not self._own_drop(seen, sender):
            return self._flooded(node, seen), frame, hits
        if seen.drops:
            (reason,) = set(seen.drops.values())
            return Fate(reason.name), frame, hits
        assert seen.verdict == REDIRECT, seen
        if seen.received:
            return self._delivered(node, seen), seen.frame, hits
        if not seen.sent:
            return Fate("answered"), seen.frame, hits
        if self._left(seen.frame):
            return Fate("outside"), seen.frame, hits
        far, inner = self._through_tunnel(seen.frame)
        over = self.machines[far].run("plum_from_ul", seen.frame, UNDERLAY)
        hits += self._names(over)
        if over.verdict == REDIRECT and not over.received and self._left(over.frame):
            return Fate("outside"), over.frame, hits
        if over.verdict == SHOT:
            return self._ended(far, over), inner, hits
        return self._delivered(far, over), over.frame, hits

    def _left(self, frame: bytes) -> bool:
        """It went out of a gateway's device, to the router there, as somebody public."""
        if frame[:6] != ROUTER_MAC:
            return False
        packet = checked(frame)
        source = ip_address(packet[IP].src if IP in packet else packet[IPv6].src)
        (external,) = self.zone.snapshot.externals.values()
        pools = (*external.spec.nat, *external.spec.floating)
        assert any(source.version == net.version and source in net for net in pools), source
        return True

    def _own_drop(self, seen: Seen, sender: str) -> bool:
        own = {self.zone.snapshot.endpoints[sender].slot, DROP_SLOT_NODE}
        return bool(own & seen.drops.keys())

    def _names(self, seen: Seen) -> Counter[str]:
        return Counter({self.rules[rule]: count for rule, count in seen.hits.items()})

    def _path(self, node: int, slot: int) -> str:
        compiled = self.machines[node].compiled
        assert compiled
        return compiled.names.slots[slot]

    def _delivered(self, node: int, seen: Seen) -> Fate:
        (slot,) = seen.received
        packet = Ether(seen.frame)
        ttl = packet[IP].ttl if IP in packet else packet[IPv6].hlim
        field = packet[IP].tos if IP in packet else packet[IPv6].tc
        path, macs = self._path(node, slot), (packet.src, packet.dst)
        return Fate("delivered", path, None, None, *macs, ttl, dscp=field >> 2)

    def _flooded(self, node: int, seen: Seen) -> Fate:
        """Copies for members on this node; those of others are sent to the underlay."""
        copies = [(self._path(node, slot), "delivered", None) for slot in seen.received]
        copies += [(self._path(node, s), drop.name, None) for s, drop in seen.drops.items()]
        return Fate("flooded", copies=tuple(sorted(copies)))

    def _ended(self, node: int, seen: Seen) -> Fate:
        """On the far node: one drop, or copies where the MAC is not known."""
        reason = next(iter(seen.drops.values()), None)
        if reason is None or seen.received:
            return self._flooded(node, seen)
        if DROP_SLOT_NODE in seen.drops:
            return Fate(reason.name)
        return self._flooded(node, seen)._replace(what=reason.name)

    def _through_tunnel(self, frame: bytes) -> tuple[int, bytes]:
        version = frame[14] >> 4
        address = frame[30:34] if version == 4 else frame[38:54]
        target = ip_address(address)
        return self.nodes[target], frame[TUNNEL_HEAD[version] :]


def frame_of(packet: Packet, tcp_flags: str = "S", seq: int = 1000, ack: int = 0) -> bytes | None:
    """The packet on the wire; None for what has no such form (IPv6 with protocol 0)."""
    l4: Any
    if packet.protocol == 6:
        l4 = TCP(sport=packet.sport, dport=packet.dport, flags=tcp_flags, seq=seq, ack=ack)
    elif packet.protocol == 17:
        l4 = UDP(sport=packet.sport, dport=packet.dport)
    elif packet.protocol == 132:
        l4 = SCTP(sport=packet.sport, dport=packet.dport)
    elif packet.protocol in (1, 58):
        identifier = packet.dport if packet.icmp_type in (0, 129) else packet.sport
        header = struct.pack("!BBHHH", packet.icmp_type, packet.icmp_code, 0, identifier, 1)
        l4 = Raw(header)
    else:
        l4 = Raw(b"")
    if packet.src.version == 4:
        ip = IP(src=str(packet.src), dst=str(packet.dst), ttl=packet.ttl, proto=packet.protocol)
        ip.flags = "DF"
        head = 20
    else:
        if packet.protocol == socket.IPPROTO_HOPOPTS:
            return None
        ip = IPv6(src=str(packet.src), dst=str(packet.dst), hlim=packet.ttl, nh=packet.protocol)
        head = 40
    filler = max(0, packet.length - head - len(l4))
    return bytes(Ether(src=packet.smac, dst=packet.dmac) / ip / l4 / Raw(bytes(filler)))


def reply_to(packet: Packet, arrived: bytes) -> Packet:
    """The answer to a packet as it arrived, sent back the way its frame came; through
    a load balancer the frame came another way: the answer's own is in the caller's hands."""
    frame = Ether(arrived)
    ip = frame[IP] if IP in frame else frame[IPv6]
    l4 = frame.getlayer(TCP) or frame.getlayer(UDP)
    answer = {8: 0, 128: 129}.get(packet.icmp_type, packet.icmp_type)
    return replace(
        packet,
        smac=frame.dst,
        dmac=frame.src,
        src=ip_address(ip.dst),
        dst=packet.src,
        sport=l4.dport if l4 else packet.dport,
        dport=packet.sport,
        icmp_type=answer,
        ttl=64,
        length=60,
    )


def source_of(frame: bytes) -> tuple[str, int]:
    """Source address and port, 0 of other than TCP and UDP."""
    packet = Ether(frame)
    ip = packet[IP] if IP in packet else packet[IPv6]
    l4 = packet.getlayer(TCP) or packet.getlayer(UDP)
    return ip.src, l4.sport if l4 else 0
