"""Peer classes: which groups and CIDRs of a domain's rules an address is in.

Atoms are the groups and CIDRs that any rule of the domain names. The class of
an address is the set of atoms it is in, and its id is the hash of that set; 0
is the empty set. Two ways lead to a class:

- plum_host, exact: an endpoint's address (its own, or an exact allowed pair
  only it claims) has the groups of that endpoint and all CIDRs around it. (Rows
  of routers have the CIDRs only, and are not asked for a class.)
- plum_peer, longest prefix: every other address has the class of the longest
  CIDR or allowed pair around it: all CIDRs that contain that prefix, and the
  groups of every endpoint with an allowed pair that contains it. Of an address
  outside the zone the CIDRs alone (rows of domain | PEER_OUTSIDE): nobody is in a
  group for an address he claims out there.

`::/0` does not contain IPv4 addresses though the maps hold them inside it:
where such a prefix has a row, ::ffff:0:0/96 has one too, with its own class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from daemon.abi import PEER_OUTSIDE, Peer, PeerKey
from daemon.compiler.identity import text_id
from daemon.compiler.result import Table
from daemon.compiler.seat import Seat
from daemon.compiler.tiers import Standing, peer_group
from daemon.compiler.wide import IPV4, Prefix, hides_ipv4, wide_prefix

Atoms = frozenset[str]
EMPTY: Atoms = frozenset()


def group_atom(group: str) -> str:
    return f"group {group}"


def cidr_atom(prefix: Prefix) -> str:
    return f"cidr {prefix.addr.hex()}/{prefix.bits}"


def policy_prefixes(policies: Sequence[Standing]) -> tuple[set[str], set[Prefix]]:
    """Groups and CIDRs that rules name."""
    groups: set[str] = set()
    prefixes: set[Prefix] = set()
    for policy in policies:
        for rule in policy.ingress + policy.egress:
            for peer in rule.peers or ():
                if (group := peer_group(peer)) is not None:
                    groups.add(group_atom(group))
                if peer.cidr is not None:
                    prefixes.add(wide_prefix(peer.cidr))
    return groups, prefixes


class Peers:
    """Classes of one domain. `classes` grows as addresses are classified."""

    def __init__(self, policies: Sequence[Standing], seats: Iterable[Seat]) -> None:
        self.classes: dict[int, Atoms] = {}
        self._ids: dict[Atoms, int] = {EMPTY: 0}
        self._groups, cidrs = policy_prefixes(policies)
        pairs: dict[Prefix, set[str]] = {}
        for seat in seats:
            for pair in seat.pairs:
                pairs.setdefault(pair.prefix, set()).update(map(group_atom, seat.groups))
        self._resolve(cidrs, pairs)
        self._known: dict[tuple[Prefix | None, frozenset[str]], int] = {}

    def _resolve(self, cidrs: set[Prefix], pairs: dict[Prefix, set[str]]) -> None:
        """Give every prefix the CIDRs and groups of the prefixes around it."""
        self._cidrs: dict[Prefix, Atoms] = {}  # by prefix: CIDR atoms that contain it
        self._around: dict[Prefix, Atoms] = {}  # the same with the groups of pairs
        chain: list[tuple[Prefix, int]] = []  # prefixes around the next one, with their ends
        for prefix in sorted({*cidrs, *pairs, IPV4}):
            start = int.from_bytes(prefix.addr, "big")
            while chain and chain[-1][1] < start:
                chain.pop()
            parent = chain[-1][0] if chain else None
            if parent is not None and hides_ipv4(parent) and self._is_ipv4(prefix):
                parent = None  # an IPv6 prefix holds no IPv4 address
            mine = frozenset([cidr_atom(prefix)]) if prefix in cidrs else EMPTY
            groups = frozenset(pairs.get(prefix, ())) & self._groups
            around = self._around[parent] if parent else EMPTY
            within = self._cidrs[parent] if parent else EMPTY
            self._cidrs[prefix] = within | mine
            self._around[prefix] = around | mine | groups
            chain.append((prefix, start | ((1 << (128 - prefix.bits)) - 1)))
        by_bits: dict[int, dict[int, Prefix]] = {}
        for prefix in self._cidrs:
            by_bits.setdefault(prefix.bits, {})[prefix.value] = prefix
        self._by_bits = [(128 - bits, by_bits[bits]) for bits in sorted(by_bits, reverse=True)]

    @staticmethod
    def _is_ipv4(prefix: Prefix) -> bool:
        return prefix.bits >= IPV4.bits and prefix.addr[:12] == IPV4.addr[:12]

    def _class(self, atoms: Atoms) -> int:
        number = self._ids.get(atoms)
        if number is None:
            number = self._ids[atoms] = text_id("class", sorted(atoms))
            self.classes[number] = atoms
        return number

    def of_host(self, addr: bytes, groups: frozenset[str]) -> int:
        """Class of one exact address whose owner is in `groups`."""
        value = int.from_bytes(addr, "big")
        longest = None
        for shift, prefixes in self._by_bits:
            longest = prefixes.get(value >> shift)
            if longest is not None:
                break
        known = self._known.get((longest, groups))
        if known is None:
            atoms = self._cidrs[longest] if longest is not None else EMPTY
            known = self._class(atoms | (frozenset(map(group_atom, groups)) & self._groups))
            self._known[(longest, groups)] = known
        return known

    def rows(self, domain_id: int, *, outside: bool = False) -> Table:
        """plum_peer; `outside`: also of addresses outside the zone."""
        rows = self._rows(domain_id, self._around)
        if outside:
            rows |= self._rows(domain_id | PEER_OUTSIDE, self._cidrs)
        return rows

    def _rows(self, domain: int, classes: Mapping[Prefix, Atoms]) -> Table:
        """A class of 0 is no row, unless it keeps IPv4 out of an IPv6 prefix."""
        guard = any(hides_ipv4(p) and atoms for p, atoms in classes.items())
        return {
            PeerKey(32 + prefix.bits, domain, prefix.addr): Peer(self._class(atoms))
            for prefix, atoms in classes.items()
            if atoms or (guard and prefix == IPV4)
        }
