"""The sandbox's network: a switch in a namespace of its own, a cable to each node's.

All devices are made inside namespaces, so nothing of the host changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from plumctl.run import run, succeeds
from plumctl.sandbox.layout import NETNS_DIR, UPLINK, Layout, prefix_length, vtep

_SWITCH = "switch"


@dataclass(frozen=True, slots=True)
class Fabric:
    """What the underlay is like."""

    nodes: tuple[str, ...]
    family: int  # 4 or 6
    mtu_bytes: int


def namespaces() -> list[str]:
    """Names of all network namespaces of the machine."""
    return [str(entry["name"]) for entry in json.loads(run("ip", "-j", "netns", "list") or "[]")]


def build(layout: Layout, fabric: Fabric) -> None:
    """Make the switch, the nodes' namespaces and the cables between them."""
    run("ip", "netns", "add", layout.fabric)
    mtu = fabric.mtu_bytes
    _sysctl(layout.fabric, {"net.ipv6.conf.all.disable_ipv6": 1})
    _ip(
        layout.fabric,
        "link set lo up",
        f"link add {_SWITCH} mtu {mtu} type bridge stp_state 0 mcast_snooping 0",
        f"link set {_SWITCH} up",
    )
    for index, node in enumerate(fabric.nodes, start=1):
        _node(layout, fabric, node, index)


def _node(layout: Layout, fabric: Fabric, node: str, index: int) -> None:
    namespace = layout.namespace(node)
    mtu = fabric.mtu_bytes
    run("ip", "netns", "add", namespace)
    _sysctl(
        namespace,
        {
            # Addresses usable at once, none learned from the wire.
            "net.ipv6.conf.default.accept_dad": 0,
            "net.ipv6.conf.default.accept_ra": 0,
            # The greater of `all` and the device's own counts: tunnelled replies may
            # come in another way than the kernel would send.
            "net.ipv4.conf.all.rp_filter": 0,
            "net.ipv4.conf.default.rp_filter": 0,
        },
    )
    _ip(
        layout.fabric,
        f"link add {node} mtu {mtu} type veth peer name {UPLINK} mtu {mtu} netns {namespace}",
        f"link set {node} master {_SWITCH} up",
    )
    nodad = " nodad" if fabric.family == 6 else ""
    _ip(
        namespace,
        "link set lo up",
        f"link set {UPLINK} up",
        f"addr add {vtep(index, fabric.family)}/{prefix_length(fabric.family)} dev {UPLINK}{nodad}",
    )


def workload_namespaces(layout: Layout, node: str) -> list[str]:
    """Namespaces that the node's plumd made: a marker in its run directory holds the inode.

    A namespace of that name which somebody else made later has another inode.
    """
    found = []
    markers = layout.node_run_dir(node) / "netns"
    for marker in sorted(markers.iterdir()) if markers.is_dir() else ():
        try:
            inode = (NETNS_DIR / marker.name).stat().st_ino
            ours = inode == int(marker.read_text())
        except (OSError, ValueError):  # gone already, or half-written
            continue
        if ours:
            found.append(marker.name)
    return found


def remove(names: Sequence[str]) -> None:
    """Delete namespaces, and with them the devices inside. Absent ones are fine."""
    known = set(namespaces())
    for name in names:
        if name in known:
            run("ip", "netns", "delete", name)


def enter(namespace: str, command: Sequence[str]) -> list[str]:
    """The command line that runs a command in a namespace."""
    return ["nsenter", f"--net={NETNS_DIR / namespace}", "--", *command]


def ensure_bpffs() -> None:
    """Pins need a mounted bpffs."""
    if not succeeds("mountpoint", "-q", "/sys/fs/bpf"):
        run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")


def _ip(namespace: str, *commands: str) -> None:
    run("ip", "-n", namespace, "-batch", "-", stdin="\n".join(commands) + "\n")


def _sysctl(namespace: str, values: dict[str, int]) -> None:
    settings = [f"{key}={value}" for key, value in values.items()]
    run(*enter(namespace, ["sysctl", "-q", "-w", *settings]))
