"""Routes that read objects."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from daemon.api.answers import Listing, View
from daemon.api.backend import BackendDep
from daemon.api.errors import NotFoundError
from daemon.api.reports import read_reports
from daemon.api.sight import Sight, SightDep
from daemon.health.verdict import Report, verdicts_of
from daemon.model.derive import uplinks_of
from daemon.model.object import (
    ZONE_KINDS,
    Domain,
    Endpoint,
    Kind,
    Object,
    Ref,
    allocated_document,
    ref_of,
    spec_document,
)
from daemon.model.prefix import one_to_one
from daemon.reconcile.status import (
    Exceptional,
    NodeStatus,
    by_object,
    concerned_nodes,
    object_status,
)
from daemon.store.interface import Item, Store
from daemon.zone.keys import ROOT, health_prefix, object_key
from daemon.zone.liveness import read_liveness
from daemon.zone.quota import RESOURCES, used_now
from daemon.zone.read import decode, read_current

router = APIRouter(prefix="/v1/objects", tags=["objects"])

#: Kinds whose nodes are those of the endpoints they are about.
_OF_MANY = (Kind.DOMAIN, Kind.ADMIN_POLICY)


@router.get("/{kind}", operation_id="list_objects", summary="List the objects of a kind")
async def list_objects(
    backend: BackendDep,
    sight: SightDep,
    kind: Kind,
    tenant: str | None = None,
    domain: str | None = None,
) -> Listing:
    """`tenant` and `domain` narrow it; the revision is the one all were read at."""
    listing = await backend.store.list(f"{ROOT}{kind}/")
    reports = await read_reports(backend.store)
    pairs = [(decode(kind, item.value), item) for item in listing.items]
    endpoints = await _endpoints(backend.store) if kind in _OF_MANY else []
    exceptions = by_object(reports)
    items = tuple(
        _view(found, item, endpoints, reports, exceptions)
        for found, item in pairs
        if _in_scope(ref_of(found), tenant, domain) and _is_visible(ref_of(found), sight)
    )
    return Listing(items=await _shown(backend.store, sight, items), revision=listing.revision)


@router.get("/{kind}/{path:path}", operation_id="get_object", summary="Read one object")
async def get_object(backend: BackendDep, sight: SightDep, kind: Kind, path: str) -> View:
    """`path` is `acme`, `acme/shop`, `acme/shop/web-1` or `n1`, as the kind asks."""
    hint = f"see which there are: plumctl get {kind}"
    try:
        ref = Ref.parse(kind, path)
    except ValueError as error:
        raise NotFoundError(str(error), hint) from error
    item = await backend.store.get(object_key(ref)) if _is_visible(ref, sight) else None
    if item is None:
        raise NotFoundError(f"there is no {ref.text}", hint)
    reports = await read_reports(backend.store)
    endpoints = await _endpoints(backend.store) if kind in _OF_MANY else []
    found = decode(kind, item.value)
    view = _view(found, item, endpoints, reports, by_object(reports))
    if isinstance(found, Domain):
        view = view.model_copy(update={"health": await _health(backend.store, found, path)})
    if isinstance(found, Endpoint):
        view = view.model_copy(update={"public": await _public(backend.store, found)})
    return (await _shown(backend.store, sight, (view,)))[0]


async def _health(store: Store, domain: Domain, path: str) -> Report | None:
    """Verdicts of the balancers with checks, as the backends' nodes wrote them."""
    checked = [one.name for one in domain.spec.load_balancers if one.health]
    if not checked:
        return None
    said = verdicts_of((await store.list(health_prefix(path))).items)
    return {name: said.get(name, {}) for name in checked}


async def _public(store: Store, endpoint: Endpoint) -> dict[str, str] | None:
    """Of every router that leads out: floating addresses, and those a prefix stands for."""
    ref = Ref(kind=Kind.DOMAIN, tenant=endpoint.tenant, name=endpoint.spec.domain)
    item = await store.get(object_key(ref))
    domain = decode(Kind.DOMAIN, item.value) if item else None
    if not isinstance(domain, Domain):
        return None
    addresses = {endpoint.name: endpoint.addresses}
    return {
        str(public): str(own)
        for _, _, uplink in uplinks_of(domain.spec)
        for public, _, own in one_to_one(uplink, addresses)
    }


async def _shown(store: Store, sight: Sight, views: tuple[View, ...]) -> tuple[View, ...]:
    """Views of one kind: tenants with what they use, nodes as far as they may be seen."""
    kind = views[0].kind if views else None
    if kind is Kind.NODE:
        lives = await read_liveness(store)
        judged = (v.model_copy(update={"liveness": lives.get(v.name)}) for v in views)
        return tuple(map(sight.node, judged))
    if kind is Kind.EXTERNAL:
        return tuple(map(sight.external, views))
    if kind is not Kind.TENANT:
        return views
    _, snapshot = await read_current(store)
    names = {view.name for view in views}
    used = await asyncio.to_thread(used_now, snapshot, names)
    nothing = dict.fromkeys(RESOURCES, 0)
    return tuple(v.model_copy(update={"used": dict(used.get(v.name, nothing))}) for v in views)


def _is_visible(ref: Ref, sight: Sight) -> bool:
    return ref.kind in ZONE_KINDS or sight.sees(ref)


def _in_scope(ref: Ref, tenant: str | None, domain: str | None) -> bool:
    if tenant and tenant != (ref.name if ref.kind is Kind.TENANT else ref.tenant):
        return False
    own = ref.name if ref.kind is Kind.DOMAIN else ref.domain
    return not domain or domain == own


async def _endpoints(store: Store) -> list[Endpoint]:
    listing = await store.list(f"{ROOT}{Kind.ENDPOINT}/")
    found = (decode(Kind.ENDPOINT, item.value) for item in listing.items)
    return [item for item in found if isinstance(item, Endpoint)]


def _view(
    found: Object,
    item: Item,
    endpoints: list[Endpoint],
    reports: dict[str, NodeStatus],
    exceptions: dict[tuple[str, Kind, str], Exceptional],
) -> View:
    ref = ref_of(found)
    revision = item.mod_revision
    nodes = concerned_nodes(found, endpoints)
    return View(
        kind=ref.kind,
        tenant=ref.tenant,
        domain=ref.domain,
        name=ref.name,
        spec=spec_document(found),
        allocated=allocated_document(found),
        revision=revision,
        status=object_status(found, revision, nodes, reports, exceptions),
    )
