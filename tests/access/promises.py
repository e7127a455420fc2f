"""What each role is promised for each operation, written by hand and without the matrix.

For every operation: a request about acme, the same about zeta, and what comes of them for
the viewer, for acme's operator, for the administrator and for a node.

    sees      200, and the answer is about that tenant
    nothing   as if there were no such thing: exactly the answer for one that does not exist
    changes   200, and the store is not as before
    told      403, naming what is not the caller's; the store is as before
    invalid   422: allowed, but what was sent is no good; the store is as before
    refused   403 before anything is looked at; the store is as before

Whatever a tenant operator is answered, no name or text of the other tenant is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.access.world import DOMAIN, ENDPOINTS, SECRET, domain

SEES, NOTHING, CHANGES, TOLD, REFUSED = "sees", "nothing", "changes", "told", "refused"
INVALID = "invalid"

Outcomes = tuple[str, str, str, str]  # viewer, tenant-operator, zone-admin, node


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    body: Any = None
    #: In the answer when it is about the tenant; None: the answer has nothing of tenants.
    shows: str | None = None
    #: The same request about something that does not exist, for `nothing`.
    absent: str | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    own: Request
    own_outcomes: Outcomes
    other: Request
    other_outcomes: Outcomes


READ = (SEES, SEES, SEES, SEES)
READ_OTHER = (SEES, NOTHING, SEES, SEES)
#: A list that holds both tenants' is asked for once; the operator's copy lacks zeta's.
LIST_OTHER = READ_OTHER
WRITE = (REFUSED, CHANGES, CHANGES, REFUSED)
ADMIN = (REFUSED, REFUSED, CHANGES, REFUSED)
ADMIN_SEES = (REFUSED, REFUSED, SEES, REFUSED)
LOOK = (REFUSED, SEES, SEES, REFUSED)
LOOK_OTHER = (REFUSED, NOTHING, SEES, REFUSED)
WRITE_OTHER = (REFUSED, TOLD, CHANGES, REFUSED)


def path(tenant: str, which: int = 0) -> str:
    return f"{tenant}/{DOMAIN[tenant]}/{ENDPOINTS[tenant][which]}"


def apply(tenant: str) -> Request:
    return Request("POST", "/v1/apply", {"objects": [domain(tenant, "changed")]})


def user_of(tenant: str) -> Request:
    body = {"name": "newcomer", "role": "tenant-operator", "tenant": tenant}
    return Request("POST", "/v1/users", body)


def delete(tenant: str) -> Request:
    refs = [{"kind": "endpoint", "path": path(tenant)}]
    return Request("POST", "/v1/delete", {"refs": refs})


def counted(target: str) -> Promise:
    """Rows of both tenants; every role that may ask sees its part."""
    everyone, but_operator = (SEES, SEES, SEES, SEES), (SEES, NOTHING, SEES, SEES)
    return Promise(
        Request("GET", target, shows=DOMAIN["acme"]),
        everyone,
        Request("GET", target, shows=DOMAIN["zeta"]),
        but_operator,
    )


def audited(target: str, outcomes: Outcomes) -> Promise:
    """What lines each one is shown: test_audit.py."""
    request = Request("GET", target, shows="items")
    return Promise(request, outcomes, request, outcomes)


def both(request: Request, outcomes: Outcomes) -> Promise:
    """What concerns no tenant, or all of them."""
    return Promise(request, outcomes, request, outcomes)


def trial(tenant: str) -> Request:
    source, to = path(tenant), path(tenant, 1)
    query = f"source={source}&target={to}&protocol=tcp&port=80"
    absent = f"/v1/trial?source=none/none/none&target={to}&protocol=tcp&port=80"
    return Request("GET", f"/v1/trial?{query}", shows=source, absent=absent)


PROMISES: dict[str, list[Promise]] = {
    "list_objects": [
        Promise(
            Request("GET", f"/v1/objects/{kind}", shows=of["acme"]),
            READ,
            Request("GET", f"/v1/objects/{kind}", shows=of["zeta"]),
            LIST_OTHER,
        )
        for kind, of in (
            ("tenant", {"acme": "acme", "zeta": "zeta"}),
            ("domain", DOMAIN),
            ("endpoint", {name: ENDPOINTS[name][0] for name in DOMAIN}),
        )
    ],
    "get_object": [
        Promise(
            Request("GET", "/v1/objects/tenant/acme", shows="a shop"),
            READ,
            Request(
                "GET", "/v1/objects/tenant/zeta", shows="zeta", absent="/v1/objects/tenant/none"
            ),
            READ_OTHER,
        ),
        Promise(
            Request("GET", f"/v1/objects/endpoint/{path('acme')}", shows="web-1"),
            READ,
            Request(
                "GET",
                f"/v1/objects/endpoint/{path('zeta')}",
                shows=ENDPOINTS["zeta"][0],
                absent="/v1/objects/endpoint/none/none/none",
            ),
            READ_OTHER,
        ),
    ],
    "apply": [Promise(apply("acme"), WRITE, apply("zeta"), WRITE_OTHER)],
    "delete": [Promise(delete("acme"), WRITE, delete("zeta"), WRITE_OTHER)],
    "list_history": [
        Promise(
            Request("GET", "/v1/history", shows=path("acme")),
            READ,
            Request("GET", "/v1/history", shows=path("zeta")),
            LIST_OTHER,
        )
    ],
    "get_revision": [
        Promise(
            Request("GET", "/v1/history/2", shows="web-1"),
            READ,
            Request("GET", "/v1/history/3", shows=path("zeta"), absent="/v1/history/99"),
            READ_OTHER,
        ),
        Promise(  # one revision of both
            Request("GET", "/v1/history/4", shows="web-2"),
            READ,
            Request("GET", "/v1/history/4", shows=path("zeta", 1)),
            LIST_OTHER,
        ),
    ],
    "rollback": [
        # A revision is nobody's: what an operator rolls back is the own tenant, to any of
        # them. That zeta stays as it is: test_an_operators_rollback_is_of_the_own_tenant.
        Promise(
            Request("POST", "/v1/history/3/rollback", {}),
            WRITE,
            Request("POST", "/v1/history/77/rollback", {}, absent="/v1/history/99/rollback"),
            (REFUSED, NOTHING, NOTHING, REFUSED),
        )
    ],
    "confirm": [
        Promise(
            Request("POST", "/v1/history/5/confirm", {}),
            WRITE,
            Request("POST", "/v1/history/6/confirm", {}, absent="/v1/history/99/confirm"),
            (REFUSED, NOTHING, CHANGES, REFUSED),
        )
    ],
    "wait": [
        Promise(
            Request("GET", "/v1/wait?revision={revision-4}&timeout_s=0", shows=path("acme", 1)),
            READ,
            Request("GET", "/v1/wait?revision={revision-4}&timeout_s=0", shows=path("zeta", 1)),
            LIST_OTHER,
        )
    ],
    "whoami": [
        Promise(
            Request("GET", "/v1/whoami", shows="role"),
            (SEES, SEES, SEES, SEES),
            Request("GET", "/v1/whoami", shows="source"),
            (SEES, SEES, SEES, SEES),
        )
    ],
    "list_users": [
        Promise(
            Request("GET", "/v1/users", shows="acme-second"),
            LOOK,
            Request("GET", "/v1/users", shows=f"{SECRET}-operator"),
            LOOK_OTHER,
        )
    ],
    "get_user": [
        Promise(
            Request("GET", "/v1/users/acme-second", shows="acme-second"),
            LOOK,
            Request(
                "GET",
                f"/v1/users/{SECRET}-operator",
                shows="comment on",
                absent="/v1/users/none",
            ),
            LOOK_OTHER,
        )
    ],
    "create_user": [
        Promise(user_of("acme"), ADMIN, user_of("zeta"), ADMIN),
        Promise(
            Request("POST", "/v1/users", {"name": "boss", "role": "zone-admin"}),
            ADMIN,
            Request("POST", "/v1/users", {"name": "eye", "role": "viewer"}),
            ADMIN,
        ),
    ],
    "set_user": [
        Promise(
            Request("PATCH", "/v1/users/tenant-operator", {"role": "zone-admin"}),
            ADMIN,
            Request("PATCH", f"/v1/users/{SECRET}-operator", {"tenant": "acme"}),
            ADMIN,
        )
    ],
    "delete_user": [
        Promise(
            Request("DELETE", "/v1/users/acme-second"),
            ADMIN,
            Request("DELETE", f"/v1/users/{SECRET}-operator"),
            ADMIN,
        )
    ],
    "list_tokens": [
        Promise(
            Request("GET", "/v1/tokens", shows="token of acme-second"),
            LOOK,
            Request("GET", "/v1/tokens", shows=f"token of {SECRET}-operator"),
            LOOK_OTHER,
        )
    ],
    "create_token": [
        Promise(
            Request("POST", "/v1/tokens", {"user": "acme-second", "life_s": 3600}),
            ADMIN,
            Request("POST", "/v1/tokens", {"user": f"{SECRET}-operator", "life_s": 3600}),
            ADMIN,
        )
    ],
    "revoke_token": [
        Promise(
            Request("DELETE", "/v1/tokens/{acme-second}"),
            WRITE,
            Request(
                "DELETE", f"/v1/tokens/{{{SECRET}-operator}}", absent="/v1/tokens/00ff00ff00ff00ff"
            ),
            (REFUSED, NOTHING, CHANGES, REFUSED),
        )
    ],
    "zone_audit": [audited("/v1/audit", LOOK)],
    "node_audit": [audited("/v1/nodes/n1/audit", (REFUSED, SEES, SEES, SEES))],
    "node_endpoints": [
        Promise(
            Request("GET", "/v1/nodes/n1/endpoints", shows="web-1"),
            (SEES, REFUSED, SEES, SEES),
            Request("GET", "/v1/nodes/n1/endpoints", shows=ENDPOINTS["zeta"][0]),
            (SEES, REFUSED, SEES, SEES),
        )
    ],
    # In a zone: tests/trust.
    "zone": [both(Request("GET", "/v1/zone"), (INVALID, REFUSED, INVALID, INVALID))],
    "invite_node": [
        both(Request("POST", "/v1/joins", {"node": "n9"}), (REFUSED, REFUSED, INVALID, REFUSED))
    ],
    "rotate_node": [
        both(Request("POST", "/v1/nodes/n1/rotate", {}), (REFUSED, REFUSED, INVALID, REFUSED))
    ],
    "change_authority": [
        both(
            Request("POST", "/v1/zone/authority", {"step": "begin"}),
            (REFUSED, REFUSED, INVALID, REFUSED),
        )
    ],
    "node_mesh": [
        both(Request("GET", "/v1/nodes/n1/mesh", shows="n2"), (SEES, REFUSED, SEES, SEES))
    ],
    "zone_mesh": [both(Request("GET", "/v1/mesh", shows="n2"), (SEES, REFUSED, SEES, SEES))],
    "cordon": [both(Request("POST", "/v1/nodes/n1/cordon", {}), ADMIN)],
    "uncordon": [both(Request("POST", "/v1/nodes/n1/uncordon", {}), ADMIN_SEES)],
    "remove_node": [both(Request("POST", "/v1/nodes/n2/remove", {}), ADMIN)],
    "backup": [both(Request("POST", "/v1/zone/backup", {}, shows="web-1"), ADMIN_SEES)],
    "restore": [
        both(Request("POST", "/v1/zone/restore", {}), (REFUSED, REFUSED, INVALID, REFUSED))
    ],
    "trial": [Promise(trial("acme"), READ, trial("zeta"), READ_OTHER)],
    "status": [counted("/v1/status")],
    "policy_log": [counted("/v1/policy-log")],
    "node_policy_log": [counted("/v1/nodes/n1/policy-log")],
    "node_counters": [counted("/v1/nodes/n1/counters")],
    "zone_counters": [
        Promise(
            Request("GET", "/v1/counters", shows=DOMAIN["acme"]),
            READ,
            Request("GET", "/v1/counters", shows=DOMAIN["zeta"]),
            LIST_OTHER,
        )
    ],
}
