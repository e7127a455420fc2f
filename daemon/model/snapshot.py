"""Snapshot: the part of the desired state one node sees at one revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.model.object import AdminPolicy, Domain, Endpoint, External, Node, Tenant


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Objects by `Ref.path` (`n1`, `acme`, `acme/shop`, `acme/shop/web-1`)."""

    revision: int = 0
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    domains: Mapping[str, Domain] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    externals: Mapping[str, External] = field(default_factory=dict)
    admin_policies: Mapping[str, AdminPolicy] = field(default_factory=dict)
