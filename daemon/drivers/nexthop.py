"""Next hops on the underlay: whom an outer Ethernet header must name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from types import TracebackType
from typing import Any, NamedTuple, Self

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from daemon.model.base import Address

# include/uapi/linux/neighbour.h
_NTF_USE = 0x01
_NUD_NONE = 0x00
_NUD_USABLE = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent


class NextHop(NamedTuple):
    ifindex: int
    source_mac: bytes
    mac: bytes


class NextHops:
    """Asks the kernel's routes and neighbours of the creating thread's namespace.

    Blocking. The datapath bypasses the kernel's neighbour cache, so every
    `resolve` also tells the kernel that the entries are in use: it confirms
    them, or finds where an address has moved to.
    """

    def __init__(self) -> None:
        self._netlink = IPRoute()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._netlink.close()

    def resolve(self, addresses: Iterable[Address]) -> dict[Address, NextHop]:
        """By address, those that have a route and a known neighbour now."""
        ways = {address: way for address in addresses if (way := self._way(address))}
        for ifindex, neighbour in set(ways.values()):
            self._use(ifindex, neighbour)
        macs = self._neighbours()
        sources = self._link_macs()
        return {
            address: NextHop(way[0], sources[way[0]], macs[way])
            for address, way in ways.items()
            if way in macs and way[0] in sources
        }

    def _way(self, address: Address) -> tuple[int, Address] | None:
        """(ifindex, neighbour) the kernel would send to."""
        try:
            found = self._netlink.route("get", dst=str(address))
        except NetlinkError:
            return None
        for route in found:
            ifindex = route.get_attr("RTA_OIF")
            if ifindex:
                return ifindex, ip_address(route.get_attr("RTA_GATEWAY") or str(address))
        return None

    def _use(self, ifindex: int, neighbour: Address) -> None:
        try:
            self._netlink.neigh(
                "replace", dst=str(neighbour), ifindex=ifindex, state=_NUD_NONE, flags=_NTF_USE
            )
        except NetlinkError:
            return  # loopback and point-to-point devices have no neighbours

    def _neighbours(self) -> Mapping[tuple[int, Address], bytes]:
        found: dict[tuple[int, Address], bytes] = {}
        for entry in self._netlink.get_neighbours():
            mac = entry.get_attr("NDA_LLADDR")
            if mac and entry["state"] & _NUD_USABLE:
                found[entry["ifindex"], ip_address(entry.get_attr("NDA_DST"))] = _octets(mac)
        return found

    def _link_macs(self) -> Mapping[int, bytes]:
        return {
            link["index"]: _octets(link.get_attr("IFLA_ADDRESS"))
            for link in self._netlink.get_links()
            if link.get_attr("IFLA_ADDRESS")
        }


def _octets(mac: Any) -> bytes:
    return bytes.fromhex(str(mac).replace(":", ""))
