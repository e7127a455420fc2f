"""Lookups in compiled rows, each as the kernel does it."""

from __future__ import annotations

from typing import NamedTuple, cast

from daemon.abi import (
    MAGLEV_CHUNK,
    PEER_OUTSIDE,
    Backend,
    BackendKey,
    Bridge,
    BridgeKey,
    Ep,
    EpKey,
    Floating,
    FloatingKey,
    Flood,
    FloodKey,
    Hop,
    HopKey,
    Host,
    HostKey,
    Index,
    Limit,
    MacKey,
    Maglev,
    MaglevKey,
    Peer,
    PeerKey,
    PolicyAction,
    PolicyProto,
    Port,
    Qos,
    Rif,
    RifKey,
    Route,
    RouteKey,
    SourceKey,
    Span,
    SpanKey,
    Uplink,
    UplinkKey,
    Verdict,
    VerdictKey,
    Vip,
    VipKey,
)
from daemon.compiler.packet import Packet
from daemon.compiler.result import Rows
from daemon.compiler.spans import NO_ORDER

_MASKS = [((1 << bits) - 1) << (128 - bits) for bits in range(129)]
_PROTOS = {
    6: PolicyProto.TCP,
    17: PolicyProto.UDP,
    132: PolicyProto.SCTP,
    1: PolicyProto.ICMP,
    58: PolicyProto.ICMP6,
}


class Decision(NamedTuple):
    action: PolicyAction
    rule: int


class Lookup:
    """The maps of one node."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def ep(self, ifindex: int) -> Ep | None:
        return cast(Ep | None, self._rows["plum_ep"].get(EpKey(ifindex)))

    def mark(self, slot: int) -> int | None:
        """The code point that what the endpoint sends is marked with."""
        limit = cast(Limit | None, self._rows["plum_limit"].get(Index(slot)))
        marked = limit is not None and limit.mark & Qos.MARK
        return limit.mark & Qos.DSCP if limit and marked else None

    def bridge(self, vni: int) -> Bridge | None:
        return cast(Bridge | None, self._rows["plum_bridge"].get(BridgeKey(vni)))

    def port(self, vni: int, mac: bytes) -> Port | None:
        return cast(Port | None, self._rows["plum_mac"].get(MacKey(vni, mac)))

    def host(self, domain: int, addr: bytes) -> Host | None:
        return cast(Host | None, self._rows["plum_host"].get(HostKey(domain, addr)))

    def rif(self, router: int, vni: int) -> Rif | None:
        return cast(Rif | None, self._rows["plum_rif"].get(RifKey(router, vni)))

    def may_send(self, slot: int, mac: bytes, addr: bytes) -> bool:
        table = self._rows["plum_source"]
        return any(
            SourceKey(96 + bits, slot, mac, masked) in table for bits, masked in _prefixes(addr)
        )

    def route(self, router: int, addr: bytes) -> Route | None:
        table = self._rows["plum_route"]
        for bits, masked in _prefixes(addr):
            row = table.get(RouteKey(32 + bits, router, masked))
            if row is not None:
                return cast(Route, row)
        return None

    def hop(self, route: Route, flow_hash: int) -> Hop:
        return cast(Hop, self._rows["plum_hop"][HopKey(route.group, flow_hash % route.hops)])

    def flood(self, vni: int) -> list[Flood]:
        members: list[Flood] = []
        while (row := self._rows["plum_flood"].get(FloodKey(vni, len(members)))) is not None:
            members.append(cast(Flood, row))
        return members

    def vip(self, domain: int, addr: bytes, packet: Packet) -> Vip | None:
        key = VipKey(domain, addr, packet.dport, packet.protocol)
        return cast(Vip | None, self._rows["plum_vip"].get(key))

    def backend(self, vip: Vip, slot: int) -> bytes | None:
        """Address the Maglev table's slot says; None where the list is empty."""
        chunk, index = divmod(slot, MAGLEV_CHUNK)
        table = self._rows["plum_maglev"].get(MaglevKey(vip.backends, chunk))
        if table is None:
            return None
        raw = cast(Maglev, table)[0][2 * index : 2 * index + 2]
        row = self._rows["plum_backend"].get(
            BackendKey(vip.backends, int.from_bytes(raw, "little"))
        )
        return cast(Backend, row).addr if row is not None else None

    def uplink(self, router: int) -> Uplink | None:
        return cast(Uplink | None, self._rows["plum_uplink"].get(UplinkKey(router)))

    def floating(self, router: int, addr: bytes) -> bytes | None:
        row = self._rows["plum_floating"].get(FloatingKey(router, addr))
        return cast(Floating, row).addr if row is not None else None

    def peer_class(self, domain: int, addr: bytes, *, outside: bool = False) -> int:
        """Of the endpoint that owns the address, else of the longest prefix around it.

        No endpoint owns an address outside.
        """
        host = None if outside else self.host(domain, addr)
        if host is not None and not host.router:
            return host.peer_class
        table = self._rows["plum_peer"]
        domain |= PEER_OUTSIDE if outside else 0
        for bits, masked in _prefixes(addr):
            row = table.get(PeerKey(32 + bits, domain, masked))
            if row is not None:
                return cast(Peer, row).peer_class
        return 0

    def decide(self, policy_set: int, peer_class: int, packet: Packet) -> Decision:
        """NONE: no rule of the set matches, the default decides."""
        proto = _PROTOS.get(packet.protocol, PolicyProto.OTHER)
        if proto is PolicyProto.OTHER:
            port = packet.protocol
        elif proto in (PolicyProto.ICMP, PolicyProto.ICMP6):
            port = packet.icmp_type << 8 | packet.icmp_code
        else:
            port = packet.dport
        best = Span(0, NO_ORDER, 0, PolicyAction.NONE, 0)
        for wanted in {peer_class, 0}:
            row = self._rows["plum_verdict"].get(VerdictKey(policy_set, wanted, proto))
            if row is not None:
                span = self._span(cast(Verdict, row), port)
                best = min(best, span, key=lambda one: one.order)
        return Decision(PolicyAction(best.action), best.rule)

    def _span(self, verdict: Verdict, port: int) -> Span:
        """The last span that starts at or before the port (binary search)."""
        table = self._rows["plum_span"]
        low, high = 0, verdict.spans - 1
        while low < high:
            middle = (low + high + 1) // 2
            if cast(Span, table[SpanKey(verdict.list, middle)]).first <= port:
                low = middle
            else:
                high = middle - 1
        return cast(Span, table[SpanKey(verdict.list, low)])


def _prefixes(addr: bytes) -> list[tuple[int, bytes]]:
    """Every prefix of an address, longest first."""
    value = int.from_bytes(addr, "big")
    return [(bits, (value & _MASKS[bits]).to_bytes(16, "big")) for bits in range(128, -1, -1)]
