"""A loaded datapath of our own, with real devices, that packets are run through.

Devices live in a namespace that nobody else sees: `ep-a` and its peer `in-a` for
the local endpoint a, `ul0` and its peer `ul1` for the underlay. BPF_PROG_TEST_RUN
takes a device of the calling thread's namespace, so each run enters it and leaves.
A redirect is not carried out in a test run: the verdict and the bytes say what
would leave, counters and flow rows say where to. Copies that FLOOD makes are
really sent, and read from the peers.
"""

from __future__ import annotations

import ctypes
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from daemon.abi import (
    DROP_SLOT_NODE,
    MAPS,
    Config,
    Drop,
    DropKey,
    DropStat,
    EpStat,
    Flow,
    Flow4Key,
    Flow6Key,
    GcArgs,
    Index,
    Punt,
    Quota,
    Row,
    RuleKey,
    RuleStat,
)
from daemon.abi import Path as PathRow
from daemon.compiler.node import compile_node
from daemon.compiler.order import APPLY_ORDER
from daemon.compiler.result import Compiled, Device, Runtime
from daemon.datapath import libbpf
from daemon.datapath.loader import load
from daemon.datapath.testrun import run_packet, run_syscall
from daemon.model.snapshot import Snapshot
from tests.bpf import topology

OK, SHOT, REDIRECT = 0, 2, 7
CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
SLOTS = 64
SIZES = {
    "plum_epoch": SLOTS,
    "plum_meter": SLOTS,
    "plum_quota": SLOTS,
    "plum_ep_stat": SLOTS,
    "plum_punt_rate": SLOTS,
    "plum_flow4": 1024,
    "plum_flow6": 1024,
    "plum_frag": 256,
    "plum_punt": 8192,  # three requests
}
FORGOTTEN = (
    "plum_flow4",
    "plum_flow6",
    "plum_frag",
    "plum_drop",
    "plum_rule_stat",
    "plum_nat",
    "plum_nat_port",
    "plum_neigh",
)
TAILS = (
    "slow_ep",
    "slow_ul",
    "judge",
    "send",
    "flood",
    "error",
    "balance",
    "nat",
    "external",
    "gateway",
    "uplink",
)
TAIL = {name: i for i, name in enumerate(TAILS)}
TAIL_PROGRAM = {
    "flood": "plum_flood_out",
    "nat": "plum_nat_out",
    "external": "plum_external_ul",
    "gateway": "plum_gateway_out",
    "uplink": "plum_uplink_out",
}
PATH_MAC = "02:ff:00:00:00:01"
NEXT_HOP = {2: "02:ff:00:00:00:02", 3: "02:ff:00:00:00:03"}

_libc = ctypes.CDLL(None, use_errno=True)
FlowKey = Flow4Key | Flow6Key


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Namespace:
    """A network namespace that lives as long as its descriptor."""

    def __init__(self) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _check(_libc.unshare(CLONE_NEWNET))
        self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _check(_libc.setns(self._home, CLONE_NEWNET))

    @contextmanager
    def entered(self) -> Iterator[None]:
        _check(_libc.setns(self._fd, CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc.setns(self._home, CLONE_NEWNET))

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._home)


@dataclass(frozen=True)
class Tunnel:
    """A frame as the underlay would carry it, taken apart."""

    outer: Packet
    vni: int
    inner: bytes


@dataclass(frozen=True)
class Outcome:
    verdict: int
    frame: bytes
    #: (endpoint's name or "node", reason) -> packets
    drops: Mapping[tuple[str, Drop], int]
    #: Packets delivered to, and accepted from, endpoints.
    received: Mapping[str, int]
    sent: Mapping[str, int]
    #: Rule, "" for the default -> decisions.
    hits: Mapping[str, int]
    punted: tuple[Punt, ...] = field(default=())

    @property
    def drop(self) -> Drop | None:
        """The one reason; None if nothing was dropped."""
        reasons = {reason for _, reason in self.drops}
        assert len(reasons) <= 1, f"several reasons: {self.drops}"
        return next(iter(reasons), None)

    @property
    def packet(self) -> Packet:
        return Ether(self.frame)

    @property
    def delivered_to(self) -> str | None:
        """The local endpoint the frame goes to."""
        if self.verdict != REDIRECT:
            return None
        return next(iter(self.received), None)

    @property
    def tunnel(self) -> Tunnel:
        assert self.verdict == REDIRECT
        outer = Ether(self.frame)
        assert outer[UDP].dport == 4789
        head = 14 + (20 if outer.type == 0x0800 else 40) + 8
        flags, vni = self.frame[head : head + 4], self.frame[head + 4 : head + 8]
        assert flags == b"\x08\0\0\0" and vni[3] == 0
        return Tunnel(outer, int.from_bytes(vni[:3], "big"), self.frame[head + 8 :])

    @property
    def answered(self) -> bool:
        """It went back where it came from: nobody received or sent it."""
        return self.verdict == REDIRECT and not self.received and not self.sent


def vxlan(
    inner: Packet | bytes,
    vni: int = topology.WEB,
    src: str = topology.VTEPS[1],
    dst: str = topology.VTEPS[0],
    flags: bytes = b"\x08\0\0\0",
    last: int = 0,
    port: int = 4789,
) -> bytes:
    """`inner` as another node would send it."""
    ip = IPv6(src=src, dst=dst) if ":" in src else IP(src=src, dst=dst, flags="DF")
    head = flags + vni.to_bytes(3, "big") + bytes([last])
    udp = UDP(sport=50000, dport=port, chksum=0) if ":" not in src else UDP(sport=50000, dport=port)
    return bytes(Ether(src=NEXT_HOP[2], dst=PATH_MAC) / ip / udp / (head + bytes(inner)))


class Lab:
    def __init__(self, pins: Path, program: Path) -> None:
        self._namespace = Namespace()
        self._compiled: Compiled | None = None
        self._default: Compiled | None = None
        self._rules: dict[int, str] = {0: ""}  # of every zone so far: hits outlive a rule
        self.ifindex: dict[str, int] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._make_devices()
        self.datapath = load(pins, [program], SIZES)
        self.maps = self.datapath.maps
        self._punted: list[bytes] = []
        self._reading = True
        self._callback = libbpf.SAMPLE_FN(self._collect)
        self._ring = libbpf.pointer(
            "read the ring",
            "ring_buffer__new",
            self.maps["plum_punt"].fd,
            self._callback,
            None,
            None,
        )

    def close(self) -> None:
        libbpf.free("ring_buffer__free", self._ring)
        for one in self._sockets.values():
            one.close()
        self.datapath.close()
        self._namespace.close()

    def _make_devices(self) -> None:
        names = {name: (f"ep-{name}", f"in-{name}") for name in (*topology.LOCAL, "stranger")}
        names["underlay"] = ("ul0", "ul1")
        names["outside"] = ("ext0", "ext1")
        with self._namespace.entered(), IPRoute() as ip:
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            for name, (host, peer) in names.items():
                ip.link("add", ifname=host, kind="veth", peer={"ifname": peer})
                for device in (host, peer):
                    ip.link("set", ifname=device, state="up", mtu=9000)
                self.ifindex[name] = socket.if_nametoindex(host)
                one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
                one.bind((peer, ETH_P_ALL))
                self._sockets[name] = one

    # ---- state -----------------------------------------------------------

    def program(self, snapshot: Snapshot | None = None, **runtime: Any) -> Compiled:
        """Compile for n1 and write every row, as the reconciler would leave them."""
        devices = {topology.path(n): Device(self.ifindex[n]) for n in topology.LOCAL}
        run = Runtime(underlay_ifindex=self.ifindex["underlay"], **runtime)
        if snapshot is None and not runtime and self._default:
            wanted = self._default
        else:
            wanted = compile_node(snapshot or topology.zone(), "n1", devices, run)
        if snapshot is None and not runtime:
            self._default = wanted
        assert not wanted.errors
        for name in APPLY_ORDER:
            rows = {k.pack(): v.pack() for k, v in wanted.rows[name].items()}
            have = self.maps[name].dump()
            self.maps[name].update_many((k, v) for k, v in rows.items() if have.get(k) != v)
        for name in reversed(APPLY_ORDER):
            rows = {k.pack(): v.pack() for k, v in wanted.rows[name].items()}
            self.maps[name].delete_many(k for k in self.maps[name].dump() if k not in rows)
        self._compiled = wanted
        self._rules.update((rule, name) for rule, (_, name) in wanted.names.rules.items())
        return wanted

    def reset(self) -> None:
        """The default zone, no flows, no counts, fresh paths."""
        self.program()
        self.forget()
        self.repair_tail()
        self.refresh_paths()
        libbpf.call("drain the ring", "ring_buffer__consume", self._ring)
        self._punted.clear()
        self.copies()

    def forget(self) -> None:
        """No flows, fragments, counts or charges; rows stay."""
        for name in FORGOTTEN:
            self.maps[name].delete_many(self.maps[name].dump())
        for name in ("plum_meter", "plum_quota", "plum_punt_rate", "plum_ep_stat"):
            self.maps[name].delete_many(Index(i).pack() for i in range(SLOTS))

    def refresh_paths(self, ago_s: float = 1.0, nodes: tuple[int, ...] = (2, 3)) -> None:
        when = time.monotonic_ns() - int(ago_s * 1e9)
        for node in nodes:
            row = PathRow(
                when,
                self.ifindex["underlay"],
                bytes.fromhex(PATH_MAC.replace(":", "")),
                bytes.fromhex(NEXT_HOP[node].replace(":", "")),
            )
            self.write("plum_path", Index(node), row)

    def forget_paths(self) -> None:
        self.maps["plum_path"].delete_many(Index(node).pack() for node in NEXT_HOP)

    def write(self, name: str, key: Row, value: Row) -> None:
        self.maps[name].update(key.pack(), value.pack())

    def erase(self, name: str, key: Row) -> None:
        self.maps[name].delete(key.pack())

    def rows(self, name: str) -> dict[Any, Any]:
        key, value = MAPS[name]
        return {key.unpack(k): value.unpack(v) for k, v in self.maps[name].dump().items()}

    def flows(self) -> dict[FlowKey, Flow]:
        return {**self.rows("plum_flow4"), **self.rows("plum_flow6")}

    def flow(self, source: str, proto: int | None = None) -> Flow:
        """The one entry whose context is this endpoint (or a VNI as text)."""
        ctx = 0x80000000 | int(source) if source.isdigit() else self.ifindex[source]
        found = [
            flow
            for key, flow in self.flows().items()
            if key.ctx == ctx and proto in (None, key.proto)
        ]
        assert len(found) == 1, found
        return found[0]

    def edit_flows(self, **changes: int) -> None:
        """Set fields of every flow, such as `seen`."""
        for name in ("plum_flow4", "plum_flow6"):
            for key, flow in self.rows(name).items():
                self.write(name, key, flow._replace(**changes))

    def config(self, **changes: Any) -> None:
        row: Config = self.rows("plum_config")[Index(0)]
        self.write("plum_config", Index(0), row._replace(**changes))

    def quota(self, name: str) -> int:
        row = self.maps["plum_quota"].lookup(Index(topology.endpoint(name).slot).pack())
        assert row is not None
        return Quota.unpack(row).flows

    def collect(self, purge: str | None = None) -> GcArgs:
        """Run plum_flow_gc."""
        slot = topology.endpoint(purge).slot if purge else DROP_SLOT_NODE
        fd = self.datapath.programs["plum_flow_gc"].fd
        answer, context = run_syscall(fd, GcArgs(slot, 0, 0).pack())
        assert answer == 0
        return GcArgs.unpack(context)

    # ---- tail calls ------------------------------------------------------

    def break_tail(self, *names: str) -> None:
        for name in names:
            self.maps["plum_tail"].delete(Index(TAIL[name]).pack())

    def repair_tail(self) -> None:
        for name, index in TAIL.items():
            fd = self.datapath.programs[TAIL_PROGRAM.get(name, f"plum_{name}")].fd
            self.maps["plum_tail"].update(Index(index).pack(), fd.to_bytes(4, "little"))

    @contextmanager
    def fast_path_only(self) -> Iterator[None]:
        """Whatever needs the slow path is lost meanwhile, with TAIL_CALL."""
        self.break_tail("slow_ep", "slow_ul")
        try:
            yield
        finally:
            self.repair_tail()

    # ---- packets ---------------------------------------------------------

    def send(self, name: str, packet: Packet | bytes, gso_size: int = 0) -> Outcome:
        """An endpoint sends: plum_from_ep on its device."""
        return self._run("plum_from_ep", name, bytes(packet), gso_size)

    def receive(self, packet: Packet | bytes) -> Outcome:
        """The underlay device receives: plum_from_ul."""
        return self._run("plum_from_ul", "underlay", bytes(packet), 0)

    def from_outside(self, packet: Packet | bytes) -> Outcome:
        """A gateway's device receives: plum_from_ext."""
        return self._run("plum_from_ext", "outside", bytes(packet), 0)

    def _run(self, program: str, device: str, frame: bytes, gso_size: int) -> Outcome:
        before = self._counters()
        affinity = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(affinity)})
        try:
            with self._namespace.entered():
                result = run_packet(
                    self.datapath.programs[program].fd,
                    frame,
                    ifindex=self.ifindex[device],
                    gso_size=gso_size,
                    gso_segs=2 if gso_size else 0,
                )
        finally:
            os.sched_setaffinity(0, affinity)
        after = self._counters()
        if self._reading:
            libbpf.call("consume the ring", "ring_buffer__consume", self._ring)
        punted, self._punted = tuple(map(Punt.unpack, self._punted)), []
        drops, hits, received, sent = (new - old for new, old in zip(after, before, strict=True))
        return Outcome(result.retval, result.data, drops, received, sent, hits, punted)

    def without_reader(self, run: Callable[[], list[Outcome]]) -> list[Outcome]:
        """As if plumd were dead: what is punted stays in the ring."""
        self._reading = False
        try:
            return run()
        finally:
            self._reading = True

    def _collect(self, context: int, data: int, size: int) -> int:
        self._punted.append(ctypes.string_at(data, size))
        return 0

    def _counters(self) -> tuple[Counter[Any], Counter[Any], Counter[Any], Counter[Any]]:
        assert self._compiled is not None
        names = self._compiled.names
        drops: Counter[Any] = Counter()
        hits: Counter[Any] = Counter()
        received: Counter[Any] = Counter()
        sent: Counter[Any] = Counter()
        for key, value in self.maps["plum_drop"].dump().items():
            drop = DropKey.unpack(key)
            who = "node" if drop.slot == DROP_SLOT_NODE else f"slot {drop.slot}"
            who = names.slots.get(drop.slot, who).rsplit("/", 1)[-1]
            drops[(who, Drop(drop.reason))] = DropStat.unpack(value).packets
        for key, value in self.maps["plum_rule_stat"].dump().items():
            hits[self._rules[RuleKey.unpack(key).rule]] += RuleStat.unpack(value).hits
        for slot, path in names.slots.items():
            raw = self.maps["plum_ep_stat"].lookup(Index(slot).pack())
            assert raw is not None
            stat = EpStat.unpack(raw)
            name = path.rsplit("/", 1)[-1]
            received[name] = stat.rx_packets
            sent[name] = stat.tx_packets
        return drops, hits, received, sent

    def copies(self) -> dict[str, list[bytes]]:
        """Frames FLOOD has sent, by endpoint or `underlay`. A veth hands a frame over
        before the sender's system call returns, so there is nothing to wait for."""
        found: dict[str, list[bytes]] = {}
        for name, one in self._sockets.items():
            while True:
                try:
                    frame = one.recv(65536, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                found.setdefault(name, []).append(frame)
        return found
