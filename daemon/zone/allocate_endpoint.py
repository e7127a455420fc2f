"""Allocation of endpoints: id, slot on the node, MAC, addresses."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from daemon.model.base import Address, Network
from daemon.model.domain import DomainSpec
from daemon.model.endpoint import EndpointSpec
from daemon.model.mac import endpoint_mac
from daemon.model.object import Endpoint, Kind, Ref
from daemon.zone.addresses import Pool, subnet_of
from daemon.zone.check_domain import fixed_addresses
from daemon.zone.check_endpoint import kept_addresses
from daemon.zone.counters import Numbers
from daemon.zone.edit import Edit
from daemon.zone.errors import Problems

MAX_SLOTS = 16384  # endpoints of one node: PLUM_MAX_SLOTS of bpf/lib/abi.h


class EndpointAllocator:
    """Serves the endpoints an edit writes, and those of the domains it writes."""

    def __init__(self, edit: Edit, numbers: Numbers, problems: Problems) -> None:
        self.edit = edit
        self.numbers = numbers
        self.problems = problems
        self.slots: dict[str, _Slots] = {}

    def allocate(self) -> dict[str, Endpoint]:
        """The endpoints concerned, by path."""
        by_domain: dict[str, list[str]] = {path: [] for path in self.edit.touched_domains}
        for path in self.edit.written_paths(Kind.ENDPOINT):
            by_domain[path.rpartition("/")[0]].append(path)
        for domain in self.edit.written_paths(Kind.DOMAIN):
            # A new or lost subnet changes endpoints that nobody wrote.
            known = set(by_domain[domain])
            members = self.edit.endpoints_by_domain.get(domain, [])
            by_domain[domain] += [path for path in members if path not in known]
        made: dict[str, Endpoint] = {}
        for domain, paths in by_domain.items():
            addresses = self._addresses(self.edit.domains[domain], domain, paths)
            given = {
                (spec.bridge, spec.mac)
                for path in self.edit.endpoints_by_domain.get(domain, [])
                if (spec := self.edit.endpoints[path]).mac
            }
            for path in paths:
                made[path] = self._endpoint(path, addresses[path], given)
        return made

    def _endpoint(
        self, path: str, addresses: tuple[Address, ...], given: set[tuple[str, str]]
    ) -> Endpoint:
        tenant, _, name = path.split("/")
        spec = self.edit.endpoints[path]
        before, wish = self.edit.current.endpoints.get(path), self._wish(path)
        # Ids are never given twice, so the one of an earlier life is always free.
        known = wish or before
        number = known.id if known else self.numbers.next_endpoint()
        while known is None and (spec.bridge, endpoint_mac(number)) in given:
            number = self.numbers.next_endpoint()
        return Endpoint(
            tenant=tenant,
            name=name,
            spec=spec,
            id=number,
            slot=self._slot(path, spec, before, wish),
            mac=spec.mac or endpoint_mac(number),
            addresses=addresses,
        )

    def _wish(self, path: str) -> Endpoint | None:
        if not self.edit.prefer:
            return None
        wish = self.edit.prefer.get(Ref.parse(Kind.ENDPOINT, path))
        return wish if isinstance(wish, Endpoint) else None

    def _slot(
        self, path: str, spec: EndpointSpec, before: Endpoint | None, wish: Endpoint | None
    ) -> int:
        slots = self.slots.get(spec.node)
        if slots is None:
            slots = self.slots[spec.node] = _Slots(
                item.slot
                for other in self.edit.endpoints_by_node[spec.node]
                if (item := self.edit.current.endpoints.get(other))
                and item.spec.node == spec.node
                and not self._wish(other)
            )
        for known in (wish, before):
            if known is None or known.spec.node != spec.node:
                continue
            if slots.claim(known.slot) or wish is None:
                return known.slot
        slot = slots.take()
        if slot >= MAX_SLOTS:
            message = f"node {spec.node} is full: it hosts {MAX_SLOTS} endpoints"
            self.problems.add(f"endpoint {path}: spec.node", message, conflict=True)
        return slot

    def _addresses(
        self, spec: DomainSpec, domain: str, paths: list[str]
    ) -> dict[str, tuple[Address, ...]]:
        """Addresses of `paths`. What is given or kept is set aside before anything is chosen."""
        pools = self._pools(spec, domain)
        subnets = {bridge.name: bridge.subnets for bridge in spec.bridges}
        chosen: dict[str, dict[Network, Address]] = {}
        for path in self.edit.endpoints_by_domain.get(domain, []):
            endpoint = self.edit.endpoints[path]
            own = subnets[endpoint.bridge]
            if endpoint.addresses:
                for address in endpoint.addresses:
                    if subnet := subnet_of(address, own):
                        pools[subnet].use(address)
                continue
            chosen[path] = {}
        self._keep(chosen, subnets, pools)
        made: dict[str, tuple[Address, ...]] = {}
        for path in paths:
            endpoint = self.edit.endpoints[path]
            if endpoint.addresses:
                made[path] = endpoint.addresses
                continue
            found = [
                chosen[path].get(subnet) or self._take(path, endpoint.bridge, pools[subnet])
                for subnet in subnets[endpoint.bridge]
            ]
            made[path] = tuple(address for address in found if address is not None)
        return made

    def _keep(
        self,
        chosen: dict[str, dict[Network, Address]],
        subnets: dict[str, tuple[Network, ...]],
        pools: dict[Network, Pool],
    ) -> None:
        """First who simply stays, then who returns to what it had, then what is left."""
        current = self.edit.current.endpoints
        wishes = {path: wish for path in chosen if (wish := self._wish(path))}
        stays = [(path, current.get(path)) for path in chosen if path not in wishes]
        rest = [(path, current.get(path)) for path in wishes]
        for path, endpoint in (*stays, *wishes.items(), *rest):
            spec = self.edit.endpoints[path]
            for subnet, address in kept_addresses(endpoint, spec, subnets[spec.bridge]).items():
                if subnet not in chosen[path] and pools[subnet].is_free(address):
                    pools[subnet].use(address)
                    chosen[path][subnet] = address

    def _pools(self, spec: DomainSpec, domain: str) -> dict[Network, Pool]:
        fixed = fixed_addresses(spec)
        reserved = {
            pair.address
            for path in self.edit.endpoints_by_domain.get(domain, [])
            for pair in self.edit.endpoints[path].allowed_pairs
        }
        return {
            subnet: Pool(
                subnet,
                (int(ip) for ip in fixed if ip.version == subnet.version and ip in subnet),
                (net for net in reserved if net.version == subnet.version),
            )
            for bridge in spec.bridges
            for subnet in bridge.subnets
        }

    def _take(self, path: str, bridge: str, pool: Pool) -> Address | None:
        address = pool.take()
        if address is None:
            message = f"subnet {pool.subnet} of bridge {bridge} is full: {pool.words()}"
            self.problems.add(f"endpoint {path}: spec.addresses", message, conflict=True)
        return address


class _Slots:
    """The slots of one node, smallest free first."""

    def __init__(self, used: Iterable[int]) -> None:
        self.used = set(used)
        self.order = count()

    def claim(self, slot: int) -> bool:
        if slot in self.used:
            return False
        self.used.add(slot)
        return True

    def take(self) -> int:
        slot = next(slot for slot in self.order if slot not in self.used)
        self.used.add(slot)
        return slot
