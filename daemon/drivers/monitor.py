"""What happens to devices and filters, as hints for repair.

Events may be lost (then one says so) and our own changes are among them: they
say where to look sooner, never what is true.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from daemon.drivers import netlink

log = logging.getLogger(__name__)

_GROUP_LINK, _GROUP_TC = 1 << 0, 1 << 3
_IFNAME = 3
_INDEX = struct.Struct("=4xi")  # ifinfomsg and tcmsg alike


class Change(Enum):
    LINK = "link"  # made, or any property changed
    LINK_GONE = "link gone"
    FILTER = "filter"  # attached or replaced
    FILTER_GONE = "filter gone"  # or its qdisc
    OVERRUN = "overrun"  # events were lost: look at everything


_CHANGES = {
    netlink.NEWLINK: Change.LINK,
    netlink.DELLINK: Change.LINK_GONE,
    netlink.NEWTFILTER: Change.FILTER,
    netlink.DELTFILTER: Change.FILTER_GONE,
    netlink.DELQDISC: Change.FILTER_GONE,
}


@dataclass(frozen=True, slots=True)
class Event:
    change: Change
    index: int = 0
    name: str = ""  # of links only


class Monitor:
    """Calls `handler(event)` in the running loop for the calling thread's namespace."""

    def __init__(self, handler: Callable[[Event], None]) -> None:
        self._handler = handler
        self._socket = netlink.open_socket(_GROUP_LINK | _GROUP_TC)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            log.warning("netlink events were lost")
            self._handler(Event(Change.OVERRUN))
            return
        for message, _ in netlink.parse(data):
            change = _CHANGES.get(message.type)
            if change is None:
                continue
            (index,) = _INDEX.unpack_from(message.body)
            name = ""
            if change in (Change.LINK, Change.LINK_GONE):
                values = netlink.attributes(message.body, netlink.IFINFO.size)
                name = next((netlink.string(data) for type, data in values if type == _IFNAME), "")
            self._handler(Event(change, index, name))
