"""Allocation: ids, VNIs, slots, MACs and addresses for an edit that is valid.

Pure: the same edit and counters give the same result. What is unchanged keeps
what it has. That nothing is given out twice follows from the transaction: it
compares the key that every change of the zone writes (see `transact`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from daemon.model.object import AdminPolicy, Domain, External, Kind, Node, Object, Ref, Tenant
from daemon.model.snapshot import Snapshot
from daemon.zone.allocate_endpoint import EndpointAllocator
from daemon.zone.allocate_nat import NatAllocator
from daemon.zone.check_zone import MAX_NODES
from daemon.zone.counters import FIRST_VNI, LAST_VNI, Numbers
from daemon.zone.edit import Edit
from daemon.zone.errors import Problems

T = TypeVar("T", bound=Object)


def allocate(edit: Edit, numbers: Numbers, problems: Problems) -> Snapshot:
    """The zone after the edit. What does not fit is added to `problems`."""
    current = edit.current
    tenants = [Tenant(name=p, spec=edit.tenants[p]) for p in edit.written_paths(Kind.TENANT)]
    vnis = _vnis_in_use(edit)
    domains = _allocate_domains(edit, numbers, vnis, problems)
    externals = _allocate_externals(edit, numbers, vnis, problems)
    endpoints = EndpointAllocator(edit, numbers, problems).allocate()
    gone: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    for ref in edit.removed:
        gone[ref.kind].append(ref.path)
    named = {tenant.name: tenant for tenant in tenants}
    after = _merge(current.domains, domains, edit.domains, gone[Kind.DOMAIN])
    after |= NatAllocator(edit, after, numbers, problems).allocate()
    written = edit.written_paths(Kind.ADMIN_POLICY)
    policies = {p: AdminPolicy(name=p, spec=edit.admin_policies[p]) for p in written}
    return Snapshot(
        current.revision,
        _merge(current.tenants, named, edit.tenants, gone[Kind.TENANT]),
        _merge(current.nodes, _allocate_nodes(edit), edit.nodes, gone[Kind.NODE]),
        after,
        _merge(current.endpoints, endpoints, edit.endpoints, gone[Kind.ENDPOINT]),
        _merge(current.externals, externals, edit.externals, gone[Kind.EXTERNAL]),
        _merge(current.admin_policies, policies, edit.admin_policies, gone[Kind.ADMIN_POLICY]),
    )


def _merge(
    old: Mapping[str, T], new: Mapping[str, T], wanted: Mapping[str, object], removed: Iterable[str]
) -> dict[str, T]:
    """What is to exist: new where given and different, else as it was."""
    merged = dict(old)
    for path in removed:
        if path not in wanted:
            merged.pop(path, None)
    for path, item in new.items():
        if path in wanted and merged.get(path) != item:
            merged[path] = item
    return merged


def _allocate_nodes(edit: Edit) -> dict[str, Node]:
    used = {node.id for path, node in edit.current.nodes.items() if path in edit.nodes}
    free = iter(range(1, MAX_NODES + 1))
    made: dict[str, Node] = {}
    for path in edit.written_paths(Kind.NODE):
        before = edit.current.nodes.get(path)
        wish = edit.prefer.get(Ref(kind=Kind.NODE, name=path))
        if before is not None:
            made[path] = before.model_copy(update={"spec": edit.nodes[path]})
            continue
        if isinstance(wish, Node) and wish.id not in used:
            number = wish.id
        else:
            number = next(number for number in free if number not in used)
        used.add(number)
        made[path] = Node(name=path, spec=edit.nodes[path], id=number)
    return made


def _vnis_in_use(edit: Edit) -> set[int]:
    domains = [d for path, d in edit.current.domains.items() if path in edit.domains]
    externals = [e for path, e in edit.current.externals.items() if path in edit.externals]
    bridges = {vni for domain in domains for vni in domain.vnis.values()}
    return bridges | {external.vni for external in externals}


def _allocate_externals(
    edit: Edit, numbers: Numbers, vnis: set[int], problems: Problems
) -> dict[str, External]:
    made: dict[str, External] = {}
    for path in edit.written_paths(Kind.EXTERNAL):
        before = edit.current.externals.get(path)
        wish = edit.prefer.get(Ref(kind=Kind.EXTERNAL, name=path))
        vni: int | None = before.vni if before else None
        if vni is None and isinstance(wish, External) and wish.vni not in vnis:
            vni = wish.vni
        vni = vni or numbers.next_vni(vnis)
        if vni is None:
            problems.add(f"external {path}", "all VNIs of the zone are in use")
            continue
        vnis.add(vni)
        made[path] = External(name=path, spec=edit.externals[path], vni=vni)
    return made


def _allocate_domains(
    edit: Edit, numbers: Numbers, vnis: set[int], problems: Problems
) -> dict[str, Domain]:
    staying = [d for path, d in edit.current.domains.items() if path in edit.domains]
    router_ids = {number for domain in staying for number in domain.router_ids.values()}
    balancer_ids = {number for domain in staying for number in domain.balancer_ids.values()}
    made: dict[str, Domain] = {}
    for path in edit.written_paths(Kind.DOMAIN):
        spec = edit.domains[path]
        tenant, _, name = path.partition("/")
        before = edit.current.domains.get(path)
        wish = edit.prefer.get(Ref(kind=Kind.DOMAIN, tenant=tenant, name=name))
        old = _numbers_of(before)
        wished = _numbers_of(wish if isinstance(wish, Domain) else None)
        # Ids are never given twice, so the one of an earlier life is always free.
        known = wish if isinstance(wish, Domain) else before
        domain_vnis: dict[str, int] = {}
        for bridge in spec.bridges:
            vni = _keep(bridge.name, old[0], wished[0], vnis) or numbers.next_vni(vnis)
            if vni is None:
                message = f"all {LAST_VNI - FIRST_VNI + 1} VNIs of the zone are in use"
                problems.add(f"domain {path}: spec.bridges", message)
                break
            vnis.add(vni)
            domain_vnis[bridge.name] = vni
        domain_routers: dict[str, int] = {}
        for router in spec.routers:
            router_id = _keep(router.name, old[1], wished[1], router_ids)
            domain_routers[router.name] = router_id or numbers.next_router()
            router_ids.add(domain_routers[router.name])
        domain_balancers: dict[str, int] = {}
        for balancer in spec.load_balancers:
            balancer_id = _keep(balancer.name, old[2], wished[2], balancer_ids)
            domain_balancers[balancer.name] = balancer_id or numbers.next_balancer()
            balancer_ids.add(domain_balancers[balancer.name])
        made[path] = Domain(
            tenant=tenant,
            name=name,
            spec=spec,
            id=known.id if known else numbers.next_domain(),
            vnis=domain_vnis,
            router_ids=domain_routers,
            balancer_ids=domain_balancers,
            nat_blocks=before.nat_blocks if before else {},
        )
    return made


def _numbers_of(domain: Domain | None) -> tuple[Mapping[str, int], ...]:
    return (domain.vnis, domain.router_ids, domain.balancer_ids) if domain else ({}, {}, {})


def _keep(
    name: str, old: Mapping[str, int], wished: Mapping[str, int], used: set[int]
) -> int | None:
    """The number to return to if it is free, else the one it has."""
    if name in wished and wished[name] not in used:
        return wished[name]
    return old.get(name)
