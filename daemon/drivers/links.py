"""Devices of endpoints: veth pairs we make, veth and tap devices we adopt.

A device is ours by its alias, `plum:<node>:<endpoint path>`: visible in `ip link`,
and it survives plumd.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from daemon.drivers import netlink
from daemon.drivers.netlink import Message, Netlink, NetlinkError

#: Leaves room in the outer length field (16 bits) for the tunnel's headers.
GSO_MAX_BYTES = 65536 - 128

_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_ADDRESS, _IFNAME, _MTU, _LINK = 1, 3, 4, 5
_LINKINFO, _ALIAS, _GROUP, _NET_NS_FD, _EXT_MASK = 18, 20, 27, 28, 29
_GSO_MAX_SIZE, _GRO_MAX_SIZE = 41, 58
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_SKIP_STATS = netlink.u32(_EXT_MASK, 1 << 3)
_ENODEV = 19
#: Device group ("plum" in ASCII) that only devices about to be deleted are in.
_DOOMED = 0x706C756D
#: Device group of the pairs we made: what else has our alias was only adopted.
_MADE = 0x706C6D64


@dataclass(frozen=True, slots=True)
class Link:
    """A device as the kernel describes it."""

    index: int
    name: str
    kind: str  # veth, tun (tap devices too), vxlan, ...; empty for hardware
    mac: str
    mtu: int  # bytes
    up: bool
    running: bool  # has carrier
    alias: str
    peer_index: int  # of a veth: ifindex in the other end's namespace
    made: bool  # by us, not adopted

    @property
    def tap(self) -> bool:
        return self.kind == "tun"


@dataclass(frozen=True, slots=True)
class Veth:
    """A pair to make: the host's end, and the workload's in its namespace."""

    name: str
    alias: str
    namespace: Path
    peer_name: str
    peer_mac: str
    mtu: int


def device_name(endpoint_id: int) -> str:
    """`pl` and the endpoint's id in base 32: at most 15 characters for 64 bits."""
    digits = ""
    while endpoint_id or not digits:
        endpoint_id, digit = divmod(endpoint_id, 32)
        digits = _DIGITS[digit] + digits
    return f"pl{digits}"


def alias(node: str, endpoint_path: str) -> str:
    return f"plum:{node}:{endpoint_path}"


class Links:
    """Devices of the namespace of `kernel`'s socket. Raises NetlinkError."""

    def __init__(self, kernel: Netlink) -> None:
        self._kernel = kernel

    def create(self, pair: Veth) -> Link:
        """Make the pair, both ends down; the peer is born inside its namespace."""
        namespace = os.open(pair.namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            replies = self._kernel.request(
                _new_veth(pair, namespace), _mark(pair.name, pair.alias), _get(pair.name)
            )
        finally:
            os.close(namespace)
        return _link(replies[-1].body)

    def list_owned(self, node: str, indexes: Collection[int] | None = None) -> dict[str, Link]:
        """Our devices by endpoint path: all, or those of `indexes`."""
        prefix = alias(node, "")
        return {
            link.alias.removeprefix(prefix): link
            for link in (self.list() if indexes is None else self._existing(indexes))
            if link.alias.startswith(prefix)
        }

    def _existing(self, indexes: Collection[int]) -> list[Link]:
        """Those of these devices that are there."""
        results = self._kernel.attempt([_get_index(index) for index in indexes])
        for result in results:
            if isinstance(result, NetlinkError) and result.errno != _ENODEV:
                raise result
        return [_link(result[0].body) for result in results if not isinstance(result, NetlinkError)]

    def list(self) -> list[Link]:
        body = netlink.IFINFO.pack(0, 0, 0, 0, 0) + _SKIP_STATS
        return [_link(reply.body) for reply in self._kernel.dump(netlink.GETLINK, body)]

    def find(self, name: str) -> Link | None:
        result = self._kernel.attempt([_get(name)])[0]
        if isinstance(result, NetlinkError):
            if result.errno == _ENODEV:
                return None
            raise result
        return _link(result[0].body)

    def mark(self, name: str, alias: str) -> None:
        """Adopt an existing device; with an empty alias, let go of it."""
        self._kernel.request(_mark(name, alias))

    def up(self, *indexes: int) -> None:
        self._kernel.request(*(_flags(index, _IFF_UP) for index in indexes))

    def down(self, *indexes: int) -> None:
        self._kernel.request(*(_flags(index, 0) for index in indexes))

    def hush(self, name: str, quiet: bool = True) -> None:
        """Keep the host's own IPv6 off a device, or (not `quiet`) back to the host's default.

        With it the host would answer its tenant on a link-local address, and tell the
        tenant of itself by multicast reports. In the calling thread's namespace.
        """
        folder = Path("/proc/sys/net/ipv6/conf")
        value = "1" if quiet else (folder / "default" / "disable_ipv6").read_text()
        with contextlib.suppress(FileNotFoundError):  # below 1,280 bytes there is no IPv6
            (folder / name / "disable_ipv6").write_text(value)

    def set_mtu(self, index: int, mtu: int) -> None:
        body = netlink.IFINFO.pack(0, 0, index, 0, 0) + netlink.u32(_MTU, mtu)
        self._kernel.request(Message(netlink.SETLINK, body))

    def delete(self, *indexes: int) -> None:
        """Delete devices; missing ones are no error.

        All in one step (unregister_netdevice_many): each step waits for RCU grace
        periods, tens of milliseconds on a busy machine, and stops other changes.
        """
        group = netlink.u32(_GROUP, _DOOMED)
        messages = [
            Message(netlink.SETLINK, netlink.IFINFO.pack(0, 0, index, 0, 0) + group)
            for index in indexes
        ]
        messages.append(Message(netlink.DELLINK, netlink.IFINFO.pack(0, 0, 0, 0, 0) + group))
        for result in self._kernel.attempt(messages):
            if isinstance(result, NetlinkError) and result.errno != _ENODEV:
                raise result


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _new_veth(pair: Veth, namespace: int) -> Message:
    # gso_max_size below 64 KiB sets the IPv4 limit with it (net/core/dev.h).
    both = (
        netlink.u32(_MTU, pair.mtu)
        + netlink.u32(_GSO_MAX_SIZE, GSO_MAX_BYTES)
        + netlink.u32(_GRO_MAX_SIZE, GSO_MAX_BYTES)
    )
    peer = (
        netlink.IFINFO.pack(0, 0, 0, 0, 0)
        + netlink.text(_IFNAME, pair.peer_name)
        + netlink.attribute(_ADDRESS, _mac(pair.peer_mac))
        + netlink.u32(_NET_NS_FD, namespace)
        + both
    )
    info = netlink.nested(_INFO_DATA, netlink.attribute(_VETH_PEER, peer))
    body = (
        netlink.IFINFO.pack(0, 0, 0, 0, 0)
        + netlink.text(_IFNAME, pair.name)
        + netlink.attribute(_ADDRESS, host_mac(pair.peer_mac))
        + netlink.u32(_GROUP, _MADE)
        + both
        + netlink.nested(_LINKINFO, netlink.text(_INFO_KIND, "veth"), info)
    )
    return Message(netlink.NEWLINK, body, netlink.CREATE | netlink.EXCL)


def host_mac(peer_mac: str) -> bytes:
    """The host end's own address, on no wire: local, and never the peer's."""
    mac = bytearray(_mac(peer_mac))
    mac[0] = 0xFE if mac[0] != 0xFE else 0xEE
    return bytes(mac)


def _mark(name: str, alias: str) -> Message:
    body = netlink.IFINFO.pack(0, 0, 0, 0, 0) + netlink.text(_IFNAME, name)
    return Message(netlink.SETLINK, body + netlink.attribute(_ALIAS, alias.encode()))


def _get(name: str) -> Message:
    body = netlink.IFINFO.pack(0, 0, 0, 0, 0) + netlink.text(_IFNAME, name) + _SKIP_STATS
    return Message(netlink.GETLINK, body)


def _get_index(index: int) -> Message:
    return Message(netlink.GETLINK, netlink.IFINFO.pack(0, 0, index, 0, 0) + _SKIP_STATS)


def _flags(index: int, flags: int) -> Message:
    return Message(netlink.SETLINK, netlink.IFINFO.pack(0, 0, index, flags, _IFF_UP))


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = netlink.IFINFO.unpack_from(body)
    values = dict(netlink.attributes(body, netlink.IFINFO.size))
    info = dict(netlink.attributes(values.get(_LINKINFO, b"")))
    return Link(
        index=index,
        name=netlink.string(values[_IFNAME]),
        kind=netlink.string(info.get(_INFO_KIND, b"")),
        mac=values.get(_ADDRESS, b"").hex(":"),
        mtu=int.from_bytes(values.get(_MTU, b""), "little"),
        up=bool(flags & _IFF_UP),
        running=bool(flags & _IFF_RUNNING),
        alias=netlink.string(values.get(_ALIAS, b"")),
        peer_index=int.from_bytes(values.get(_LINK, b""), "little"),
        made=int.from_bytes(values.get(_GROUP, b""), "little") == _MADE,
    )
