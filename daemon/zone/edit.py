"""An edit: the zone as it is, and what its objects are to say afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from daemon.model.admin import AdminPolicySpec
from daemon.model.domain import DomainSpec
from daemon.model.endpoint import EndpointSpec
from daemon.model.external import ExternalSpec
from daemon.model.manifest import Manifest
from daemon.model.node import NodeSpec
from daemon.model.object import Kind, Object, Ref
from daemon.model.snapshot import Snapshot
from daemon.model.tenant import TenantSpec
from daemon.zone.index import domain_of, index_of, regroup


@dataclass(frozen=True)
class Edit:
    """Specs of the resulting zone by path, beside the current objects."""

    current: Snapshot
    tenants: Mapping[str, TenantSpec]
    nodes: Mapping[str, NodeSpec]
    domains: Mapping[str, DomainSpec]
    endpoints: Mapping[str, EndpointSpec]
    externals: Mapping[str, ExternalSpec]
    admin_policies: Mapping[str, AdminPolicySpec] = field(default_factory=dict)
    written: tuple[Ref, ...] = ()  # given by manifests, in their order
    removed: tuple[Ref, ...] = ()
    #: Mentioned by manifests that could not be read: known to be meant to exist.
    broken: frozenset[Ref] = frozenset()
    #: Allocations to return to where they are still free (rollback).
    prefer: Mapping[Ref, Object] = field(default_factory=dict)

    def written_paths(self, kind: Kind) -> list[str]:
        return [ref.path for ref in self.written if ref.kind is kind]

    def is_broken(self, kind: Kind, path: str) -> bool:
        return (kind, path) in self._broken_paths

    @cached_property
    def _broken_paths(self) -> frozenset[tuple[Kind, str]]:
        return frozenset((ref.kind, ref.path) for ref in self.broken)

    @cached_property
    def endpoints_by_domain(self) -> Mapping[str, list[str]]:
        current = self.current.endpoints
        moves: dict[str, tuple[str | None, str | None]] = {}
        for path in self._edited_endpoints:
            was = domain_of(path) if path in current else None
            now = domain_of(path) if path in self.endpoints else None
            if was != now:
                moves[path] = (was, now)
        return defaultdict(list, regroup(index_of(current).by_domain, moves))

    @cached_property
    def endpoints_by_node(self) -> Mapping[str, list[str]]:
        current = self.current.endpoints
        moves: dict[str, tuple[str | None, str | None]] = {}
        for path in self._edited_endpoints:
            was = current[path].spec.node if path in current else None
            now = self.endpoints[path].node if path in self.endpoints else None
            if was != now:
                moves[path] = (was, now)
        return defaultdict(list, regroup(index_of(current).by_node, moves))

    @property
    def _edited_endpoints(self) -> dict[str, None]:
        refs = (*self.written, *self.removed)
        return {ref.path: None for ref in refs if ref.kind is Kind.ENDPOINT}

    @cached_property
    def touched_domains(self) -> list[str]:
        """Domains that are written or have a written endpoint, and that will exist."""
        paths = self.written_paths(Kind.DOMAIN)
        paths += [path.rpartition("/")[0] for path in self.written_paths(Kind.ENDPOINT)]
        return [path for path in dict.fromkeys(paths) if path in self.domains]


def make_edit(
    current: Snapshot,
    manifests: Sequence[Manifest] = (),
    removed: Iterable[Ref] = (),
    broken: frozenset[Ref] = frozenset(),
    prefer: Mapping[Ref, Object] | None = None,
) -> Edit:
    """Lay manifests and removals over the current objects."""
    tenants = {path: item.spec for path, item in current.tenants.items()}
    nodes = {path: item.spec for path, item in current.nodes.items()}
    domains = {path: item.spec for path, item in current.domains.items()}
    externals = {path: item.spec for path, item in current.externals.items()}
    endpoints = dict(index_of(current.endpoints).specs)
    removed = tuple(dict.fromkeys(removed))
    admin_policies = {path: item.spec for path, item in current.admin_policies.items()}
    tables: dict[Kind, dict[str, Any]] = {
        Kind.TENANT: tenants,
        Kind.NODE: nodes,
        Kind.DOMAIN: domains,
        Kind.ENDPOINT: endpoints,
        Kind.EXTERNAL: externals,
        Kind.ADMIN_POLICY: admin_policies,
    }
    for ref in removed:
        tables[ref.kind].pop(ref.path, None)
    for manifest in manifests:
        path = manifest.ref.path
        match manifest.spec:
            case TenantSpec() as tenant:
                tenants[path] = tenant
            case NodeSpec() as node:
                nodes[path] = node
            case DomainSpec() as domain:
                domains[path] = domain
            case EndpointSpec() as endpoint:
                endpoints[path] = endpoint
            case AdminPolicySpec() as policy:
                admin_policies[path] = policy
            case ExternalSpec() as external:
                externals[path] = external
    written = tuple(manifest.ref for manifest in manifests)
    return Edit(
        current,
        tenants,
        nodes,
        domains,
        endpoints,
        externals,
        admin_policies,
        written,
        removed,
        broken,
        prefer or {},
    )
