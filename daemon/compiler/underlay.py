"""Rows about nodes, and what the underlay leaves for a tenant's packet."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.abi import Config, Vtep, VtepKey
from daemon.abi import Node as NodeRow
from daemon.compiler.result import Rows, Runtime
from daemon.compiler.wide import wide
from daemon.model.domain import Bridge
from daemon.model.object import Node

#: Bytes of the outer IP packet that are not the tenant's IP packet: outer IP
#: header, UDP (8), VXLAN (8), inner Ethernet (14). RFC 7348.
OVERHEAD = {4: 50, 6: 70}


def tunnel_mtu(nodes: Iterable[Node]) -> int:
    """Bytes of the largest tenant IP packet that fits between any two nodes."""
    return min((n.spec.underlay_mtu - OVERHEAD[n.spec.vtep.version] for n in nodes), default=65535)


def bridge_mtu(bridge: Bridge, tunnel: int) -> int:
    return tunnel if bridge.mtu is None else min(bridge.mtu, tunnel)


def underlay_rows(nodes: Iterable[Node], own: Node, runtime: Runtime) -> Rows:
    """plum_config; plum_node of every node; plum_vtep of every other node."""
    everyone = sorted(nodes, key=lambda node: node.id)
    config = Config(
        vtep=wide(own.spec.vtep),
        node=own.id,
        underlay_ifindex=runtime.underlay_ifindex,
        underlay_mtu=own.spec.underlay_mtu,
        tcp_established_s=runtime.tcp_established_s,
        tcp_transient_s=runtime.tcp_transient_s,
        udp_s=runtime.udp_s,
        udp_stream_s=runtime.udp_stream_s,
        icmp_s=runtime.icmp_s,
        pad=0,
        punt_per_s=runtime.punt_per_s,
    )
    return {
        "plum_config": {(0,): config},
        "plum_node": {(node.id,): NodeRow(wide(node.spec.vtep)) for node in everyone},
        "plum_vtep": {
            VtepKey(wide(node.spec.vtep)): Vtep(node.id)
            for node in everyone
            if node.name != own.name
        },
    }
