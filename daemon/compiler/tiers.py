"""Whose rules are read before whose: administrators', the domain's own, the baseline.

Inside a tier the first rule that matches decides; `pass` hands on to the next tier.
An administrator's policy is `admin:NAME` in the paths of its rules, which no domain's
policy can be called; endpoints are chosen by labels, each choice a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from daemon.model.admin import AdminPeer, AdminRule, Tier
from daemon.model.base import Labels
from daemon.model.object import AdminPolicy, Domain
from daemon.model.policy import Group, Peer, Rule

AnyRule = Rule | AdminRule

ADMIN_PREFIX = "admin:"
_OWN = 1
_TIERS = {Tier.ADMIN: 0, Tier.BASELINE: 2}


class Standing(NamedTuple):
    """A policy in its place."""

    tier: int
    name: str  # in the paths of its rules
    applies_to: str | None  # group
    ingress: tuple[AnyRule, ...]
    egress: tuple[AnyRule, ...]
    max_connections: int | None = None


def concerning(policies: Iterable[AdminPolicy], path: str) -> tuple[AdminPolicy, ...]:
    """Administrators' policies for a domain, in the order they are read within their tiers."""
    found = (policy for policy in policies if policy.spec.applies_to.takes(path))
    return tuple(sorted(found, key=lambda policy: (policy.spec.order, policy.name)))


def standing(domain: Domain, admin: Sequence[AdminPolicy]) -> list[Standing]:
    """All policies of a domain, as they are read. `admin`: those of `concerning`."""
    found = [
        Standing(
            _TIERS[policy.spec.tier],
            f"{ADMIN_PREFIX}{policy.name}",
            label_group(labels) if (labels := policy.spec.applies_to.labels) else None,
            policy.spec.ingress,
            policy.spec.egress,
            policy.spec.max_connections,
        )
        for policy in admin
    ]
    found += (
        Standing(_OWN, p.name, p.applies_to, p.ingress, p.egress, p.max_connections)
        for p in domain.spec.policies
    )
    return sorted(found, key=lambda one: one.tier)


def gates(domain: Domain) -> dict[tuple[str, str], Standing]:
    """Rules of routers' interfaces, by router and bridge, of those that have any.

    Each is `router:ROUTER:BRIDGE` in the paths of its rules.
    """
    return {
        (router.name, face.bridge): Standing(
            _OWN, f"router:{router.name}:{face.bridge}", None, face.ingress, face.egress
        )
        for router in domain.spec.routers
        for face in router.interfaces
        if face.ingress or face.egress
    }


def everything(domain: Domain, admin: Sequence[AdminPolicy]) -> list[Standing]:
    """Whatever has rules in a domain."""
    return [*standing(domain, admin), *gates(domain).values()]


def groups(domain: Domain, admin: Sequence[AdminPolicy]) -> tuple[Group, ...]:
    """The domain's groups, and those that administrators choose by labels."""
    chosen = [policy.spec.applies_to.labels for policy in admin]
    chosen += [
        peer.labels or {}
        for policy in admin
        for rule in policy.spec.ingress + policy.spec.egress
        for peer in rule.peers or ()
    ]
    made = {label_group(labels): labels for labels in chosen if labels}
    # No name that a user may write: built without asking the model.
    more = (Group.model_construct(name=name, labels=labels) for name, labels in made.items())
    return (*domain.spec.groups, *more)


def is_admin_rule(name: str) -> bool:
    """By the path of a rule, or the name of its policy."""
    return name.startswith(ADMIN_PREFIX)


def label_group(labels: Labels) -> str:
    return "labels " + ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def peer_group(peer: Peer | AdminPeer) -> str | None:
    """Group a peer names; one without labels is nobody, but that is `seat.Membership`'s word."""
    if isinstance(peer, Peer):
        return peer.group
    return label_group(peer.labels) if peer.labels is not None else None
