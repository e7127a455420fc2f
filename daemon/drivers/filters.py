"""Our programs on the ingress of devices: clsact, and one direct-action filter.

Handle and priority are fixed, so a filter is found, compared and replaced
without a dump. Replacing is atomic: cls_bpf swaps the program under RCU, and no
packet sees a device without one.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daemon.drivers import netlink
from daemon.drivers.netlink import Message, Netlink, NetlinkError

_TCMSG = struct.Struct("=B3xiIII")  # family, ifindex, handle, parent, info
_CLSACT, _CLSACT_HANDLE, _INGRESS = 0xFFFFFFF1, 0xFFFF0000, 0xFFFFFFF2
_ALL_PROTOCOLS = 0x0300  # ETH_P_ALL in network order
_PRIORITY, _HANDLE = 1, 1
_KIND, _OPTIONS = 1, 2
_FD, _NAME, _FLAGS, _TAG, _ID = 6, 7, 8, 10, 11
_DIRECT_ACTION = 1
_NOT_THERE = {errno.ENOENT, errno.ENODEV, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Filter:
    """What is attached: compare `program_id` with the loaded program's id."""

    name: str
    program_id: int
    tag: str


class Filters:
    """Filters of devices in the namespace of `kernel`'s socket. Raises NetlinkError."""

    def __init__(self, kernel: Netlink) -> None:
        self._kernel = kernel

    def attach(self, fds: Mapping[int, int], name: str) -> None:
        """Attach or replace: program descriptor by ifindex."""
        messages: list[Message] = []
        for index, fd in fds.items():
            messages += [_clsact(index), _filter(index, fd, name)]
        self._kernel.request(*messages)

    def detach(self, *indexes: int) -> None:
        """Take our filter off; a missing filter or device is no error."""
        messages = [Message(netlink.DELTFILTER, _selector(index)) for index in indexes]
        for result in self._kernel.attempt(messages):
            if isinstance(result, NetlinkError) and result.errno not in _NOT_THERE:
                raise result

    def attached(self, indexes: Sequence[int]) -> dict[int, Filter]:
        """Our filter on each of the devices that has one."""
        found: dict[int, Filter] = {}
        messages = [Message(netlink.GETTFILTER, _selector(index)) for index in indexes]
        for index, result in zip(indexes, self._kernel.attempt(messages), strict=True):
            if isinstance(result, NetlinkError):
                if result.errno not in _NOT_THERE:
                    raise result
            elif result:
                found[index] = _parse(result[0].body)
        return found


def _clsact(index: int) -> Message:
    # Without options this is no change to a clsact that is already there.
    body = _TCMSG.pack(0, index, _CLSACT_HANDLE, _CLSACT, 0) + netlink.text(_KIND, "clsact")
    return Message(netlink.NEWQDISC, body, netlink.CREATE)


def _selector(index: int) -> bytes:
    info = _PRIORITY << 16 | _ALL_PROTOCOLS
    return _TCMSG.pack(0, index, _HANDLE, _INGRESS, info) + netlink.text(_KIND, "bpf")


def _filter(index: int, fd: int, name: str) -> Message:
    options = netlink.nested(
        _OPTIONS,
        netlink.u32(_FD, fd),
        netlink.text(_NAME, name),
        netlink.u32(_FLAGS, _DIRECT_ACTION),
    )
    flags = netlink.CREATE | netlink.REPLACE
    return Message(netlink.NEWTFILTER, _selector(index) + options, flags)


def _parse(body: bytes) -> Filter:
    values = dict(netlink.attributes(body, _TCMSG.size))
    options = dict(netlink.attributes(values.get(_OPTIONS, b"")))
    return Filter(
        name=netlink.string(options.get(_NAME, b"")),
        program_id=int.from_bytes(options.get(_ID, b""), "little"),
        tag=options.get(_TAG, b"").hex(),
    )
