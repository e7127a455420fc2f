"""Next hops on the underlay: whom an outer Ethernet header must name."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from daemon.drivers import netlink
from daemon.drivers.netlink import Message, Netlink, NetlinkError
from daemon.model.base import Address

# include/uapi/linux/neighbour.h
_NDMSG = struct.Struct("=BxxxiHBB")  # family, ifindex, state, flags, type
_NTF_USE = 0x01
_NUD_NONE = 0x00
_NUD_USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent
_NDA_DST, _NDA_LLADDR, _NDA_IFINDEX = 1, 2, 8

_RTMSG = struct.Struct("=BBBBBBBBI")
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_VIA = 1, 4, 5, 18
_NEWNEIGH, _GETNEIGH = 28, 30
_IFLA_ADDRESS = 1
_FAMILY = {4: 2, 6: 10}

Way = tuple[int, Address]  # ifindex, neighbour


class NextHop(NamedTuple):
    ifindex: int
    source_mac: bytes
    mac: bytes


class NextHops:
    """Asks the kernel's routes and neighbours of the namespace of `kernel`'s socket.

    Blocking. The datapath bypasses the kernel's neighbour cache, so every
    `resolve` also tells the kernel that the entries are in use: it confirms
    them, or finds where an address has moved to.
    """

    def __init__(self, kernel: Netlink) -> None:
        self._kernel = kernel

    def resolve(self, addresses: Iterable[Address]) -> dict[Address, NextHop]:
        """By address, those that have a route and a known neighbour now."""
        ways = self._ways(sorted(set(addresses), key=lambda a: (a.version, int(a))))
        self._use(set(ways.values()))
        devices = {ifindex for ifindex, _ in ways.values()}
        macs = self._neighbours(devices)
        sources = self._link_macs(devices)
        return {
            address: NextHop(way[0], sources[way[0]], macs[way])
            for address, way in ways.items()
            if way in macs and way[0] in sources
        }

    def _ways(self, addresses: list[Address]) -> dict[Address, Way]:
        """The device and neighbour the kernel would send to."""
        found: dict[Address, Way] = {}
        results = self._kernel.attempt([_get_route(address) for address in addresses])
        for address, result in zip(addresses, results, strict=True):
            if isinstance(result, NetlinkError) or not result:
                continue  # no route
            values = dict(netlink.attributes(result[0].body, _RTMSG.size))
            ifindex = int.from_bytes(values.get(_RTA_OIF, b""), "little")
            if ifindex:
                found[address] = (ifindex, _gateway(values) or address)
        return found

    def _use(self, ways: set[Way]) -> None:
        # A refusal: loopback and point-to-point devices have no neighbours.
        self._kernel.attempt([_use_neighbour(way) for way in ways])

    def _neighbours(self, devices: set[int]) -> Mapping[Way, bytes]:
        found: dict[Way, bytes] = {}
        for device in devices:
            body = _NDMSG.pack(0, 0, 0, 0, 0) + netlink.u32(_NDA_IFINDEX, device)
            for reply in self._kernel.dump(_GETNEIGH, body):
                _, ifindex, state, _, _ = _NDMSG.unpack_from(reply.body)
                values = dict(netlink.attributes(reply.body, _NDMSG.size))
                mac, address = values.get(_NDA_LLADDR, b""), values.get(_NDA_DST, b"")
                if len(mac) == 6 and len(address) in (4, 16) and state & _NUD_USABLE:
                    found[ifindex, ip_address(address)] = mac
        return found

    def _link_macs(self, devices: set[int]) -> Mapping[int, bytes]:
        found: dict[int, bytes] = {}
        asked = sorted(devices)
        results = self._kernel.attempt([_get_link(device) for device in asked])
        for device, result in zip(asked, results, strict=True):
            if isinstance(result, NetlinkError) or not result:
                continue  # gone meanwhile
            values = dict(netlink.attributes(result[0].body, netlink.IFINFO.size))
            if len(values.get(_IFLA_ADDRESS, b"")) == 6:
                found[device] = values[_IFLA_ADDRESS]
        return found


def _get_route(address: Address) -> Message:
    head = _RTMSG.pack(_FAMILY[address.version], address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    return Message(netlink.GETROUTE, head + netlink.attribute(_RTA_DST, address.packed))


def _gateway(values: Mapping[int, bytes]) -> Address | None:
    if _RTA_GATEWAY in values:
        return ip_address(values[_RTA_GATEWAY])
    if _RTA_VIA in values:  # a gateway of the other family, after its family number
        return ip_address(values[_RTA_VIA][2:])
    return None


def _use_neighbour(way: Way) -> Message:
    ifindex, neighbour = way
    family = _FAMILY[neighbour.version]
    body = _NDMSG.pack(family, ifindex, _NUD_NONE, _NTF_USE, 0)
    body += netlink.attribute(_NDA_DST, neighbour.packed)
    return Message(_NEWNEIGH, body, netlink.CREATE | netlink.REPLACE)


def _get_link(ifindex: int) -> Message:
    return Message(netlink.GETLINK, netlink.IFINFO.pack(0, 0, ifindex, 0, 0))
