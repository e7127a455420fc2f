"""Addresses as the maps hold them: 16 bytes, IPv4 as ::ffff:a.b.c.d.

One family in the maps has a price: `::/0` also covers the IPv4 addresses.
`hides_ipv4` and `without_ipv4` are how the compiler keeps the families apart.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

from daemon.model.base import Address, Network

ZERO = bytes(16)
MAPPED = bytes(10) + b"\xff\xff"
#: Prefix of all IPv4 addresses: ::ffff:0:0/96.
IPV4_BITS = 96


class Prefix(NamedTuple):
    addr: bytes  # 16, network order, host bits zero
    bits: int  # 0..128

    @property
    def value(self) -> int:
        """The prefix's bits alone, as a number."""
        return int.from_bytes(self.addr, "big") >> (128 - self.bits)


IPV4 = Prefix(MAPPED + bytes(4), IPV4_BITS)


def wide(address: Address) -> bytes:
    packed = address.packed
    return MAPPED + packed if len(packed) == 4 else packed


def narrow(addr: bytes) -> Address:
    """The inverse of `wide`."""
    return ip_address(addr[12:]) if addr.startswith(MAPPED) else ip_address(addr)


def wide_prefix(network: Network) -> Prefix:
    bits = network.prefixlen
    return Prefix(wide(network.network_address), bits + IPV4_BITS if network.version == 4 else bits)


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def covers(outer: Prefix, inner: Prefix) -> bool:
    return outer.bits <= inner.bits and outer.value == inner.value >> (inner.bits - outer.bits)


def hides_ipv4(prefix: Prefix) -> bool:
    """An IPv6 prefix so short that IPv4 addresses fall into it in the maps."""
    return prefix.bits < IPV4_BITS and covers(prefix, IPV4)


def without_ipv4(prefix: Prefix) -> list[Prefix]:
    """The prefix less ::ffff:0:0/96, as at most 96 prefixes."""
    if not hides_ipv4(prefix):
        return [prefix]
    mapped = int.from_bytes(IPV4.addr, "big")
    parts = []
    for bits in range(prefix.bits + 1, IPV4_BITS + 1):
        shift = 128 - bits
        sibling = ((mapped >> shift) ^ 1) << shift  # differs from ::ffff:0:0 in bit `bits`
        parts.append(Prefix(sibling.to_bytes(16, "big"), bits))
    return parts
