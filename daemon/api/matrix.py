"""The access matrix: who may ask for which operation. The only place that says so.

An operation is a route's `operation_id`. What is not listed is refused, to everybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from daemon.model.user import AccessRole


class Grant(StrEnum):
    ALLOWED = "allowed"
    OWN = "own tenant only"  # neither changes nor shows anything of other tenants
    REFUSED = "refused"


_ALL, _OWN, _NO = Grant.ALLOWED, Grant.OWN, Grant.REFUSED

ROLES = (
    AccessRole.VIEWER,
    AccessRole.TENANT_OPERATOR,
    AccessRole.ZONE_ADMIN,
    AccessRole.NODE,
)

# fmt: off
TABLE: Mapping[str, tuple[Grant, Grant, Grant, Grant]] = {
    # operation        viewer operator admin node
    # A node may read what it reads in the store anyway: for its local users, whom it asked
    # this table about first. It changes nothing: changes need a user's token.
    "list_objects":    (_ALL, _OWN, _ALL, _ALL),
    "get_object":      (_ALL, _OWN, _ALL, _ALL),
    "apply":           (_NO,  _OWN, _ALL, _NO),
    "delete":          (_NO,  _OWN, _ALL, _NO),
    "list_history":    (_ALL, _OWN, _ALL, _ALL),
    "get_revision":    (_ALL, _OWN, _ALL, _ALL),
    "rollback":        (_NO,  _OWN, _ALL, _NO),
    "confirm":         (_NO,  _OWN, _ALL, _NO),
    "wait":            (_ALL, _OWN, _ALL, _ALL),
    "trial":           (_ALL, _OWN, _ALL, _ALL),
    "policy_log":      (_ALL, _OWN, _ALL, _ALL),
    "node_policy_log": (_ALL, _OWN, _ALL, _ALL),
    "zone":            (_ALL, _NO,  _ALL, _ALL),
    # Nodes ask each other for these; who asked the first one is shown his part of it.
    "status":          (_ALL, _OWN, _ALL, _ALL),
    "node_counters":   (_ALL, _OWN, _ALL, _ALL),
    "node_mesh":       (_ALL, _NO,  _ALL, _ALL),
    "zone_mesh":       (_ALL, _NO,  _ALL, _ALL),
    "zone_counters":   (_ALL, _OWN, _ALL, _ALL),
    # Whoever names a node's endpoints names every tenant's.
    "node_endpoints":  (_ALL, _NO,  _ALL, _ALL),
    "cordon":          (_NO,  _NO,  _ALL, _NO),
    "uncordon":        (_NO,  _NO,  _ALL, _NO),
    "remove_node":     (_NO,  _NO,  _ALL, _NO),
    "backup":          (_NO,  _NO,  _ALL, _NO),
    "restore":         (_NO,  _NO,  _ALL, _NO),
    "whoami":          (_ALL, _ALL, _ALL, _ALL),
    "invite_node":     (_NO,  _NO,  _ALL, _NO),
    "rotate_node":     (_NO,  _NO,  _ALL, _NO),
    "change_authority": (_NO, _NO,  _ALL, _NO),
    # Only an administrator gives rights; an operator may look, and end a token that got lost.
    "list_users":      (_NO,  _OWN, _ALL, _NO),
    "get_user":        (_NO,  _OWN, _ALL, _NO),
    "create_user":     (_NO,  _NO,  _ALL, _NO),
    "set_user":        (_NO,  _NO,  _ALL, _NO),
    "delete_user":     (_NO,  _NO,  _ALL, _NO),
    "list_tokens":     (_NO,  _OWN, _ALL, _NO),
    "create_token":    (_NO,  _NO,  _ALL, _NO),
    "revoke_token":    (_NO,  _OWN, _ALL, _NO),
    "zone_audit":      (_NO,  _OWN, _ALL, _NO),
    "node_audit":      (_NO,  _OWN, _ALL, _ALL),
}
# fmt: on

#: Reads that leave a line in the audit log. Changes and refusals always do.
PRIVILEGED = frozenset({"list_users", "get_user", "list_tokens", "zone_audit", "node_audit"})


def granted(operation: str, role: AccessRole) -> Grant:
    row = TABLE.get(operation)
    return row[ROLES.index(role)] if row is not None else Grant.REFUSED
