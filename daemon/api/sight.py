"""What the one who asks is shown: all of the zone, or one tenant of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, cast

from fastapi import Depends, Request

from daemon.api.answers import Missing, NodeCounters, NodeReport, RuleCounters, View
from daemon.compiler.tiers import is_admin_rule
from daemon.model.object import Kind, Ref
from daemon.model.snapshot import Snapshot
from daemon.zone.revision import Revision

#: Of a node's spec, what somebody needs to place endpoints there.
_NODE_FIELDS = ("roles", "underlay_mtu")
#: And of an external network: where it may take floating addresses from.
_EXTERNAL_FIELDS = ("description", "floating", "mtu")

#: What others than administrators are told of their policies.
ADMIN_POLICY = "an administrator's policy"


@dataclass(frozen=True, slots=True)
class Sight:
    """`tenant` None: sees everything; but administrators' policies only `administers` does."""

    tenant: str | None = None
    #: May know what administrators' policies say.
    administers: bool = True

    def sees(self, ref: Ref) -> bool:
        """Objects of the tenant; nodes, whose names it needs, belong to nobody."""
        if ref.kind is Kind.ADMIN_POLICY:
            return self.administers and self.tenant is None
        return self.tenant is None or self.tenant == _owner(ref)

    def sees_path(self, path: str) -> bool:
        """By the path of a domain, an endpoint or a tenant."""
        return self.tenant is None or path.partition("/")[0] == self.tenant

    def sees_user(self, tenant: str | None) -> bool:
        """By the tenant a user is operator of."""
        return self.tenant is None or self.tenant == tenant

    def snapshot(self, snapshot: Snapshot) -> Snapshot:
        """The zone as if the tenant were alone in it: domains do not depend on each other."""
        if self.tenant is None:
            return snapshot
        return replace(
            snapshot,
            tenants={p: item for p, item in snapshot.tenants.items() if self.sees_path(p)},
            domains={p: item for p, item in snapshot.domains.items() if self.sees_path(p)},
            endpoints={p: item for p, item in snapshot.endpoints.items() if self.sees_path(p)},
        )

    def node(self, view: View) -> View:
        """A node, without what it says of the underlay."""
        if self.tenant is None:
            return view
        spec = {key: view.spec[key] for key in _NODE_FIELDS if key in view.spec}
        status = view.status.model_copy(update={"reason": "", "nodes": {}})
        hidden = {"spec": spec, "allocated": {}, "status": status, "liveness": None}
        return view.model_copy(update=hidden)

    def external(self, view: View) -> View:
        """An external network, without what it says of the gateways."""
        if self.tenant is None:
            return view
        spec = {key: view.spec[key] for key in _EXTERNAL_FIELDS if key in view.spec}
        status = view.status.model_copy(update={"reason": "", "nodes": {}})
        return view.model_copy(update={"spec": spec, "allocated": {}, "status": status})

    def counters(self, counters: NodeCounters) -> NodeCounters:
        """Rows of the tenant's own endpoints and domains; administrators' rules as one."""
        if not self.administers:
            counters = counters.model_copy(update={"rules": _without_admin(counters.rules)})
        if self.tenant is None:
            return counters
        return NodeCounters(
            node=counters.node,
            endpoints=tuple(row for row in counters.endpoints if self.sees_path(row.path)),
            rules=tuple(row for row in counters.rules if self.sees_path(row.domain)),
            drops=tuple(
                row for row in counters.drops if row.endpoint and self.sees_path(row.endpoint)
            ),
            error="the node did not answer" if counters.error else None,
        )

    def report(self, report: NodeReport) -> NodeReport:
        """What concerns the tenant's objects. Repairs and reasons name anything: left out."""
        if self.tenant is None:
            return report
        own = tuple(
            item
            for item in report.exceptions
            if item.kind is not Kind.NODE and self.sees_path(item.path)
        )
        reason = "" if report.ready else "the node's administrator can tell"
        return report.model_copy(update={"exceptions": own, "repairs": (), "reason": reason})

    def missing(self, item: Missing) -> Missing | None:
        """None: not to be shown."""
        if item.kind is Kind.NODE:
            if self.tenant is None:
                return item
            return item.model_copy(update={"reason": "has not programmed it yet"})
        return item if self.sees_path(item.path) else None

    def revision(self, revision: Revision) -> Revision | None:
        """The tenant's part of a revision; None: it has none.

        A comment that is about others' objects too is not for one of them.
        """
        if self.tenant is None and self.administers:
            return revision
        own = tuple(change for change in revision.changes if self.sees(change.ref))
        if not own:
            return None
        if len(own) == len(revision.changes):
            return revision
        return revision.model_copy(update={"changes": own, "comment": ""})

    def rule(self, name: str) -> str:
        """Of a rule, by its path in its domain."""
        return name if self.administers or not is_admin_rule(name) else ADMIN_POLICY

    def is_own(self, revision: Revision) -> bool:
        """All of it is the tenant's."""
        return self.revision(revision) == revision


def _without_admin(rules: Iterable[RuleCounters]) -> tuple[RuleCounters, ...]:
    shown: list[RuleCounters] = []
    hidden: dict[tuple[str, str | None, str], int] = {}
    for row in rules:
        if row.policy is None or not is_admin_rule(row.policy):
            shown.append(row)
            continue
        key = (row.domain, row.direction, row.action)
        hidden[key] = hidden.get(key, 0) + row.hits
    more = (
        RuleCounters(
            domain=domain, policy=ADMIN_POLICY, direction=way, rule="", action=action, hits=hits
        )
        for (domain, way, action), hits in hidden.items()
    )
    return (*shown, *more)


def _owner(ref: Ref) -> str | None:
    return ref.name if ref.kind is Kind.TENANT else ref.tenant


def _sight(request: Request) -> Sight:
    request.state.sight_taken = True  # access.py insists on it where a role sees a part only
    return cast(Sight, request.state.sight)


SightDep = Annotated[Sight, Depends(_sight)]
