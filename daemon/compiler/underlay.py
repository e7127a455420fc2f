"""Rows about nodes, and what the underlay leaves for a tenant's packet."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.abi import Config, Index, Vtep, VtepKey
from daemon.abi import Node as NodeRow
from daemon.compiler.result import Rows, Runtime
from daemon.compiler.wide import wide
from daemon.model.derive import overlay_mtu_bytes
from daemon.model.domain import Bridge
from daemon.model.object import Node


def tunnel_mtu(nodes: Iterable[Node]) -> int:
    """Bytes of the largest tenant IP packet that fits between any two nodes."""
    return min((overlay_mtu_bytes(n.spec) for n in nodes), default=65535)


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
        log_per_s=runtime.log_per_s,
        punt_per_s=runtime.punt_per_s,
        dns_per_s=runtime.dns_per_s,
    )
    return {
        "plum_config": {Index(0): config},
        "plum_node": {Index(node.id): NodeRow(wide(node.spec.vtep)) for node in everyone},
        "plum_vtep": {
            VtepKey(wide(node.spec.vtep)): Vtep(node.id)
            for node in everyone
            if node.name != own.name
        },
    }
