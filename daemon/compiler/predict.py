"""What the datapath does with the first packet of a new connection, from rows alone.

The order of checks, on the node of the sending endpoint (bpf/plum.bpf.c):

1. plum_ep of the device, else NOT_PROGRAMMED.
2. PARSE: a multicast or reserved source, an IPv6 address of ::ffff:0:0/96, ICMP
   of the other family: MALFORMED.
3. PORT_SECURITY: a packet only a network's servers send: ROGUE_DHCP, ROGUE_RA.
   Longest match of slot, source MAC and address in plum_source, else SOURCE_MAC
   if the address is right with the endpoint's own MAC, and SOURCE_ADDRESS if not.
   Source and destination the same: MALFORMED.
   PUNT: port 53 of a gateway of the sender's bridge, if the domain has names: answered.
4. Destination MAC on the bridge: of an endpoint, BRIDGE; of a router, ROUTE; with
   the group bit or of nobody, FLOOD, or FLOOD_OFF where the bridge does not.
5. ROUTE, at each router, at most 4 in a row, else ROUTE_LOOP:
   its own address (on whatever bridge): an echo request is answered, the rest is
   RESPONDER, and nothing below is asked; source or destination link-local or
   loopback, destination multicast: LINK_LOCAL; TTL 1 or less: TTL; longest prefix
   in plum_route: NO_ROUTE, BLACKHOLE; the destination or the next hop in
   plum_host: NO_HOST, also if it is this very router. A host that is another
   router is the next one. Each router takes 1 off the TTL.
   A route of kind UPLINK leaves the zone: NO_GATEWAY if none is alive, MTU, 7 and 8
   (the peer is no endpoint, whatever its address), and NAT: a floating address, else a
   port for TCP, UDP and echo requests, NAT_PROTOCOL for the rest, NAT_EXHAUSTED where
   the node has no block. Which port, and whether one is left, rows do not say.
   A load balancer's address: LOAD_BALANCE, which a frame to the load balancer's own
   MAC reaches directly. A ping is answered; no listener: NO_LISTENER; no backend but
   the sender itself, or one that is not there: NO_BACKEND. The frame goes on from
   the load balancer's MAC to the backend; the sender's egress policy sees the
   virtual address and port, the backend's ingress policy the backend's.
6. The receiver, if here, without plum_ep: NOT_PROGRAMMED. Longer than the MTU of
   the bridge it is delivered on: MTU. Routed, and the last router has no
   interface on that bridge: NO_ROUTER.
7. FLOW_LOOKUP: an ICMP error or reply belongs to no connection: ICMP_UNRELATED.
8. EGRESS_POLICY of the sender; the peer is the destination. ROUTER_POLICY: egress rules
   of interfaces it enters by, ingress rules of those it leaves by (peer: source).
9. Delivered here: INGRESS_POLICY of the receiver; the peer is the source address.
   Elsewhere: ENCAPSULATE with the VNI of the bridge, and on that node VNI, then
   the destination MAC (NOT_HERE if not of a local endpoint) and INGRESS_POLICY.

A flooded packet passes MTU, 7 and 8 once, and 9 for each member of the replication
list but the sender; a MAC that nobody has on the receiving node either goes to
its local members, or is FLOOD_OFF. What opens no connection (ARP, ND, DHCP, IGMP, MLD)
is not predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from daemon.abi import (
    MAGLEV_SLOTS,
    BridgeFlag,
    Drop,
    Ep,
    EpFlag,
    PolicyAction,
    Port,
    Route,
    RouteKind,
    Stage,
    Vip,
)
from daemon.compiler.lookup import Lookup
from daemon.compiler.packet import (
    Outcome,
    Packet,
    Prediction,
    Step,
    is_group,
    is_malformed,
    is_never_routed,
)
from daemon.compiler.result import Rows
from daemon.compiler.wide import mac_bytes, wide
from daemon.model.mac import balancer_mac

MAX_ROUTERS = 4
DNS_PORT = 53
BACKEND_TRIES = 4

#: ICMP types that never open a connection: replies and errors (RFC 792, 4443).
_UNRELATED = {1: frozenset({0, 3, 4, 5, 11, 12, 14, 16, 18}), 58: frozenset({*range(128), 129})}
_ECHO_REQUEST = {1: 8, 58: 128}
_DHCP_SERVER = {4: 67, 6: 547}
_ROUTERS_ONLY = {1: frozenset({5}), 58: frozenset({134, 137})}  # adverts and redirects


def predict(zone: Mapping[int, Rows], node: int, ifindex: int, packet: Packet) -> Prediction:
    """Follow `packet`, sent by the endpoint behind device `ifindex` of `node`.

    `zone`: compiled rows by node id. Where the next node's are missing the
    prediction ends with SENT.
    """
    return _Walk(zone, packet).from_endpoint(node, ifindex)


def _text(mac: bytes) -> str:
    return mac.hex(":")


class _Dropped(Exception):
    """Ends a walk; never leaves this module."""

    def __init__(self, reason: Drop) -> None:
        super().__init__(reason.name)
        self.reason = reason


class _Walk:
    def __init__(self, zone: Mapping[int, Rows], packet: Packet) -> None:
        self._zone = zone
        self._packet = packet
        self._arriving = packet  # as the receiver's policy sees it
        self._src, self._dst = wide(packet.src), wide(packet.dst)
        self._gates: list[tuple[int, bool]] = []  # sets, and whether towards the bridge
        smac, dmac, ttl = packet.smac, packet.dmac, packet.ttl
        self._now = Prediction(Outcome.DROPPED, 0, smac=smac, dmac=dmac, ttl=ttl)

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
            self._now = replace(self._now, dscp=rows.mark(ep.slot))
            self._step(Stage.PARSE)
            if is_malformed(self._packet):
                raise _Dropped(Drop.MALFORMED)
            self._port_security(rows, ep)
            if self._asks_for_name(rows, ep):
                self._step(Stage.PUNT)
                return replace(self._now, outcome=Outcome.ANSWERED)
            dmac = mac_bytes(self._packet.dmac)
            port = None if dmac[0] & 1 else rows.port(ep.vni, dmac)
            if port is not None and port.router:
                return self._route(rows, ep, port.router)
            if port is not None and port.balancer:
                return self._balance(rows, ep, port.balancer)
            self._step(Stage.BRIDGE, f"vni {ep.vni}")
            if port is not None:
                self._check_out(rows, ep.vni, port)
                return self._out(rows, ep, ep.vni, port)
            return self._flood(rows, ep, ifindex)
        except _Dropped as dropped:
            return replace(self._now, outcome=Outcome.DROPPED, drop=dropped.reason)

    def _port_security(self, rows: Lookup, ep: Ep) -> None:
        self._step(Stage.PORT_SECURITY)
        packet, smac = self._packet, mac_bytes(self._packet.smac)
        if smac[0] & 1:
            raise _Dropped(Drop.SOURCE_MAC)
        if packet.protocol == 17 and packet.sport == _DHCP_SERVER[packet.src.version]:
            raise _Dropped(Drop.ROGUE_DHCP)
        if packet.icmp_type in _ROUTERS_ONLY.get(packet.protocol, ()):
            raise _Dropped(Drop.ROGUE_RA)
        if not rows.may_send(ep.slot, smac, self._src):
            own = rows.may_send(ep.slot, ep.mac, self._src)
            raise _Dropped(Drop.SOURCE_MAC if own else Drop.SOURCE_ADDRESS)
        if packet.src == packet.dst:
            raise _Dropped(Drop.MALFORMED)

    def _asks_for_name(self, rows: Lookup, ep: Ep) -> bool:
        packet = self._packet
        if not ep.flags & EpFlag.DNS or packet.protocol not in (6, 17) or packet.dport != DNS_PORT:
            return False
        host = rows.host(ep.domain, self._dst)
        own = host is not None and host.router and host.vni == ep.vni
        return bool(own and host and host.mac == mac_bytes(packet.dmac))

    def _route(self, rows: Lookup, ep: Ep, router: int) -> Prediction:
        near = ep.vni
        for _ in range(MAX_ROUTERS):
            self._step(Stage.ROUTE, f"router {router}")
            target = rows.host(ep.domain, self._dst)
            if target is not None and target.router == router:
                return self._answer()
            source, destination = self._packet.src, self._packet.dst
            if is_never_routed(source) or is_never_routed(destination) or is_group(destination):
                raise _Dropped(Drop.LINK_LOCAL)
            if self._now.ttl <= 1:
                raise _Dropped(Drop.TTL)
            route = self._chosen(rows, router)
            self._now = replace(self._now, ttl=self._now.ttl - 1)
            self._pass(rows, router, near, towards=False)
            if route.kind == RouteKind.UPLINK:
                return self._leave(rows, ep, router)
            addr, out = self._next(rows, route)
            host = rows.host(ep.domain, addr)
            if host is None or host.router == router:
                raise _Dropped(Drop.NO_HOST)
            near = out if host.router else host.vni
            self._pass(rows, router, near, towards=True)
            if host.balancer and addr == self._dst:
                return self._balance(rows, ep, host.balancer)
            if host.balancer:
                raise _Dropped(Drop.NO_HOST)
            if not host.router:
                port = Port(host.node, host.ifindex, 0, 0)
                self._check_out(rows, host.vni, port)
                rif = rows.rif(router, host.vni)
                if rif is None:
                    raise _Dropped(Drop.NO_ROUTER)
                self._now = replace(self._now, smac=_text(rif.mac), dmac=_text(host.mac))
                return self._out(rows, ep, host.vni, port)
            router = host.router
        raise _Dropped(Drop.ROUTE_LOOP)

    def _balance(self, rows: Lookup, ep: Ep, balancer: int) -> Prediction:
        self._step(Stage.LOAD_BALANCE, f"load balancer {balancer}")
        target = rows.host(ep.domain, self._dst)
        if target is None or target.balancer != balancer:
            raise _Dropped(Drop.NO_LISTENER)
        if self._packet.protocol in (1, 58):
            return self._answer()
        vip = rows.vip(ep.domain, self._dst, self._packet)
        if vip is None:
            raise _Dropped(Drop.NO_LISTENER)
        addr = self._choose(rows, vip)
        host = rows.host(ep.domain, addr) if addr is not None else None
        if host is None or host.router or host.balancer:
            raise _Dropped(Drop.NO_BACKEND)
        port = Port(host.node, host.ifindex, 0, 0)
        self._check_out(rows, host.vni, port)
        self._arriving = replace(self._packet, dport=vip.to_port)
        mac = _text(mac_bytes(balancer_mac(balancer)))
        self._now = replace(self._now, smac=mac, dmac=_text(host.mac))
        return self._out(rows, ep, host.vni, port)

    def _choose(self, rows: Lookup, vip: Vip) -> bytes | None:
        slot = self._packet.flow_hash % MAGLEV_SLOTS
        for turn in range(BACKEND_TRIES):
            addr = rows.backend(vip, slot)
            if addr != self._src:
                return addr
            slot = (slot + MAGLEV_SLOTS // 3 + turn) % MAGLEV_SLOTS
        return None

    def _answer(self) -> Prediction:
        request = self._packet.icmp_type == _ECHO_REQUEST.get(self._packet.protocol)
        if not request or not self._packet.ttl:
            raise _Dropped(Drop.RESPONDER)
        return replace(self._now, outcome=Outcome.ANSWERED)

    def _leave(self, rows: Lookup, ep: Ep, router: int) -> Prediction:
        """Out of the zone: with a public address, by a gateway that is alive."""
        uplink = rows.uplink(router)
        if uplink is None:
            raise _Dropped(Drop.NO_ROUTE)
        if not uplink.gateways:
            raise _Dropped(Drop.NO_GATEWAY)
        if self._packet.length > uplink.mtu:
            raise _Dropped(Drop.MTU)
        self._flow_lookup()
        self._egress(rows, ep, uplink.vni, outside=True)
        self._routers_policy(rows, ep, outside=True)
        self._step(Stage.NAT, f"external network vni {uplink.vni}")
        version = self._packet.src.version
        if rows.floating(router, self._src) is None:
            echo = self._packet.icmp_type == _ECHO_REQUEST.get(self._packet.protocol)
            if self._packet.protocol not in (6, 17) and not echo:
                raise _Dropped(Drop.NAT_PROTOCOL)
            if not (uplink.blocks4 if version == 4 else uplink.blocks6):
                raise _Dropped(Drop.NAT_EXHAUSTED)
        self._step(Stage.GATEWAY)
        return replace(self._now, outcome=Outcome.OUTSIDE)

    def _chosen(self, rows: Lookup, router: int) -> Route:
        route = rows.route(router, self._dst)
        if route is None or route.kind == RouteKind.NONE:
            raise _Dropped(Drop.NO_ROUTE)
        if route.kind == RouteKind.BLACKHOLE:
            raise _Dropped(Drop.BLACKHOLE)
        return route

    def _next(self, rows: Lookup, route: Route) -> tuple[bytes, int]:
        """Address of what the router hands the packet to, and the bridge it is on."""
        if route.kind == RouteKind.CONNECTED:
            return self._dst, route.vni
        hop = rows.hop(route, self._packet.flow_hash)
        return hop.addr, hop.vni

    def _pass(self, rows: Lookup, router: int, vni: int, *, towards: bool) -> None:
        rif = rows.rif(router, vni)
        if rif is not None:
            self._gates.append((rif.ingress_set if towards else rif.egress_set, towards))

    def _routers_policy(self, rows: Lookup, ep: Ep, *, outside: bool = False) -> None:
        if any(number for number, _ in self._gates):
            self._step(Stage.ROUTER_POLICY)
        for number, towards in filter(lambda gate: gate[0], self._gates):
            end = self._src if towards else self._dst
            peer = rows.peer_class(ep.domain, end, outside=outside and not towards)
            action, rule = rows.decide(number, peer, self._packet)
            if action is not PolicyAction.NONE:
                self._now = replace(self._now, router_rules=(*self._now.router_rules, rule))
            if action is PolicyAction.DENY:
                raise _Dropped(Drop.POLICY_ROUTER)

    def _check_out(self, rows: Lookup, vni: int, port: Port | None) -> None:
        if port is not None and not port.node and rows.ep(port.ifindex) is None:
            raise _Dropped(Drop.NOT_PROGRAMMED)
        bridge = rows.bridge(vni)
        if bridge is None:
            raise _Dropped(Drop.VNI)
        if self._packet.length > bridge.mtu:
            raise _Dropped(Drop.MTU)

    def _egress(self, rows: Lookup, ep: Ep, vni: int, *, outside: bool = False) -> None:
        self._step(Stage.EGRESS_POLICY)
        peer = rows.peer_class(ep.domain, self._dst, outside=outside)
        action, rule = rows.decide(ep.egress_set, peer, self._packet)
        self._now = replace(self._now, vni=vni, egress_rule=rule)
        default = ep.flags & EpFlag.EGRESS_ALLOW
        if action is PolicyAction.DENY or (action is PolicyAction.NONE and not default):
            raise _Dropped(Drop.POLICY_EGRESS)

    def _flow_lookup(self) -> None:
        self._step(Stage.FLOW_LOOKUP, "new")
        if self._packet.icmp_type in _UNRELATED.get(self._packet.protocol, ()):
            raise _Dropped(Drop.ICMP_UNRELATED)

    def _out(self, rows: Lookup, ep: Ep, vni: int, port: Port) -> Prediction:
        self._flow_lookup()
        self._egress(rows, ep, vni)
        self._routers_policy(rows, ep)
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
        action, rule = rows.decide(ep.ingress_set, peer, self._arriving)
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
            raise _Dropped(Drop.FLOOD_OFF)
        locals_ = [member.ifindex for member in rows.flood(vni) if not member.node]
        return self._copies([(0, ifindex) for ifindex in locals_], vni)

    def _flood(self, rows: Lookup, ep: Ep, ifindex: int) -> Prediction:
        bridge = rows.bridge(ep.vni)
        if bridge is None or not bridge.flags & BridgeFlag.FLOOD:
            raise _Dropped(Drop.FLOOD_OFF)
        self._check_out(rows, ep.vni, None)
        self._flow_lookup()
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
