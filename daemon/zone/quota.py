"""What tenants use of their quotas. Pure.

Checked with everything else about a change, against exactly the state it is written to:
two changes at once cannot both take the last place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

from daemon.model.domain import DomainSpec
from daemon.model.endpoint import EndpointSpec
from daemon.model.snapshot import Snapshot
from daemon.model.tenant import Quota
from daemon.zone.edit import Edit
from daemon.zone.errors import Problems

#: What counts, in the order it is shown.
RESOURCES = tuple(Quota.model_fields)
Usage = Mapping[str, int]
_NOTHING: Usage = dict.fromkeys(RESOURCES, 0)


def used(
    domains: Mapping[str, DomainSpec],
    endpoints: Callable[[str], Iterable[EndpointSpec]],
    tenants: Container[str],
) -> dict[str, Usage]:
    """What these tenants use, by name. `endpoints`: those of a domain, by its path."""
    count: defaultdict[str, Counter[str]] = defaultdict(lambda: Counter(_NOTHING))
    for path, spec in domains.items():
        tenant = path.partition("/")[0]
        if tenant not in tenants:
            continue
        own = count[tenant]
        own["domains"] += 1
        own["bridges"] += len(spec.bridges)
        own["routers"] += len(spec.routers)
        own["load_balancers"] += len(spec.load_balancers)
        own["rules"] += sum(len(p.ingress) + len(p.egress) for p in spec.policies)
        faces = (face for router in spec.routers for face in router.interfaces)
        own["rules"] += sum(len(face.ingress) + len(face.egress) for face in faces)
        for endpoint in endpoints(path):
            own["endpoints"] += 1
            own["flows"] += endpoint.flow_quota
    return dict(count)


def used_now(snapshot: Snapshot, tenants: Container[str]) -> dict[str, Usage]:
    """The same of the objects of a snapshot."""
    members: defaultdict[str, list[EndpointSpec]] = defaultdict(list)
    for path, item in snapshot.endpoints.items():
        if item.tenant in tenants:
            members[path.rpartition("/")[0]].append(item.spec)
    domains = {path: item.spec for path, item in snapshot.domains.items()}
    return used(domains, lambda path: members.get(path, ()), tenants)


def check_quotas(edit: Edit, problems: Problems) -> None:
    """Nobody grows beyond a quota. Whoever is beyond it already, because it was lowered,
    keeps what is there and may have less."""
    written = dict.fromkeys(ref.path.partition("/")[0] for ref in edit.written)
    limits = {
        tenant: limited
        for tenant in written
        if tenant in edit.tenants
        and (limited := edit.tenants[tenant].quota.model_dump(exclude_none=True))
    }
    if not limits:
        return

    def endpoints(domain: str) -> Iterator[EndpointSpec]:
        return (edit.endpoints[path] for path in edit.endpoints_by_domain.get(domain, ()))

    after = used(edit.domains, endpoints, limits)
    over = [
        (tenant, name, limit)
        for tenant, limited in limits.items()
        for name, limit in limited.items()
        if after.get(tenant, _NOTHING)[name] > limit
    ]
    before = used_now(edit.current, limits) if over else {}
    for tenant, name, limit in over:
        new, old = after[tenant][name], before.get(tenant, _NOTHING)[name]
        if new > old:
            message = f"at most {limit}; this makes {new}, there are {old}"
            problems.add(f"tenant {tenant}: spec.quota.{name}", message)
