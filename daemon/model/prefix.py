"""IPv6-to-IPv6 network prefix translation (NPTv6, RFC 6296): one address for one, without state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address, IPv6Network

from daemon.model.base import Address
from daemon.model.domain import Uplink

#: Longer prefixes leave no room for the adjustment.
MAX_PREFIX_BITS = 64
_WORDS = 8


def translated(
    address: IPv6Address, inside: IPv6Network, outside: IPv6Network
) -> IPv6Address | None:
    """The address of `outside`, a prefix as long as `inside`, that stands for `address`.

    A 16-bit word of it is adjusted so that checksums of what is translated stay as they
    are. None for the few addresses that cannot be (RFC 6296, 3.5 and 3.6).
    """
    swapped = int(outside.network_address) | int(address) & int(inside.hostmask)
    words = [swapped >> 16 * (_WORDS - 1 - index) & 0xFFFF for index in range(_WORDS)]
    first = 3 if inside.prefixlen <= 48 else 4
    free = [i for i in range(first, _WORDS) if words[i] != 0xFFFF]
    if not free or (first == 3 and free[0] != 3):
        return None
    surplus = (_sum(inside) - _sum(outside)) % 0xFFFF
    words[free[0]] = (words[free[0]] + surplus) % 0xFFFF
    return IPv6Address(b"".join(word.to_bytes(2, "big") for word in words))


def _sum(prefix: IPv6Network) -> int:
    packed = prefix.network_address.packed
    return sum(int.from_bytes(packed[i : i + 2], "big") for i in range(0, len(packed), 2))


def one_to_one(
    uplink: Uplink, endpoints: Mapping[str, Iterable[Address]]
) -> Iterator[tuple[Address, str, Address]]:
    """Public address, endpoint and own address, of each that is translated to the other.

    `endpoints`: the addresses of some, by name. A floating address stands for the first one
    of its family; of the rest those have one that lie in a translated prefix.
    """
    taken: set[Address] = set()
    for floating in uplink.floating:
        public, name = floating.address, floating.endpoint or ""
        for address in first_of(public.version, endpoints.get(name, ())):
            taken.add(address)
            yield public, name, address
    for name, addresses in endpoints.items() if uplink.prefixes else ():
        for address in addresses:
            public_address = _by_prefix(uplink, address)
            if public_address is not None and address not in taken:
                yield public_address, name, address


def first_of(version: int, addresses: Iterable[Address]) -> tuple[Address, ...]:
    """The one that a public address of this family leads to, if there is any."""
    return tuple(one for one in addresses if one.version == version)[:1]


def _by_prefix(uplink: Uplink, address: Address) -> Address | None:
    for prefix in uplink.prefixes:
        if isinstance(address, IPv6Address) and address in prefix.inside:
            return translated(address, prefix.inside, prefix.outside)
    return None
