"""Objects as the store keeps them: what the user said plus what was allocated."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

from daemon.model.admin import AdminPolicySpec
from daemon.model.base import Address, Mac, Model, Name
from daemon.model.domain import DomainSpec
from daemon.model.endpoint import EndpointSpec
from daemon.model.external import ExternalSpec, NatBlock
from daemon.model.node import NodeSpec
from daemon.model.tenant import TenantSpec


class Kind(StrEnum):
    TENANT = "tenant"
    DOMAIN = "domain"
    ENDPOINT = "endpoint"
    NODE = "node"
    EXTERNAL = "external"
    ADMIN_POLICY = "adminpolicy"


#: Kinds that belong to the zone, not to a tenant.
ZONE_KINDS = frozenset({Kind.NODE, Kind.EXTERNAL})
#: The parts of a path, by kind.
PATH_FIELDS = {
    Kind.TENANT: ("name",),
    Kind.NODE: ("name",),
    Kind.EXTERNAL: ("name",),
    Kind.ADMIN_POLICY: ("name",),
    Kind.DOMAIN: ("tenant", "name"),
    Kind.ENDPOINT: ("tenant", "domain", "name"),
}
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Ref(Model):
    """Identity of an object. `text` is its path on the CLI and in the store."""

    kind: Kind
    tenant: Name | None = None
    domain: Name | None = None  # endpoints only
    name: Name

    @property
    def path(self) -> str:
        """`acme`, `acme/shop`, `acme/shop/web-1`, `n1`."""
        return "/".join(part for part in (self.tenant, self.domain, self.name) if part)

    @property
    def text(self) -> str:
        """`endpoint acme/shop/web-1`: how messages name it."""
        return f"{self.kind} {self.path}"

    @classmethod
    def parse(cls, kind: Kind, path: str) -> Ref:
        """The inverse of `path`. Raises ValueError that says what the kind's path looks like."""
        parts = path.split("/")
        fields = PATH_FIELDS[kind]
        if len(parts) != len(fields) or not all(NAME.fullmatch(p) for p in parts):
            raise ValueError(f'"{path}" names no {kind}; write {"/".join(fields).upper()}')
        named = dict(zip(fields, parts, strict=True))
        return cls(
            kind=kind, tenant=named.get("tenant"), domain=named.get("domain"), name=named["name"]
        )


class Tenant(Model):
    name: Name
    spec: TenantSpec = TenantSpec()


class Node(Model):
    name: Name
    spec: NodeSpec
    id: int  # 1..4095, unique in the zone
    #: No new endpoints are placed on it. Not of the manifest: applying that leaves it.
    cordoned: bool = False


class External(Model):
    name: Name
    spec: ExternalSpec
    vni: int  # under which edges and gateways exchange its packets


class Domain(Model):
    tenant: Name
    name: Name
    spec: DomainSpec
    id: int  # unique in the zone, never reused
    vnis: dict[Name, int]  # by bridge, unique in the zone
    router_ids: dict[Name, int]  # by router, unique in the zone
    balancer_ids: dict[Name, int] = {}  # by load balancer, unique in the zone
    #: Public ports for source NAT, by router and node.
    nat_blocks: dict[Name, dict[Name, tuple[NatBlock, ...]]] = {}


class Endpoint(Model):
    tenant: Name
    name: Name
    spec: EndpointSpec
    id: int  # unique in the zone, never reused
    slot: int  # unique on its node, 0..16383
    mac: Mac
    addresses: tuple[Address, ...]


class AdminPolicy(Model):
    name: Name
    spec: AdminPolicySpec


Object = Tenant | Node | External | Domain | Endpoint | AdminPolicy
Spec = TenantSpec | NodeSpec | ExternalSpec | DomainSpec | EndpointSpec | AdminPolicySpec

OBJECT_TYPES: dict[Kind, type[Object]] = {
    Kind.TENANT: Tenant,
    Kind.NODE: Node,
    Kind.EXTERNAL: External,
    Kind.DOMAIN: Domain,
    Kind.ENDPOINT: Endpoint,
    Kind.ADMIN_POLICY: AdminPolicy,
}
SPEC_TYPES: dict[Kind, type[Spec]] = {
    Kind.TENANT: TenantSpec,
    Kind.NODE: NodeSpec,
    Kind.EXTERNAL: ExternalSpec,
    Kind.DOMAIN: DomainSpec,
    Kind.ENDPOINT: EndpointSpec,
    Kind.ADMIN_POLICY: AdminPolicySpec,
}


def ref_of(item: Object) -> Ref:
    """Identity of a stored object."""
    match item:
        case Tenant():
            return Ref(kind=Kind.TENANT, name=item.name)
        case Node():
            return Ref(kind=Kind.NODE, name=item.name)
        case External():
            return Ref(kind=Kind.EXTERNAL, name=item.name)
        case Domain():
            return Ref(kind=Kind.DOMAIN, tenant=item.tenant, name=item.name)
        case Endpoint():
            return Ref(
                kind=Kind.ENDPOINT, tenant=item.tenant, domain=item.spec.domain, name=item.name
            )
        case AdminPolicy():
            return Ref(kind=Kind.ADMIN_POLICY, name=item.name)


def spec_document(item: Object) -> dict[str, Any]:
    """What the user said, as JSON-like data; nothing that was left to a default."""
    return item.spec.model_dump(mode="json", exclude_unset=True)


def allocated_document(item: Object) -> dict[str, Any]:
    """What was allocated (ids, VNIs, slot, MAC, addresses), as JSON-like data."""
    return item.model_dump(mode="json", exclude={"tenant", "name", "spec"})
