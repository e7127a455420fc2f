"""Tenant: owner of domains."""

from __future__ import annotations

from daemon.model.base import Model


class TenantSpec(Model):
    description: str = ""
