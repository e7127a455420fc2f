"""Leases of public ports: which node translates to which ports, router by router.

A node that hosts endpoints of a domain gets its blocks when the first one comes and
gives them back when the last one has gone. Given-back blocks come round after all
others, so that late packets of old connections reach nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from daemon.model.base import Address
from daemon.model.derive import uplinks_of
from daemon.model.external import ExternalSpec, NatBlock
from daemon.model.object import Domain
from daemon.zone.counters import Numbers
from daemon.zone.edit import Edit
from daemon.zone.errors import Problems

FIRST_PORT = 1024  # below: services' own (RFC 6335)
_LAST = 65536

Blocks = dict[str, dict[str, tuple[NatBlock, ...]]]


class NatAllocator:
    """Serves the domains whose routers lead to external networks."""

    def __init__(
        self, edit: Edit, domains: Mapping[str, Domain], numbers: Numbers, problems: Problems
    ) -> None:
        self._edit = edit
        self._domains = domains  # as they will be, with the blocks they had
        self._numbers = numbers
        self._problems = problems
        self._used: dict[str, set[tuple[Address, int]]] | None = None

    def allocate(self) -> dict[str, Domain]:
        """Domains whose blocks are other ones than they were, by path."""
        changed = {}
        for path, domain in self._domains.items():
            if not domain.nat_blocks and not any(True for _ in uplinks_of(domain.spec)):
                continue
            blocks = self._blocks(path, domain)
            if blocks != domain.nat_blocks:
                changed[path] = domain.model_copy(update={"nat_blocks": blocks})
        return changed

    def _blocks(self, path: str, domain: Domain) -> Blocks:
        members = self._edit.endpoints_by_domain.get(path, [])
        nodes = sorted({self._edit.endpoints[member].node for member in members})
        found: Blocks = {}
        for index, router, uplink in uplinks_of(domain.spec):
            external = self._edit.externals.get(uplink.network)
            if external is None or not uplink.source_nat:
                continue
            had = domain.nat_blocks.get(router.name, {})
            found[router.name] = {}
            for node in nodes:
                blocks = self._of_node(uplink.network, external, had.get(node, ()))
                found[router.name][node] = blocks
                missing = _wanted(external) - len(blocks)
                if missing:
                    at = f"domain {path}: spec.routers[{index}].uplink.source_nat"
                    message = (
                        f"external network {uplink.network} has no block of "
                        f"{external.block_ports} ports left for node {node}"
                    )
                    self._problems.add(at, message, conflict=True)
        return found

    def _of_node(
        self, network: str, external: ExternalSpec, had: tuple[NatBlock, ...]
    ) -> tuple[NatBlock, ...]:
        kept = [block for block in had if _is_of(block, external)]
        used = self._in_use(network)
        blocks = list(kept)
        for version in _versions(external):
            own = sum(block.address.version == version for block in kept)
            places = self._free(external, version, used)
            for address, first in places:
                if own >= external.blocks_per_node:
                    break
                used.add((address, first))
                blocks.append(NatBlock(address=address, first=first))
                own += 1
        return tuple(blocks)

    def _in_use(self, network: str) -> set[tuple[Address, int]]:
        if self._used is None:
            self._used = {}
            for domain in self._domains.values():
                networks = {r.name: uplink.network for _, r, uplink in uplinks_of(domain.spec)}
                for router, nodes in domain.nat_blocks.items():
                    if router in networks:
                        held = self._used.setdefault(networks[router], set())
                        held.update((b.address, b.first) for bs in nodes.values() for b in bs)
        return self._used.setdefault(network, set())

    def _free(
        self, external: ExternalSpec, version: int, used: set[tuple[Address, int]]
    ) -> Iterator[tuple[Address, int]]:
        """From where the last one was given, round to there again."""
        addresses = [a for net in external.nat if net.version == version for a in hosts(net)]
        first = max(FIRST_PORT, external.block_ports)  # aligned: the datapath masks ports
        per_address = range(first, _LAST, external.block_ports)
        total = len(addresses) * len(per_address)
        last = self._numbers.nat_block
        for step in range(1, total + 1):
            number = (last + step) % total
            place = (addresses[number // len(per_address)], per_address[number % len(per_address)])
            if place not in used:
                self._numbers.nat_block = number
                yield place


def hosts(net: object) -> list[Address]:
    """Every address of a pool: a pool is a list of addresses, not a subnet. At most 4,096."""
    found: list[Address] = []
    for address in net:  # type: ignore[attr-defined]
        found.append(address)
        if len(found) == 4096:
            break
    return found


def _versions(external: ExternalSpec) -> list[int]:
    return sorted({net.version for net in external.nat})


def _wanted(external: ExternalSpec) -> int:
    return external.blocks_per_node * len(_versions(external))


def _is_of(block: NatBlock, external: ExternalSpec) -> bool:
    aligned = block.first % external.block_ports == 0 and block.first >= FIRST_PORT
    return aligned and any(
        net.version == block.address.version and block.address in net for net in external.nat
    )
