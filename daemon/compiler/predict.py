"""What the datapath does with the first packet of a new connection, from rows alone.

The order of checks, on the node of the sending endpoint:

1. plum_ep of the device, else NOT_PROGRAMMED.
2. PORT_SECURITY: longest match of slot, source MAC and address in plum_source,
   else SOURCE_ADDRESS if the MAC is the endpoint's own and SOURCE_MAC if not.
   (An IPv6 address of ::ffff:0:0/96 on the wire is MALFORMED before that.)
3. FLOW_LOOKUP: an ICMP error or reply belongs to no connection: ICMP_UNRELATED.
4. Destination MAC on the bridge: of an endpoint, BRIDGE; of a router, ROUTE; with
   the group bit or of nobody, FLOOD, or FLOOD_OFF where the bridge does not.
5. ROUTE, at each router, at most 4 in a row, else ROUTE_LOOP:
   its own address (on whatever bridge) - it is answered, nothing below asked;
   source or destination link-local, loopback, unspecified or multicast -
   LINK_LOCAL; TTL 1 or less - TTL; longest prefix in plum_route - NO_ROUTE,
   BLACKHOLE; the destination or the next hop in plum_host on the route's
   bridge - NO_HOST. A host that is another router is the next router; one that
   is this router itself is ROUTE_LOOP. Each router takes 1 off the TTL.
6. Longer than the MTU of the bridge it is delivered on: MTU.
7. EGRESS_POLICY of the sender; the peer is the destination address.
8. Delivered here: INGRESS_POLICY of the receiver; the peer is the source address.
   Elsewhere: ENCAPSULATE with the VNI of the bridge, and on that node VNI, then
   the destination MAC - NOT_HERE unless a local endpoint's - and INGRESS_POLICY.

A flooded packet passes 6 and 7 once and 8 for each member of the replication
list but the sender; on another node it goes to local members only.
ARP, neighbour discovery and DHCP are answered before all this and not predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv6Address

from daemon.abi import BridgeFlag, Drop, Ep, EpFlag, PolicyAction, Port, RouteKind, Stage
from daemon.compiler.lookup import Lookup
from daemon.compiler.packet import Outcome, Packet, Prediction, Step
from daemon.compiler.result import Rows
from daemon.compiler.wide import mac_bytes, wide
from daemon.model.base import Address

MAX_ROUTERS = 4

#: ICMP types that never open a connection: replies and errors (RFC 792, 4443).
_UNRELATED = {1: frozenset({0, 3, 4, 5, 11, 12, 14, 16, 18}), 58: frozenset({1, 2, 3, 4, 129})}


def predict(zone: Mapping[int, Rows], node: int, ifindex: int, packet: Packet) -> Prediction:
    """Follow `packet`, sent by the endpoint behind device `ifindex` of `node`.

    `zone`: compiled rows by node id. Where the next node's are missing the
    prediction ends with SENT.
    """
    return _Walk(zone, packet).from_endpoint(node, ifindex)


def _text(mac: bytes) -> str:
    return mac.hex(":")


def _not_routable(address: Address) -> bool:
    return (
        address.is_link_local
        or address.is_loopback
        or address.is_unspecified
        or address.is_multicast
    )


class _Dropped(Exception):
    """Ends a walk; never leaves this module."""

    def __init__(self, reason: Drop) -> None:
        super().__init__(reason.name)
        self.reason = reason


class _Walk:
    def __init__(self, zone: Mapping[int, Rows], packet: Packet) -> None:
        self._zone = zone
        self._packet = packet
        self._src, self._dst = wide(packet.src), wide(packet.dst)
        self._now = Prediction(
            Outcome.DROPPED, 0, smac=packet.smac, dmac=packet.dmac, ttl=packet.ttl
        )

    def _step(self, stage: Stage, detail: str = "") -> None:
        step = Step(self._now.node, stage, detail)
        self._now = replace(self._now, steps=(*self._now.steps, step))

    def from_endpoint(self, node: int, ifindex: int) -> Prediction:
        self._now = replace(self._now, node=node)
        rows = Lookup(self._zone[node])
        try:
            ep = rows.ep(ifindex)
            if ep is None:
                raise _Dropped(Drop.NOT_PROGRAMMED)
            self._port_security(rows, ep)
            self._step(Stage.FLOW_LOOKUP, "new")
            if self._packet.icmp_type in _UNRELATED.get(self._packet.protocol, ()):
                raise _Dropped(Drop.ICMP_UNRELATED)
            dmac = mac_bytes(self._packet.dmac)
            port = None if dmac[0] & 1 else rows.port(ep.vni, dmac)
            if port is not None and port.router:
                return self._route(rows, ep, port.router)
            self._step(Stage.BRIDGE, f"vni {ep.vni}")
            if port is not None:
                return self._out(rows, ep, ep.vni, port)
            return self._flood(rows, ep, ifindex)
        except _Dropped as dropped:
            return replace(self._now, outcome=Outcome.DROPPED, drop=dropped.reason)

    def _port_security(self, rows: Lookup, ep: Ep) -> None:
        self._step(Stage.PORT_SECURITY)
        for address in (self._packet.src, self._packet.dst):
            if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
                raise _Dropped(Drop.MALFORMED)
        smac = mac_bytes(self._packet.smac)
        if not rows.may_send(ep.slot, smac, self._src):
            raise _Dropped(Drop.SOURCE_ADDRESS if smac == ep.mac else Drop.SOURCE_MAC)

    def _route(self, rows: Lookup, ep: Ep, router: int) -> Prediction:
        for _ in range(MAX_ROUTERS):
            self._step(Stage.ROUTE, f"router {router}")
            target = rows.host(ep.domain, self._dst)
            if target is not None and target.router == router:
                return replace(self._now, outcome=Outcome.ANSWERED)
            if _not_routable(self._packet.src) or _not_routable(self._packet.dst):
                raise _Dropped(Drop.LINK_LOCAL)
            if self._now.ttl <= 1:
                raise _Dropped(Drop.TTL)
            vni, addr = self._next(rows, router)
            self._now = replace(self._now, ttl=self._now.ttl - 1)
            host = rows.host(ep.domain, addr)
            if host is None:
                raise _Dropped(Drop.NO_HOST)
            if not host.router:
                rif = rows.rif(router, vni)
                if host.vni != vni or rif is None:
                    raise _Dropped(Drop.NO_HOST)
                self._now = replace(self._now, smac=_text(rif.mac), dmac=_text(host.mac))
                return self._out(rows, ep, vni, Port(host.node, host.ifindex, 0))
            if host.router == router:
                raise _Dropped(Drop.ROUTE_LOOP)
            if rows.rif(host.router, vni) is None:
                raise _Dropped(Drop.NO_HOST)
            router = host.router
        raise _Dropped(Drop.ROUTE_LOOP)

    def _next(self, rows: Lookup, router: int) -> tuple[int, bytes]:
        """Bridge and address of what the router hands the packet to."""
        route = rows.route(router, self._dst)
        if route is None or route.kind == RouteKind.NONE:
            raise _Dropped(Drop.NO_ROUTE)
        if route.kind == RouteKind.BLACKHOLE:
            raise _Dropped(Drop.BLACKHOLE)
        if route.kind == RouteKind.CONNECTED:
            return route.vni, self._dst
        hop = rows.hop(route, self._packet.flow_hash)
        return hop.vni, hop.addr

    def _egress(self, rows: Lookup, ep: Ep, vni: int) -> None:
        bridge = rows.bridge(vni)
        if bridge is None:
            raise _Dropped(Drop.VNI)
        if self._packet.length > bridge.mtu:
            raise _Dropped(Drop.MTU)
        self._step(Stage.EGRESS_POLICY)
        peer = rows.peer_class(ep.domain, self._dst)
        action, rule = rows.decide(ep.egress_set, peer, self._packet)
        self._now = replace(self._now, vni=vni, egress_rule=rule)
        default = ep.flags & EpFlag.EGRESS_ALLOW
        if action is PolicyAction.DENY or (action is PolicyAction.NONE and not default):
            raise _Dropped(Drop.POLICY_EGRESS)

    def _out(self, rows: Lookup, ep: Ep, vni: int, port: Port) -> Prediction:
        self._egress(rows, ep, vni)
        if not port.node:
            return self._deliver(rows, port.ifindex)
        self._step(Stage.ENCAPSULATE, f"node {port.node} vni {vni}")
        return self._from_underlay(port.node, vni)

    def _deliver(self, rows: Lookup, ifindex: int) -> Prediction:
        ep = rows.ep(ifindex)
        if ep is None:
            raise _Dropped(Drop.NOT_PROGRAMMED)
        self._step(Stage.INGRESS_POLICY)
        peer = rows.peer_class(ep.domain, self._src)
        action, rule = rows.decide(ep.ingress_set, peer, self._packet)
        self._now = replace(self._now, ingress_rule=rule, ifindex=ifindex)
        default = ep.flags & EpFlag.INGRESS_ALLOW
        if action is PolicyAction.DENY or (action is PolicyAction.NONE and not default):
            raise _Dropped(Drop.POLICY_INGRESS)
        self._step(Stage.DELIVER, f"ifindex {ifindex}")
        return replace(self._now, outcome=Outcome.DELIVERED)

    def _from_underlay(self, node: int, vni: int) -> Prediction:
        self._now = replace(self._now, node=node)
        if node not in self._zone:
            return replace(self._now, outcome=Outcome.SENT)
        rows = Lookup(self._zone[node])
        self._step(Stage.DECAPSULATE, f"vni {vni}")
        bridge = rows.bridge(vni)
        if bridge is None:
            raise _Dropped(Drop.VNI)
        dmac = mac_bytes(self._now.dmac)
        port = None if dmac[0] & 1 else rows.port(vni, dmac)
        if port is not None:
            if port.node or port.router:
                raise _Dropped(Drop.NOT_HERE)
            return self._deliver(rows, port.ifindex)
        if not bridge.flags & BridgeFlag.FLOOD:
            raise _Dropped(Drop.NOT_HERE)
        locals_ = [member.ifindex for member in rows.flood(vni) if not member.node]
        return self._copies([(0, ifindex) for ifindex in locals_], vni)

    def _flood(self, rows: Lookup, ep: Ep, ifindex: int) -> Prediction:
        bridge = rows.bridge(ep.vni)
        if bridge is None or not bridge.flags & BridgeFlag.FLOOD:
            raise _Dropped(Drop.FLOOD_OFF)
        self._egress(rows, ep, ep.vni)
        members = [(member.node, member.ifindex) for member in rows.flood(ep.vni)]
        return self._copies([member for member in members if member != (0, ifindex)], ep.vni)

    def _copies(self, members: list[tuple[int, int]], vni: int) -> Prediction:
        """One walk for each member, all from here."""
        self._step(Stage.FLOOD, f"{len(members)} members")
        here = self._now
        copies = []
        for node, ifindex in members:
            self._now = here
            try:
                if node:
                    self._step(Stage.ENCAPSULATE, f"node {node} vni {vni}")
                    copies.append(self._from_underlay(node, vni))
                else:
                    copies.append(self._deliver(Lookup(self._zone[here.node]), ifindex))
            except _Dropped as dropped:
                copies.append(replace(self._now, outcome=Outcome.DROPPED, drop=dropped.reason))
        self._now = here
        return replace(here, outcome=Outcome.FLOODED, copies=tuple(copies))
