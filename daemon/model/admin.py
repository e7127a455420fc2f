"""AdminPolicy: rules of the zone's administrators, which no tenant sees or overrides.

Policies of tier `admin` are read before the rules of a domain, those of tier `baseline`
after them and before the domain's default; within a tier by `order`, then by name. The
first rule that matches decides, as in a domain's policies: for traffic to an endpoint
`ingress`, for traffic from it `egress`. `pass` ends the tier and leaves the decision to
what comes after it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from daemon.model.base import Labels, Model, Name, Network
from daemon.model.policy import Match, MaxConnections

#: TENANT/DOMAIN.
DomainPath = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=127
    ),
]


class AdminAction(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    PASS = "pass"


class Tier(StrEnum):
    ADMIN = "admin"
    BASELINE = "baseline"


class Selector(Model):
    """Endpoints a policy applies to. What is left out selects all."""

    #: Of these tenants, or ...
    tenants: tuple[Name, ...] = ()
    #: ... of these domains.
    domains: tuple[DomainPath, ...] = ()
    #: And of those only endpoints that carry all of these labels. Tenants choose labels.
    labels: Labels = {}

    def takes(self, domain: str) -> bool:
        """Whether endpoints of this domain, by its path, may be chosen."""
        if not self.tenants and not self.domains:
            return True
        return domain.partition("/")[0] in self.tenants or domain in self.domains


class AdminPeer(Model):
    """One of the two: endpoints of the same domain by their labels, or a CIDR."""

    labels: Labels | None = None
    cidr: Network | None = None


class AdminRule(Match):
    action: AdminAction
    #: ingress: who comes. egress: where to. Absent: anybody. Empty: nobody.
    peers: tuple[AdminPeer, ...] | None = None


class AdminPolicySpec(Model):
    description: str = ""
    tier: Tier = Tier.ADMIN
    #: Within the tier; the lower one is read first.
    order: int = Field(default=1000, ge=0, le=9999)
    applies_to: Selector = Selector()
    ingress: tuple[AdminRule, ...] = ()
    egress: tuple[AdminRule, ...] = ()
    #: Connections that each endpoint it applies to may hold at once on its node.
    max_connections: MaxConnections = None
