"""Which addresses a host may have, and the next free one of a subnet."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network

from daemon.model.base import Address, Network

_FORBIDDEN: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(text), words)
    for text, words in (
        ("0.0.0.0/8", 'is in 0.0.0.0/8 ("this network")'),
        ("127.0.0.0/8", "is a loopback address"),
        ("224.0.0.0/4", "is a multicast address"),
        ("240.0.0.0/4", "is in the reserved block 240.0.0.0/4"),
        ("::/128", "is the unspecified address"),
        ("::1/128", "is the loopback address"),
        ("::ffff:0:0/96", "is an IPv4 address in IPv6 clothes; write it as IPv4"),
        ("fe80::/10", "is link-local; every endpoint makes its own"),
        ("ff00::/8", "is a multicast address"),
    )
)


_MAPPED = ip_network("::ffff:0:0/96")


def unusable(address: Address) -> str | None:
    """Why no host can have this unicast address; None if one can."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "has a zone index (%), which means nothing outside one host"
    for network, words in _FORBIDDEN:
        if address.version == network.version and address in network:
            return words
    return None


def unusable_network(network: Network) -> str | None:
    """Why hosts cannot be numbered from this network; None if they can."""
    for forbidden, words in _FORBIDDEN:
        if network.version == forbidden.version and network.overlaps(forbidden):
            return words if _inside(network, forbidden) else f"contains {forbidden}"
    return None


def not_a_host(address: Address, subnet: Network) -> str | None:
    """Why this address of the subnet is no host's: its network or broadcast address.

    The lowest IPv6 address is the subnet-router anycast address (RFC 4291 2.6.1).
    Prefixes that leave one bit or none have hosts only (RFC 3021, RFC 6164).
    """
    first, last = host_range(subnet)
    if int(address) < first:
        return f"is the network address of {subnet}"
    if int(address) > last:
        return f"is the broadcast address of {subnet}"
    return None


def host_range(subnet: Network) -> tuple[int, int]:
    """First and last host address as numbers."""
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    if subnet.max_prefixlen - subnet.prefixlen <= 1:
        return first, last
    return first + 1, last - (1 if subnet.version == 4 else 0)


def subnet_of(address: Address, subnets: Iterable[Network]) -> Network | None:
    """The subnet the address is in."""
    for subnet in subnets:
        if address.version == subnet.version and address in subnet:
            return subnet
    return None


def covers(outer: Network, inner: Network) -> bool:
    """Whether every address of `inner` is in `outer`."""
    return outer.version == inner.version and _inside(inner, outer)


def _inside(inner: Network, outer: Network) -> bool:
    return (
        outer.network_address <= inner.network_address  # type: ignore[operator]
        and inner.broadcast_address <= outer.broadcast_address  # type: ignore[operator]
    )


def mapped_words(network: Network) -> str | None:
    """IPv4-mapped networks never appear on a wire (RFC 6890)."""
    if covers(_MAPPED, network):
        return f"{network} is IPv4 in IPv6 clothes; write it as IPv4"
    return None


class Pool:
    """The free addresses of one subnet, smallest first."""

    def __init__(self, subnet: Network, fixed: Iterable[int], reserved: Iterable[Network]):
        self.subnet = subnet
        self.fixed = set(fixed)
        #: Not given out: what allowed pairs name inside the subnet. A pair as
        #: large as the subnet or larger reserves nothing.
        self.reserved = sorted(
            (int(net.network_address), int(net.broadcast_address))
            for net in set(reserved)
            if covers(subnet, net) and net != subnet
        )
        self.used: set[int] = set()
        self._next, self._last = host_range(subnet)

    def use(self, address: Address) -> None:
        self.used.add(int(address))

    def is_free(self, address: Address) -> bool:
        number = int(address)
        return number not in self.used and number not in self.fixed

    def take(self) -> Address | None:
        """The smallest free address, now used; None when there is none."""
        number = self._next
        while number <= self._last:
            jump = next((last for first, last in self.reserved if first <= number <= last), None)
            if jump is not None:
                number = jump + 1
            elif number in self.used or number in self.fixed:
                number += 1
            else:
                self.used.add(number)
                self._next = number + 1
                return IPv4Address(number) if self.subnet.version == 4 else IPv6Address(number)
        self._next = number
        return None

    def words(self) -> str:
        """Size and use, for the message that it is full."""
        first, last = host_range(self.subnet)
        others = len(self.fixed - self.used)
        kept = f", {others} by routers and load balancers" if others else ""
        pairs = f", {len(self.reserved)} reserved by allowed pairs" if self.reserved else ""
        count = last - first + 1
        return f"{count} host addresses, {len(self.used)} used by endpoints{kept}{pairs}"
