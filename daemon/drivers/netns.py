"""Network namespaces under /run/netns, as `ip netns` keeps them.

A namespace is ours, and may be deleted, if a marker in plumd's run directory
holds its inode. Addresses and routes inside are set through a netlink socket
that a thread opened while it was in there: setns(2) concerns one thread, and a
socket stays in the namespace it was made in.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path

from daemon.drivers import netlink
from daemon.drivers.netlink import Message, Netlink, NetlinkError

log = logging.getLogger(__name__)

FOLDER = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED, _MNT_DETACH = 0x1000, 0x4000, 1 << 20, 2
_LO = 1  # ifindex of lo in every namespace
_IFF_UP = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNICAST = 254, 4, 1
_RTMSG = struct.Struct("=BBBBBBBBI")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Route:
    to: IPv4Network | IPv6Network
    via: IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Inside:
    """What a statically configured workload finds in its namespace."""

    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()  # with their subnet's prefix
    routes: tuple[Route, ...] = ()  # the default routes among them


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


@contextmanager
def entered(path: Path) -> Iterator[None]:
    """The calling thread is in the namespace meanwhile. Never await inside."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(target, _CLONE_NEWNET), f"enter {path}")
        finally:
            os.close(target)
        try:
            yield
        finally:
            _check(_libc.setns(home, _CLONE_NEWNET), "return from a namespace")
    finally:
        os.close(home)


def netlink_in(path: Path) -> Netlink:
    with entered(path):
        return Netlink()


class Namespaces:
    """Makes and deletes named namespaces. `run` is plumd's run directory."""

    def __init__(self, run: Path, folder: Path = FOLDER) -> None:
        self._markers = run / "netns"
        self._markers.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def path(self, name: str) -> Path:
        return self.folder / name

    def exists(self, name: str) -> bool:
        return self._inode(name) is not None

    def ensure(self, name: str) -> bool:
        """Make the namespace unless there is one; whether it was made."""
        if self.exists(name):
            return False
        _share(self.folder)
        path = self.path(name)
        path.touch(mode=0o444)  # what a reboot or a half-made one left is reused
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(_CLONE_NEWNET), "make a network namespace")
            try:
                source = "/proc/thread-self/ns/net"
                # The marker first: one whose maker died before it was marked would be nobody's.
                (self._markers / name).write_text(f"{os.stat(source).st_ino}\n")
                _check(
                    _libc.mount(source.encode(), bytes(path), b"none", _MS_BIND, None),
                    f"mount {path}",
                )
            finally:
                _check(_libc.setns(home, _CLONE_NEWNET), "return from a namespace")
        finally:
            os.close(home)
        return True

    def list_owned(self) -> list[str]:
        """Also those that a plumd which died half made or half deleted."""
        names = [marker.name for marker in self._markers.iterdir()]
        return [name for name in names if self._owned(name) or self._is_remnant(name)]

    def delete(self, name: str) -> bool:
        """Delete the namespace if it is ours; whether it was. Missing ones are no error."""
        owned = self._owned(name)
        if owned:
            path = self.path(name)
            _check(_libc.umount2(bytes(path), _MNT_DETACH), f"unmount {path}")
        if self._is_remnant(name):
            self.path(name).unlink(missing_ok=True)
        (self._markers / name).unlink(missing_ok=True)
        return owned

    def _inode(self, name: str) -> int | None:
        try:
            found = self.path(name).stat()
        except FileNotFoundError:
            return None
        # A plain file on the tmpfs is a name whose namespace is gone.
        return None if found.st_dev == self.folder.stat().st_dev else found.st_ino

    def _owned(self, name: str) -> bool:
        try:
            marker = int((self._markers / name).read_text())
        except (FileNotFoundError, ValueError):
            return False
        return marker == self._inode(name)

    def _is_remnant(self, name: str) -> bool:
        """A name of ours without a namespace."""
        return (
            (self._markers / name).exists()
            and self._inode(name) is None
            and self.path(name).exists()
        )


def _share(folder: Path) -> None:
    """Make the folder a shared mount, so that other mount namespaces follow."""
    folder.mkdir(parents=True, exist_ok=True)
    where = bytes(folder)
    if _libc.mount(b"", where, b"none", _MS_SHARED | _MS_REC, None) == 0:
        return
    if ctypes.get_errno() != errno.EINVAL:
        _check(-1, f"share {folder}")
    _check(_libc.mount(where, where, b"none", _MS_BIND | _MS_REC, None), f"bind {folder}")
    _check(_libc.mount(b"", where, b"none", _MS_SHARED | _MS_REC, None), f"share {folder}")


def configure(path: Path, device: str, index: int, inside: Inside | None) -> None:
    """Bring lo and the device up; with `inside`, set its addresses and routes.

    Idempotent. Without `inside` the workload asks DHCP itself. Raises
    NetlinkError; addresses nobody asked for are left alone.
    """
    with entered(path), Netlink() as kernel:
        messages = [_up(_LO), _up(index)]
        if inside is not None:
            messages += [_address(index, address) for address in inside.addresses]
            messages += [_route(index, route) for route in inside.routes]
            _ignore_advertisements(device, inside)
        for result in kernel.attempt(messages):
            if isinstance(result, NetlinkError) and result.errno != errno.EEXIST:
                raise result


def _ignore_advertisements(device: str, inside: Inside) -> None:
    """A static configuration is complete: no second default route from an RA."""
    if any(address.version == 6 for address in inside.addresses):
        Path(f"/proc/sys/net/ipv6/conf/{device}/accept_ra").write_text("0")


def _up(index: int) -> Message:
    return Message(netlink.SETLINK, netlink.IFINFO.pack(0, 0, index, _IFF_UP, _IFF_UP))


def _family(version: int) -> int:
    return 2 if version == 4 else 10


def _address(index: int, address: IPv4Interface | IPv6Interface) -> Message:
    # Nobody else can hold the address: the datapath answers for it.
    flags = _IFA_F_NODAD if address.version == 6 else 0
    head = netlink.IFADDR.pack(_family(address.version), address.network.prefixlen, flags, 0, index)
    local = netlink.attribute(_IFA_LOCAL, address.ip.packed)
    body = head + local + netlink.attribute(_IFA_ADDRESS, address.ip.packed)
    return Message(netlink.NEWADDR, body, netlink.CREATE | netlink.REPLACE)


def _route(index: int, route: Route) -> Message:
    family, length = _family(route.to.version), route.to.prefixlen
    table, protocol = _RT_TABLE_MAIN, _RTPROT_STATIC
    parts = [_RTMSG.pack(family, length, 0, 0, table, protocol, 0, _RTN_UNICAST, 0)]
    if length:
        parts.append(netlink.attribute(_RTA_DST, route.to.network_address.packed))
    parts.append(netlink.attribute(_RTA_GATEWAY, route.via.packed))
    parts.append(netlink.u32(_RTA_OIF, index))
    return Message(netlink.NEWROUTE, b"".join(parts), netlink.CREATE | netlink.REPLACE)


def addresses(kernel: Netlink, index: int = 0) -> Sequence[tuple[int, IPv4Address | IPv6Address]]:
    """(ifindex, address) of a namespace, or of one of its devices."""
    found: list[tuple[int, IPv4Address | IPv6Address]] = []
    for reply in kernel.dump(netlink.GETADDR, netlink.IFADDR.pack(0, 0, 0, 0, index)):
        where = netlink.IFADDR.unpack_from(reply.body)[4]
        values = dict(netlink.attributes(reply.body, netlink.IFADDR.size))
        packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if packed:
            found.append((where, IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)))
    return found
