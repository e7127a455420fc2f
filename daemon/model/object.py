"""Objects as the store keeps them: what the user said plus what was allocated."""

from __future__ import annotations

from enum import StrEnum

from daemon.model.base import Address, Mac, Model, Name
from daemon.model.domain import DomainSpec
from daemon.model.endpoint import EndpointSpec
from daemon.model.node import NodeSpec
from daemon.model.tenant import TenantSpec


class Kind(StrEnum):
    TENANT = "tenant"
    DOMAIN = "domain"
    ENDPOINT = "endpoint"
    NODE = "node"


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


class Tenant(Model):
    name: Name
    spec: TenantSpec = TenantSpec()


class Node(Model):
    name: Name
    spec: NodeSpec
    id: int  # 1..4095, unique in the zone


class Domain(Model):
    tenant: Name
    name: Name
    spec: DomainSpec
    id: int  # unique in the zone, never reused
    vnis: dict[Name, int]  # by bridge, unique in the zone
    router_ids: dict[Name, int]  # by router, unique in the zone


class Endpoint(Model):
    tenant: Name
    name: Name
    spec: EndpointSpec
    id: int  # unique in the zone, never reused
    slot: int  # unique on its node, 0..16383
    mac: Mac
    addresses: tuple[Address, ...]


Object = Tenant | Node | Domain | Endpoint
