"""History, rollback, and changes that revert unless confirmed."""

from __future__ import annotations

import asyncio

import pytest

from daemon.model.manifest import parse_manifests
from daemon.model.object import Kind, Ref
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Store
from daemon.store.open import open_store
from daemon.zone.apply import apply, delete
from daemon.zone.errors import NOT_FOUND, ZoneError
from daemon.zone.history import (
    confirm,
    due_confirms,
    get_revision,
    history,
    pending_confirms,
    revert,
    rollback,
)
from daemon.zone.keys import ROOT
from daemon.zone.read import read_snapshot
from daemon.zone.revision import Verb
from daemon.zone.transact import Result

pytestmark = pytest.mark.asyncio

ZONE = """
{kind: node, name: n1, spec: {vtep: 192.0.2.1}}
---
{kind: tenant, name: t}
---
{kind: tenant, name: u}
---
{kind: domain, name: d, tenant: t, spec: {bridges: [{name: web, subnets: [10.0.0.0/24]}]}}
"""


def endpoint(name: str, more: str = "") -> str:
    spec = f"domain: d, bridge: web, node: n1{more}"
    return f"{{kind: endpoint, name: {name}, tenant: t, spec: {{{spec}}}}}"


def tenant(name: str, description: str) -> str:
    return f"{{kind: tenant, name: {name}, spec: {{description: {description}}}}}"


async def put(store: Store, text: str, confirm_s: float | None = None) -> Result:
    return await apply(
        store, parse_manifests(text), actor="ann", confirm_s=confirm_s, clock=lambda: 1000.0
    )


async def drop(store: Store, *names: str) -> Result:
    refs = [Ref.parse(Kind.ENDPOINT, f"t/d/{name}") for name in names]
    return await delete(store, refs, actor="bob")


def objects(snapshot: Snapshot) -> tuple[object, ...]:
    return (snapshot.tenants, snapshot.nodes, snapshot.domains, snapshot.endpoints)


async def test_history_says_who_when_and_what(store: Store) -> None:
    await apply(store, parse_manifests(ZONE), actor="ann", comment="first", clock=lambda: 1234.5)
    await put(store, tenant("t", "ours"))
    newest, first = await history(store)
    assert (first.seq, first.actor, first.at, first.comment) == (1, "ann", 1234.5, "first")
    assert [c["action"] for c in first.summary()["changes"]] == ["created"] * 4
    assert newest.document()["changes"] == [
        {
            "action": "changed",
            "kind": "tenant",
            "path": "t",
            "diff": "--- tenant t\n+++ tenant t\n@@ -0,0 +1 @@\n+description: ours\n",
        }
    ]
    assert await get_revision(store, 2) == newest
    assert await history(store, limit=1) == [newest]


async def test_what_changes_nothing_writes_nothing(store: Store) -> None:
    await put(store, ZONE)
    before = await store.list(ROOT)
    again = await put(store, ZONE.replace("name: u", "name: u, spec: {description: ''}"))
    assert again.history is None
    assert {change.action.value for change in again.changes} == {"unchanged"}
    assert again.revision == before.revision
    assert await store.list(ROOT) == before


async def test_a_dry_run_says_the_same_and_writes_nothing(store: Store) -> None:
    await put(store, ZONE)
    before = await store.list(ROOT)
    manifests = parse_manifests(endpoint("a"))
    dry = await apply(store, manifests, actor="ann", dry_run=True, confirm_s=60)
    assert await store.list(ROOT) == before
    real = await apply(store, manifests, actor="ann")
    assert (dry.history, dry.changes) == (None, real.changes)


async def test_rollback_restores_everything_with_ids_and_addresses(store: Store) -> None:
    await put(store, ZONE + "---\n" + endpoint("a") + "\n---\n" + endpoint("b"))
    then = objects(await read_snapshot(store))
    await drop(store, "a", "b")
    await put(store, endpoint("b") + "\n---\n" + endpoint("a"))  # swapped allocations
    await put(store, endpoint("c", ", labels: {x: y}"))
    await put(
        store,
        "{kind: domain, name: d, tenant: t, spec: {bridges: [{name: web, "
        "subnets: [10.0.0.0/24]}, {name: more}]}}",
    )
    result = await rollback(store, 1, actor="ann")
    assert objects(await read_snapshot(store)) == then
    newest = (await history(store))[0]
    assert (newest.seq, newest.verb, newest.of) == (result.history, Verb.ROLLBACK, 1)


async def test_rollback_of_a_rollback_goes_forward_again(store: Store) -> None:
    await put(store, ZONE)
    await put(store, endpoint("a"))
    then = objects(await read_snapshot(store))
    await rollback(store, 1, actor="ann")
    await rollback(store, 2, actor="ann")
    assert objects(await read_snapshot(store)) == then


async def test_rollback_to_nothing_empties_the_zone(store: Store) -> None:
    await put(store, ZONE)
    await put(store, endpoint("a"))
    await rollback(store, 0, actor="ann")
    assert not any(objects(await read_snapshot(store)))


async def test_rollback_to_the_last_revision_changes_nothing(store: Store) -> None:
    await put(store, ZONE)
    before = await store.list(ROOT)
    assert (await rollback(store, 1, actor="ann")).history is None
    assert await store.list(ROOT) == before


async def test_rollback_to_what_never_was_is_not_found(store: Store) -> None:
    await put(store, ZONE)
    for seq in (2, -1):
        with pytest.raises(ZoneError) as caught:
            await rollback(store, seq, actor="ann")
        assert caught.value.code == NOT_FOUND


async def test_a_confirmed_revision_stays(store: Store) -> None:
    await put(store, ZONE)
    await put(store, endpoint("a"), confirm_s=60)
    assert [(p.seq, p.deadline) for p in await pending_confirms(store)] == [(2, 1060.0)]
    await confirm(store, 2)
    assert await due_confirms(store, 5000.0) == []
    assert await revert(store, 2) is None
    assert "t/d/a" in (await read_snapshot(store)).endpoints
    with pytest.raises(ZoneError) as caught:
        await confirm(store, 2)
    assert caught.value.code == NOT_FOUND


async def test_an_unconfirmed_revision_reverts_after_a_restart(store_url: str) -> None:
    async with await open_store(store_url) as store:
        await put(store, ZONE)
        then = objects(await read_snapshot(store))
        await put(store, endpoint("a") + "\n---\n" + tenant("t", "new"), confirm_s=60)
    async with await open_store(store_url) as store:
        assert await due_confirms(store, 1059.9) == []
        assert await due_confirms(store, 1060.0) == [2]
        result = await revert(store, 2)
        assert result is not None
        assert result.history == 3
        assert objects(await read_snapshot(store)) == then
        newest = (await history(store))[0]
        assert (newest.verb, newest.of, newest.actor) == (Verb.REVERT, 2, "plumd")
        with pytest.raises(ZoneError):
            await confirm(store, 2)


async def test_of_several_daemons_exactly_one_reverts(store: Store, store_url: str) -> None:
    await put(store, ZONE)
    await put(store, endpoint("a"), confirm_s=1)
    others = [await open_store(store_url) for _ in range(4)]
    try:
        results = await asyncio.gather(*(revert(other, 2) for other in others))
    finally:
        for other in others:
            await other.close()
    assert len([result for result in results if result is not None]) == 1
    assert [revision.verb for revision in await history(store)] == [
        Verb.REVERT,
        Verb.APPLY,
        Verb.APPLY,
    ]


async def test_a_revert_leaves_what_was_changed_again(store: Store) -> None:
    await put(store, ZONE)
    await put(store, tenant("t", "one") + "\n---\n" + tenant("u", "one"), confirm_s=1)
    await put(store, tenant("u", "two"))
    await revert(store, 2)
    tenants = (await read_snapshot(store)).tenants
    assert (tenants["t"].spec.description, tenants["u"].spec.description) == ("", "two")


async def test_a_revert_takes_what_depends_on_it_along_but_no_other_tenant(store: Store) -> None:
    await put(store, ZONE)
    bridges = "[{name: web, subnets: [10.0.0.0/24]}, {name: new}]"
    domain = f"{{kind: domain, name: d, tenant: t, spec: {{bridges: {bridges}}}}}"
    await put(store, domain, confirm_s=1)
    await put(store, endpoint("x").replace("bridge: web", "bridge: new"))
    await put(store, tenant("u", "other"))
    await revert(store, 2)
    zone = await read_snapshot(store)
    assert [bridge.name for bridge in zone.domains["t/d"].spec.bridges] == ["web"]
    assert not zone.endpoints
    assert zone.tenants["u"].spec.description == "other"


async def test_a_revert_with_nothing_left_to_undo_is_settled(store: Store) -> None:
    await put(store, ZONE)
    await put(store, tenant("t", "one"), confirm_s=1)
    await put(store, tenant("t", "two"))
    result = await revert(store, 2)
    assert result is not None
    assert result.history is None
    assert await pending_confirms(store) == []


async def test_the_time_to_confirm_is_bounded(store: Store) -> None:
    for confirm_s in (0, -1, 1e9, float("nan")):
        with pytest.raises(ZoneError):
            await put(store, ZONE, confirm_s=confirm_s)
