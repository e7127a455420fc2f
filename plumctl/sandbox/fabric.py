"""The sandbox's network: a switch in a namespace of its own, a cable to each node's;
a second switch, the street, where a host outside the zone lives.

All devices are made inside namespaces, so nothing of the host changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyroute2 import NetNS, netns
from pyroute2.netlink.exceptions import NetlinkError

from plumctl.errors import PlumError
from plumctl.run import run, succeeds
from plumctl.sandbox.layout import (
    NETNS_DIR,
    OUTSIDE,
    OUTSIDE_HOSTS,
    OUTSIDE_MTU_BYTES,
    OUTSIDE_PREFIXES,
    UPLINK,
    Layout,
    prefix_length,
    vtep,
)

_SWITCH, _STREET = "switch", "street"


@dataclass(frozen=True, slots=True)
class Fabric:
    """What the underlay is like, and where the zone's state is."""

    nodes: tuple[str, ...]
    family: int  # 4 or 6
    mtu_bytes: int
    store: str = "sqlite"  # or etcd


def namespaces() -> list[str]:
    """Names of all network namespaces of the machine."""
    return list(netns.listnetns())


def build(layout: Layout, fabric: Fabric) -> None:
    """Make the switch, the nodes' namespaces and the cables between them."""
    try:
        _build(layout, fabric)
    except (NetlinkError, OSError) as error:
        raise PlumError(f"cannot make the underlay: {error}", "it needs root") from error


def _build(layout: Layout, fabric: Fabric) -> None:
    netns.create(layout.fabric)
    _sysctl(layout.fabric, {"net.ipv6.conf.all.disable_ipv6": 1})
    with NetNS(layout.fabric) as inside:
        _up(inside, "lo")
        inside.link("add", ifname=_SWITCH, kind="bridge", mtu=fabric.mtu_bytes, br_mcast_snooping=0)
        _up(inside, _SWITCH)
        inside.link("add", ifname=_STREET, kind="bridge", br_mcast_snooping=0)
        _up(inside, _STREET)
        _outside(inside, layout)
        for index, node in enumerate(fabric.nodes, start=1):
            _node(inside, layout, fabric, node, index)


def _outside(street: NetNS, layout: Layout) -> None:
    """A host that is the outside's router as well."""
    netns.create(layout.outside)
    _sysctl(layout.outside, {"net.ipv6.conf.default.accept_dad": 0})
    _cable(street, _STREET, "door", "eth0", layout.outside, OUTSIDE_MTU_BYTES)
    with NetNS(layout.outside) as inside:
        _up(inside, "lo")
        for address in OUTSIDE_HOSTS:
            inside.addr(
                "add",
                index=_index(inside, "eth0"),
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
            )
        inside.route("add", dst=str(OUTSIDE_PREFIXES), oif=_index(inside, "eth0"))


def _cable(inside: NetNS, switch: str, near: str, far: str, namespace: str, mtu_bytes: int) -> None:
    """From a switch to a device in a namespace, both ends up."""
    far_end = {"ifname": far, "mtu": mtu_bytes, "net_ns_fd": namespace}
    inside.link("add", ifname=near, kind="veth", mtu=mtu_bytes, peer=far_end)
    inside.link("set", index=_index(inside, near), master=_index(inside, switch), state="up")
    with NetNS(namespace) as there:
        _up(there, far)


def _node(switch: NetNS, layout: Layout, fabric: Fabric, node: str, index: int) -> None:
    namespace = layout.namespace(node)
    netns.create(namespace)
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
    _cable(switch, _SWITCH, node, UPLINK, namespace, fabric.mtu_bytes)
    _cable(switch, _STREET, f"{node}-out", OUTSIDE, namespace, OUTSIDE_MTU_BYTES)
    with NetNS(namespace) as inside:
        _up(inside, "lo")
        inside.addr(
            "add",
            index=_index(inside, UPLINK),
            address=str(vtep(index, fabric.family)),
            prefixlen=prefix_length(fabric.family),
        )


def _index(inside: NetNS, device: str) -> int:
    return int(inside.link_lookup(ifname=device)[0])


def _up(inside: NetNS, device: str) -> None:
    inside.link("set", index=_index(inside, device), state="up")


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
            netns.remove(name)


def enter(namespace: str, command: Sequence[str]) -> list[str]:
    """The command line that runs a command in a namespace."""
    return ["nsenter", f"--net={NETNS_DIR / namespace}", "--", *command]


def ensure_bpffs() -> None:
    """Pins need a mounted bpffs."""
    if not succeeds("mountpoint", "-q", "/sys/fs/bpf"):
        run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")


def _sysctl(namespace: str, values: dict[str, int]) -> None:
    settings = [f"{key}={value}" for key, value in values.items()]
    run(*enter(namespace, ["sysctl", "-q", "-w", *settings]))
