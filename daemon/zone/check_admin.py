"""Checks of administrators' policies."""

from __future__ import annotations

from daemon.model.admin import AdminAction, AdminPeer, AdminPolicySpec, Tier
from daemon.model.object import Kind
from daemon.zone.addresses import mapped_words
from daemon.zone.check_policy import check_match
from daemon.zone.edit import Edit
from daemon.zone.errors import Problems


def check_admin_policies(edit: Edit, problems: Problems) -> None:
    """Every one that is written. A tenant or domain need not be there yet: the policy
    is in force from the moment it is."""
    for path in edit.written_paths(Kind.ADMIN_POLICY):
        _check(f"{Kind.ADMIN_POLICY} {path}: spec", edit.admin_policies[path], problems)


def _check(at: str, spec: AdminPolicySpec, problems: Problems) -> None:
    chosen: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("tenants", spec.applies_to.tenants),
        ("domains", spec.applies_to.domains),
    )
    for field, names in chosen:
        for i, name in enumerate(names):
            if name in names[:i]:
                problems.add(f"{at}.applies_to.{field}[{i}]", f"{name} is listed twice")
            if field == "domains" and name.partition("/")[0] in spec.applies_to.tenants:
                message = f"{name} is selected already: its whole tenant is"
                problems.add(f"{at}.applies_to.{field}[{i}]", message)
    for direction, rules in (("ingress", spec.ingress), ("egress", spec.egress)):
        seen: set[str] = set()
        for j, rule in enumerate(rules):
            place = f"{at}.{direction}[{j}]"
            if rule.name in seen:
                problems.add(f"{place}.name", f"there is another {rule.name} in this list")
            seen.add(rule.name)
            if spec.tier is Tier.BASELINE and rule.action is AdminAction.PASS:
                message = "nothing but the domain's default comes after a baseline: allow or deny"
                problems.add(f"{place}.action", message)
            for i, peer in enumerate(rule.peers or ()):
                _check_peer(f"{place}.peers[{i}]", peer, problems)
            check_match(place, rule, problems)


def _check_peer(at: str, peer: AdminPeer, problems: Problems) -> None:
    if (peer.labels is None) == (peer.cidr is None):
        problems.add(at, "a peer is either labels or a cidr")
    if peer.labels is not None and not peer.labels:
        problems.add(f"{at}.labels", "is empty, and so names nobody")
    if peer.cidr is not None and (words := mapped_words(peer.cidr)):
        problems.add(f"{at}.cidr", words)
