"""Where a sandbox keeps things, and what it calls them. Pure names, no side effects."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from pathlib import Path

from plumctl.errors import ExitCode, PlumError

NETNS_DIR = Path("/run/netns")
#: plumd makes the socket in its run directory.
SOCKET_NAME = "plumd.sock"
#: The underlay device inside a node's namespace.
UPLINK = "underlay"
#: The device inside a node's namespace that leads to the sandbox's outside.
OUTSIDE = "outside"
#: What the sandbox's external network is called, and where it is.
EXTERNAL = "internet"
OUTSIDE_NETS = (ip_network("198.51.100.0/24"), ip_network("2001:db8:51::/64"))
#: For whole prefixes; on the same wire.
OUTSIDE_PREFIXES = ip_network("2001:db8:51:100::/56")
#: The host outside, which is also the router there, has the last address but one.
OUTSIDE_HOSTS = (ip_interface("198.51.100.254/24"), ip_interface("2001:db8:51::fe/64"))
OUTSIDE_MTU_BYTES = 1500
#: Nodes that are its gateways.
GATEWAYS = 2
MAX_NODES = 64

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")


@dataclass(frozen=True, slots=True)
class Layout:
    """A sandbox by name; several may run side by side (PLUM_SANDBOX names one)."""

    name: str = "sandbox"

    @property
    def prefix(self) -> str:
        """Every namespace of the sandbox's own starts with this."""
        return "plum-sb-" if self.name == "sandbox" else f"plum-{self.name}-"

    @property
    def fabric(self) -> str:
        """Namespace of the switch that joins the nodes."""
        return f"{self.prefix}fabric"

    @property
    def outside(self) -> str:
        """Namespace of a host outside the zone."""
        return f"{self.prefix}outside"

    @property
    def run_dir(self) -> Path:
        return Path("/run/plum") / self.name

    @property
    def state_file(self) -> Path:
        return self.run_dir / "sandbox.json"

    @property
    def lock_file(self) -> Path:
        """Beside the run directory, which `down` removes."""
        return Path("/run/plum") / f".{self.name}.lock"

    @property
    def pin_dir(self) -> Path:
        return Path("/sys/fs/bpf/plum") / self.name

    @property
    def store_dir(self) -> Path:
        return Path("/var/lib/plum") / self.name

    @property
    def store(self) -> Path:
        return self.store_dir / "store.db"

    def namespace(self, node: str) -> str:
        return f"{self.prefix}{node}"

    def node_run_dir(self, node: str) -> Path:
        return self.run_dir / node

    def node_pin_dir(self, node: str) -> Path:
        return self.pin_dir / node

    def socket(self, node: str) -> Path:
        return self.node_run_dir(node) / SOCKET_NAME

    def log(self, node: str) -> Path:
        return self.node_run_dir(node) / "plumd.log"

    def sockets(self) -> list[Path]:
        """Sockets of the nodes that have one, first node first."""
        found = self.run_dir.glob(f"*/{SOCKET_NAME}")
        return sorted(found, key=lambda path: (len(path.parent.name), path.parent.name))


def current_layout() -> Layout:
    """The sandbox that PLUM_SANDBOX names, or the usual one."""
    name = os.environ.get("PLUM_SANDBOX") or "sandbox"
    if not _NAME.fullmatch(name):
        raise PlumError(
            f"PLUM_SANDBOX={name!r} is no sandbox name",
            "use up to 20 of a-z, 0-9 and -, or unset it",
            ExitCode.USAGE,
        )
    return Layout(name)


def node_names(count: int) -> list[str]:
    return [f"n{index}" for index in range(1, count + 1)]


def vtep(index: int, family: int) -> IPv4Address | IPv6Address:
    """Underlay address of the node with this index, from 1 (documentation prefixes)."""
    if family == 6:
        return IPv6Address("2001:db8:0:1::") + index
    return IPv4Address("192.0.2.0") + index


def prefix_length(family: int) -> int:
    return 64 if family == 6 else 24
