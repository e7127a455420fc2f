"""Tenant: owner of domains."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from daemon.model.base import Model

Limit = Annotated[int | None, Field(ge=0, le=1_000_000_000)]


class Quota(Model):
    """How many of each a tenant may have. Absent: as many as the zone has room for."""

    domains: Limit = None
    bridges: Limit = None
    routers: Limit = None
    load_balancers: Limit = None
    rules: Limit = None
    endpoints: Limit = None
    #: Connections: the sum of the flow_quota of its endpoints.
    flows: Limit = None


class TenantSpec(Model):
    description: str = ""
    quota: Quota = Quota()
