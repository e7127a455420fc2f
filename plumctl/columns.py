"""The table of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plumctl.answers import Counters, View
from plumctl.output import Column, labels_text, number

#: What a tenant's quota may limit, as the daemon names it.
QUOTA = ("domains", "bridges", "routers", "load_balancers", "rules", "endpoints", "flows")

_STATE: tuple[Column[View], ...] = (
    Column("STATE", lambda view: view.state),
    Column("REASON", lambda view: view.reason, wide=True),
)


def columns(kind: str, counters: Counters | None = None) -> Sequence[Column[View]]:
    """Columns of a kind. Endpoints' counters are asked for only with -o wide."""
    if kind == "endpoint":
        return _endpoint(counters)
    tables = {
        "tenant": _TENANT,
        "domain": _DOMAIN,
        "node": _NODE,
        "external": _EXTERNAL,
        "adminpolicy": _ADMIN_POLICY,
    }
    return tables[kind]


def addresses(view: View) -> str:
    given = view.allocated.get("addresses") or view.spec.get("addresses") or ()
    return ",".join(str(address) for address in given)


def mac(view: View) -> str:
    return str(view.allocated.get("mac") or view.spec.get("mac") or "")


def _names(view: View, key: str) -> str:
    return ",".join(str(item["name"]) for item in view.spec.get(key) or ())


def used(view: View, resource: str) -> str:
    """`3/10`, or `3` where nothing is set: what a tenant uses, and may."""
    limit = (view.spec.get("quota") or {}).get(resource)
    now = number(view.used.get(resource))
    return now if limit is None else f"{now}/{limit}"


def _quota(resource: str) -> Column[View]:
    header = resource.upper().replace("_", "-")
    return Column(header, lambda view: used(view, resource), wide=True, right=True)


_TENANT: Sequence[Column[View]] = (
    Column("TENANT", lambda view: view.path),
    Column("DESCRIPTION", lambda view: str(view.spec.get("description") or "")),
    *_STATE,
    *map(_quota, QUOTA),
)
_DOMAIN: Sequence[Column[View]] = (
    Column("DOMAIN", lambda view: view.path),
    Column("BRIDGES", lambda view: _names(view, "bridges")),
    Column("ROUTERS", lambda view: _names(view, "routers")),
    Column("POLICIES", lambda view: _names(view, "policies")),
    *_STATE,
    Column("VNIS", lambda view: _vnis(view), wide=True),
    Column("DESCRIPTION", lambda view: str(view.spec.get("description") or ""), wide=True),
)
_NODE: Sequence[Column[View]] = (
    Column("NODE", lambda view: view.path),
    Column("VTEP", lambda view: str(view.spec.get("vtep") or "")),
    Column("MTU", lambda view: number(view.spec.get("underlay_mtu") or 1500), right=True),
    Column("ROLES", lambda view: ",".join(view.spec.get("roles") or ("edge",))),
    Column("CORDONED", lambda view: "yes" if view.allocated.get("cordoned") else "no"),
    Column("LIFE", lambda view: str((view.document.get("liveness") or {}).get("state") or "")),
    *_STATE,
    Column("WHY", lambda view: str((view.document.get("liveness") or {}).get("why") or "")),
    Column("LABELS", lambda view: labels_text(view.spec.get("labels") or {}), wide=True),
)

_EXTERNAL: Sequence[Column[View]] = (
    Column("EXTERNAL", lambda view: view.path),
    Column(
        "GATEWAYS", lambda view: ",".join(str(g["node"]) for g in view.spec.get("gateways") or ())
    ),
    Column("VLAN", lambda view: str(view.spec.get("vlan") or "")),
    Column("NAT", lambda view: ",".join(view.spec.get("nat") or ())),
    Column("FLOATING", lambda view: ",".join(view.spec.get("floating") or ())),
    *_STATE,
    Column("VNI", lambda view: str(view.allocated.get("vni") or ""), wide=True),
    Column("DESCRIPTION", lambda view: str(view.spec.get("description") or ""), wide=True),
)

_ADMIN_POLICY: Sequence[Column[View]] = (
    Column("ADMINPOLICY", lambda view: view.path),
    Column("TIER", lambda view: str(view.spec.get("tier") or "admin")),
    Column("ORDER", lambda view: number(view.spec.get("order") or 1000), right=True),
    Column("APPLIES-TO", lambda view: _chosen(view.spec.get("applies_to") or {})),
    Column("INGRESS", lambda view: _names(view, "ingress")),
    Column("EGRESS", lambda view: _names(view, "egress")),
    *_STATE,
    Column("DESCRIPTION", lambda view: str(view.spec.get("description") or ""), wide=True),
)


def _chosen(selector: Mapping[str, Any]) -> str:
    owners = [*(selector.get("tenants") or ()), *(selector.get("domains") or ())]
    labels = labels_text(selector.get("labels") or {})
    return " ".join(filter(None, (",".join(owners), labels))) or "all"


def _endpoint(counters: Counters | None) -> Sequence[Column[View]]:
    by_path: dict[str, Mapping[str, Any]] = {}
    for row in counters.endpoints if counters else ():
        by_path[str(row.get("path"))] = row

    def counter(header: str, key: str) -> Column[View]:
        return Column(
            header, lambda view: number(by_path.get(view.path, {}).get(key)), wide=True, right=True
        )

    return (
        Column("ENDPOINT", lambda view: view.path),
        Column("BRIDGE", lambda view: str(view.spec.get("bridge") or "")),
        Column("ADDRESSES", addresses),
        Column("NODE", lambda view: str(view.spec.get("node") or "")),
        *_STATE,
        Column("MAC", mac, wide=True),
        counter("RX-PACKETS", "rx_packets"),
        counter("RX-BYTES", "rx_bytes"),
        counter("TX-PACKETS", "tx_packets"),
        counter("TX-BYTES", "tx_bytes"),
        counter("DROPS", "drop_packets"),
        Column("LABELS", lambda view: labels_text(view.spec.get("labels") or {}), wide=True),
    )


def _vnis(view: View) -> str:
    vnis = view.allocated.get("vnis") or {}
    return ",".join(f"{bridge}={vni}" for bridge, vni in vnis.items())
