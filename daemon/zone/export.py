"""Export: objects as manifests that make them again."""

from __future__ import annotations

from typing import Any

from daemon.model.mac import router_mac
from daemon.model.manifest import Manifest, manifest_of
from daemon.model.object import ZONE_KINDS, Domain, Endpoint, Kind, Object, Ref, ref_of
from daemon.model.snapshot import Snapshot
from daemon.model.yaml_text import to_yaml
from daemon.zone.read import table_of

#: Referred-to before referring, as a person would read them.
ORDER = (
    Kind.NODE,
    Kind.EXTERNAL,
    Kind.TENANT,
    Kind.DOMAIN,
    Kind.ENDPOINT,
    Kind.ADMIN_POLICY,
)


def export(
    snapshot: Snapshot,
    *,
    tenant: str | None = None,
    domain: str | None = None,
    allocated: bool = False,
) -> list[Manifest]:
    """Manifests of the zone, of one tenant, or of one domain (`acme/shop`) and its endpoints.

    What was allocated is left out, so that it is allocated anew elsewhere;
    `allocated` pins MACs and addresses to what they are.
    """
    return [
        Manifest(ref_of(item), _pinned(item)) if allocated else manifest_of(item)
        for kind in ORDER
        for _, item in sorted(table_of(snapshot, kind).items())
        if _is_wanted(ref_of(item), tenant, domain)
    ]


def export_yaml(manifests: list[Manifest]) -> str:
    """One stream of YAML documents."""
    return "---\n".join(to_yaml(manifest.document()) for manifest in manifests)


def _is_wanted(ref: Ref, tenant: str | None, domain: str | None) -> bool:
    if domain is not None:
        return ref.kind in (Kind.DOMAIN, Kind.ENDPOINT) and (
            ref.path == domain or ref.path.startswith(f"{domain}/")
        )
    if tenant is not None:
        return ref.kind not in ZONE_KINDS and tenant == (ref.tenant or ref.name)
    return True


def _pinned(item: Object) -> Any:
    match item:
        case Endpoint():
            pins = {"mac": item.mac, "addresses": item.addresses}
            return item.spec.model_copy(update=pins)
        case Domain():
            routers = tuple(
                router.model_copy(
                    update={"mac": router.mac or router_mac(item.router_ids[router.name])}
                )
                for router in item.spec.routers
            )
            return item.spec.model_copy(update={"routers": routers})
        case _:
            return item.spec
