"""The device that carries this node's tunnels.

Receive offload must understand the tunnel, or bulk TCP comes in 1,500 bytes at a
time: the kernel merges VXLAN packets only when a VXLAN socket is bound to their
port (net/ipv4/udp_offload.c). An idle vxlan device holds that socket. It accepts
frames from anyone, so it gets the endpoint's program as a filter before it goes
up: no row in plum_ep, nothing passes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from daemon.drivers import netlink
from daemon.drivers.filters import Filters
from daemon.drivers.links import Links
from daemon.drivers.netlink import Message, Netlink
from daemon.drivers.netns import addresses

VXLAN_PORT = 4789
#: Name of the idle device; its VNI is never given to a bridge.
GRO_DEVICE, GRO_VNI = "plum_gro", 0xFFFFFF

_SIOCETHTOOL, _ETHTOOL_SGRO = 0x8946, 0x2C
_IFNAME, _LINKINFO, _AF_SPEC, _INFO_KIND, _INFO_DATA = 3, 18, 26, 1, 2
_VXLAN_ID, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_DST_PORT, _VXLAN_LOCAL6 = 1, 4, 7, 15, 17
_ADDR_GEN_MODE, _ADDR_GEN_NONE = 8, 1


@dataclass(frozen=True, slots=True)
class Underlay:
    """Where outer packets leave and arrive."""

    index: int
    name: str
    mtu: int  # bytes of the largest outer IP packet


def find(kernel: Netlink, vtep: IPv4Address | IPv6Address) -> Underlay | None:
    """The device that holds the VTEP address; None if none does."""
    indexes = {index for index, address in addresses(kernel) if address == vtep}
    for link in Links(kernel).list():
        if link.index in indexes:
            return Underlay(link.index, link.name, link.mtu)
    return None


def enable_gro(name: str) -> None:
    """Switch receive offload on, in the calling thread's namespace."""
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_SGRO, 1))
    request = struct.pack("=16sQ16x", name.encode(), ctypes.addressof(value))  # struct ifreq
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)


def ensure_gro_device(
    kernel: Netlink, vtep: IPv4Address | IPv6Address, program_fd: int, program_name: str
) -> None:
    """Keep the idle VXLAN socket open: make, close (by filter) and start its device."""
    links = Links(kernel)
    found = links.find(GRO_DEVICE)
    if found is None:
        kernel.request(_vxlan(vtep), _without_addresses())
        found = links.find(GRO_DEVICE)
        if found is None:
            raise OSError(errno.ENODEV, f"{GRO_DEVICE}: {os.strerror(errno.ENODEV)}")
    Filters(kernel).attach({found.index: program_fd}, program_name)
    if not found.up:
        links.up(found.index)


def _vxlan(vtep: IPv4Address | IPv6Address) -> Message:
    local = _VXLAN_LOCAL if vtep.version == 4 else _VXLAN_LOCAL6
    data = netlink.nested(
        _INFO_DATA,
        netlink.u32(_VXLAN_ID, GRO_VNI),
        netlink.attribute(local, vtep.packed),
        netlink.attribute(_VXLAN_LEARNING, b"\0"),
        netlink.attribute(_VXLAN_DST_PORT, VXLAN_PORT.to_bytes(2, "big")),
    )
    body = (
        netlink.IFINFO.pack(0, 0, 0, 0, 0)
        + netlink.text(_IFNAME, GRO_DEVICE)
        + netlink.nested(_LINKINFO, netlink.text(_INFO_KIND, "vxlan"), data)
    )
    return Message(netlink.NEWLINK, body, netlink.CREATE | netlink.EXCL)


def _without_addresses() -> Message:
    """No IPv6 link-local address either: the device sends nothing."""
    mode = netlink.attribute(_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE]))
    spec = netlink.nested(_AF_SPEC, netlink.nested(socket.AF_INET6, mode))
    body = netlink.IFINFO.pack(0, 0, 0, 0, 0) + netlink.text(_IFNAME, GRO_DEVICE) + spec
    return Message(netlink.SETLINK, body)
