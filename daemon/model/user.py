"""Users of the zone, and the tokens they show. What is kept of a token cannot be shown."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from daemon.model.base import Model, Name


class AccessRole(StrEnum):
    VIEWER = "viewer"  # reads the zone
    TENANT_OPERATOR = "tenant-operator"  # reads and changes one tenant
    ZONE_ADMIN = "zone-admin"  # everything
    NODE = "node"  # a plumd that asks another; never a user's


#: What a user may be given.
USER_ROLES = (AccessRole.VIEWER, AccessRole.TENANT_OPERATOR, AccessRole.ZONE_ADMIN)


class User(Model):
    name: Name
    role: AccessRole
    tenant: Name | None = None  # of a tenant operator, and of nobody else
    comment: str = Field(default="", max_length=1000)
    created: float  # Unix time, seconds
    #: Chosen at random. A token is good for this one, not for a later user of that name.
    id: str


class Token(Model):
    id: str  # what names it: no secret
    user: Name
    user_id: str
    hash: str  # SHA-256 of the whole token, hexadecimal
    created: float  # Unix time, seconds
    expires: float
    comment: str = Field(default="", max_length=1000)


def role_problem(role: AccessRole, tenant: str | None) -> str | None:
    """Why no user can have this role and tenant, or None."""
    if role not in USER_ROLES:
        return f"a user's role is one of {', '.join(USER_ROLES)}"
    if role is AccessRole.TENANT_OPERATOR and tenant is None:
        return "a tenant-operator needs a tenant"
    if role is not AccessRole.TENANT_OPERATOR and tenant is not None:
        return f"a {role} has no tenant: leave it out, or make it a tenant-operator"
    return None
