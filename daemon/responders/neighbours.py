"""A gateway's neighbours on external networks: who has which MAC, and who we are.

The datapath forwards by plum_neigh alone. This keeps the rows of the next hops fresh
and asks for others when a packet waits for one (PUNT_NEIGH). When an address is ours
that was not before, everybody outside is told at once (gratuitous ARP, unsolicited
neighbour advertisement).
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from daemon.responders.frames import BROADCAST, ETH_IP4, ETH_IP6, build_icmp6

log = logging.getLogger(__name__)

ASK_AGAIN_S = 10.0  # who is known
FORGET_S = 35.0  # who no longer answers
REMEMBER_S = 60.0  # that somebody was asked for
WAIT_S = 3.0  # a packet waits for its neighbour
MOST_WAITING = 256
ANNOUNCEMENTS = 3
_ETH_ARP, _ETH_VLAN = 0x0806, 0x8100
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_SOLICIT, _ADVERT = 135, 136
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Segment:
    """An external network as this gateway is on it."""

    name: str
    vni: int
    ifindex: int
    mac: bytes
    vlan: int  # 0: untagged
    own: tuple[Address, ...]
    hops: tuple[Address, ...]  # next hops of its routes
    claims: frozenset[Address]  # public addresses we answer for


#: Writes rows of plum_neigh: VNI, address, MAC (None: forget), time in ns.
Know = Callable[[int, Address, bytes | None, int], None]
#: Sends a frame out of a device.
Send = Callable[[int, bytes], None]
#: The next hop for an address on a network; None: no route.
NextHop = Callable[[int, Address], Address | None]


class Neighbours:
    """Not thread-safe: everything is called in the event loop."""

    def __init__(self, send: Send, know: Know, next_hop: NextHop) -> None:
        self._send = send
        self._know = know
        self._next_hop = next_hop
        self._segments: dict[int, Segment] = {}  # by VNI
        self._answered: dict[tuple[int, Address], float] = {}
        self._asked: dict[tuple[int, Address], float] = {}
        self._waiting: list[tuple[float, int, Address, bytes]] = []
        self._announce: list[tuple[int, Address, int]] = []  # VNI, address, times left

    def serve(self, segments: Iterable[Segment]) -> None:
        """The networks this node is a gateway of, in place of all before."""
        fresh = {segment.vni: segment for segment in segments}
        for vni, segment in fresh.items():
            before = self._segments.get(vni)
            known = before.claims if before and before.ifindex == segment.ifindex else frozenset()
            new = segment.claims - known
            self._announce = [a for a in self._announce if a[0] != vni or a[1] in segment.claims]
            self._announce += [(vni, address, ANNOUNCEMENTS) for address in sorted(new, key=str)]
        self._segments = fresh
        self.tick()

    def tick(self) -> None:
        """Several times a second: ask, announce, forget."""
        now = time.monotonic()
        again = []
        for vni, address, left in self._announce:
            if vni in self._segments:
                self._transmit(self._segments[vni], announcement(self._segments[vni], address))
                if left > 1:
                    again.append((vni, address, left - 1))
        self._announce = again
        for vni, segment in self._segments.items():
            known = (address for of, address in list(self._answered) if of == vni)
            for address in dict.fromkeys((*segment.hops, *known)):
                self._keep(segment, address, now)
        self._asked = {key: at for key, at in self._asked.items() if now - at < REMEMBER_S}
        self._waiting = [one for one in self._waiting if now - one[0] < WAIT_S]

    def _keep(self, segment: Segment, hop: Address, now: float) -> None:
        key = (segment.vni, hop)
        heard, asked = self._answered.get(key, 0.0), self._asked.get(key, 0.0)
        if heard and now - heard > FORGET_S:
            del self._answered[key]
            self._know(segment.vni, hop, None, 0)
            if hop not in segment.hops:
                return  # whoever needs it again asks again
            log.warning(
                "next hop outside does not answer",
                extra={"object": f"external {segment.name}", "step": "neighbour", "hop": str(hop)},
            )
        if now - asked > (ASK_AGAIN_S if heard and now - heard < ASK_AGAIN_S else 1.0):
            self._ask(segment, hop, now)

    def wanted(self, vni: int, frame: bytes) -> None:
        """A packet that the datapath has no MAC for: it waits, a little while."""
        segment, target = self._segments.get(vni), destination(frame)
        if segment is None or target is None or len(self._waiting) >= MOST_WAITING:
            return
        hop = self._next_hop(vni, target)
        if hop is not None:
            now = time.monotonic()
            self._waiting.append((now, vni, hop, frame))
            self._ask(segment, hop, now)

    def heard(self, ifindex: int, vlan: int, frame: bytes) -> None:
        """ARP or neighbour discovery, as it arrived on a device."""
        found = speaker(frame)
        for segment in self._segments.values():
            if (segment.ifindex, segment.vlan) != (ifindex, vlan) or found is None:
                continue
            address, mac = found
            if address in segment.claims or address in segment.own:
                continue
            key = (segment.vni, address)
            if key not in self._asked and key not in self._answered:
                continue  # nobody wanted to know
            self._answered[key] = time.monotonic()
            self._know(segment.vni, address, mac, time.monotonic_ns())
            self._release(segment, address, mac)

    def _release(self, segment: Segment, hop: Address, mac: bytes) -> None:
        ready = [one for one in self._waiting if one[1:3] == (segment.vni, hop)]
        self._waiting = [one for one in self._waiting if one[1:3] != (segment.vni, hop)]
        for _, _, _, frame in ready:
            self._transmit(segment, mac + segment.mac + frame[12:])

    def _ask(self, segment: Segment, hop: Address, now: float) -> None:
        own = next((a for a in segment.own if a.version == hop.version), None)
        if own is None:
            return
        self._asked[segment.vni, hop] = now
        self._transmit(segment, question(segment, own, hop))

    def _transmit(self, segment: Segment, frame: bytes) -> None:
        if segment.vlan:
            tag = struct.pack("!HH", _ETH_VLAN, segment.vlan)
            frame = frame[:12] + tag + frame[12:]
        try:
            self._send(segment.ifindex, frame)
        except OSError as error:  # the device went away: the datapath drops meanwhile
            log.info(
                "not sent outside",
                extra={"object": f"external {segment.name}", "step": "send", "error": str(error)},
            )


def question(segment: Segment, own: Address, hop: Address) -> bytes:
    """Who has `hop`? Pure."""
    if hop.version == 4:
        body = _ARP.pack(1, ETH_IP4, 6, 4, 1, segment.mac, own.packed, bytes(6), hop.packed)
        return BROADCAST + segment.mac + _ETH_ARP.to_bytes(2, "big") + body
    group = b"\xff\x02" + bytes(9) + b"\x01\xff" + hop.packed[13:]
    body = bytes([_SOLICIT, 0, 0, 0]) + bytes(4) + hop.packed + b"\x01\x01" + segment.mac
    macs = (segment.mac, b"\x33\x33" + group[12:])
    return build_icmp6(macs, (IPv6Address(own), IPv6Address(group)), body)


def announcement(segment: Segment, address: Address) -> bytes:
    """We have `address`, whoever had it before. Pure."""
    if address.version == 4:
        packed = address.packed
        body = _ARP.pack(1, ETH_IP4, 6, 4, 1, segment.mac, packed, bytes(6), packed)
        return BROADCAST + segment.mac + _ETH_ARP.to_bytes(2, "big") + body
    everyone = b"\xff\x02" + bytes(13) + b"\x01"
    flags = bytes([0xA0, 0, 0, 0])  # router, override
    body = bytes([_ADVERT, 0, 0, 0]) + flags + address.packed + b"\x02\x01" + segment.mac
    macs = (segment.mac, b"\x33\x33\0\0\0\x01")
    return build_icmp6(macs, (IPv6Address(address), IPv6Address(everyone)), body)


def speaker(frame: bytes) -> tuple[Address, bytes] | None:
    """Whose address and MAC an ARP packet or neighbour advertisement tells. Pure."""
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == _ETH_ARP and len(frame) >= 14 + _ARP.size:
        _, kind, _, _, _, mac, address, _, _ = _ARP.unpack_from(frame, 14)
        return (IPv4Address(address), mac) if kind == ETH_IP4 else None
    if ethertype == ETH_IP6 and len(frame) >= 14 + 40 + 32 and frame[20] == 58:
        icmp = frame[54:]
        if frame[21] == 255 and icmp[0] == _ADVERT and icmp[24:26] == b"\x02\x01":
            return IPv6Address(icmp[8:24]), icmp[26:32]
    return None


def destination(frame: bytes) -> Address | None:
    """Where an IP packet goes. Pure."""
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == ETH_IP4 and len(frame) >= 34:
        return ip_address(frame[30:34])
    if ethertype == ETH_IP6 and len(frame) >= 54:
        return ip_address(frame[38:54])
    return None
