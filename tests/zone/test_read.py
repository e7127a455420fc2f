"""Following the store gives what listing it gives."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import cast

import pytest

from daemon.model.manifest import parse_manifests
from daemon.model.object import Kind, Ref
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Item, Listing, Put, Store, StoreError
from daemon.zone.apply import apply, delete
from daemon.zone.format import check_format
from daemon.zone.history import rollback
from daemon.zone.keys import IDENTITY, OBJECT_PREFIXES, ROOT
from daemon.zone.read import advance, find, read_object, read_snapshot, snapshot_of
from daemon.zone.transact import read_zone

pytestmark = pytest.mark.asyncio

SHOP = Path(__file__).parents[2] / "examples" / "shop.yaml"
NODES = "\n---\n".join(
    f"{{kind: node, name: n{i}, spec: {{vtep: 192.0.2.{i}}}}}" for i in (1, 2, 3)
)


async def test_a_watched_snapshot_equals_a_listed_one(store: Store) -> None:
    await apply(store, parse_manifests(NODES), actor="test")
    snapshot = await read_snapshot(store)
    await apply(store, parse_manifests(SHOP.read_text()), actor="test")
    web = Ref.parse(Kind.ENDPOINT, "acme/shop/web-1")
    await delete(store, [web], actor="test")
    await rollback(store, 1, actor="test")
    await rollback(store, 2, actor="test")
    wanted = await read_snapshot(store)
    assert find(wanted, web) is not None

    async def follow(snapshot: Snapshot) -> Snapshot:
        async for batch in store.watch(OBJECT_PREFIXES, snapshot.revision):
            snapshot = advance(snapshot, batch)
            if snapshot.revision >= wanted.revision:
                break
        return snapshot

    assert await asyncio.wait_for(follow(snapshot), 10) == wanted
    assert snapshot_of(await store.list(ROOT)) == wanted


class _Interrupted:
    """The store, where somebody else applies the shop in the middle of the first reading."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.done = False

    async def get(self, key: str) -> Item | None:
        return await self.store.get(key)

    async def list(self, prefix: str) -> Listing:
        if not self.done:
            self.done = True
            await apply(self.store, parse_manifests(SHOP.read_text()), actor="other")
        return await self.store.list(prefix)


async def test_objects_and_counters_are_read_of_one_moment(store: Store) -> None:
    """Else old counters hand out ids that the objects beside them already have."""
    await apply(store, parse_manifests(NODES), actor="test")
    state = await read_zone(cast(Store, _Interrupted(store)))
    highest = max(endpoint.id for endpoint in state.snapshot.endpoints.values())
    assert state.counters.endpoint == highest


async def test_an_object_is_read_with_its_revision(store: Store) -> None:
    result = await apply(store, parse_manifests(NODES), actor="test")
    found = await read_object(store, Ref.parse(Kind.NODE, "n2"))
    assert found is not None
    node, revision = found
    assert (node, revision) == (
        (await read_snapshot(store)).nodes["n2"],
        result.revision,
    )
    assert await read_object(store, Ref.parse(Kind.NODE, "n9")) is None


@pytest.mark.parametrize("found", [None, 1])
async def test_a_store_of_this_format_or_an_unmarked_one_is_used(
    store: Store, found: int | None
) -> None:
    if found is not None:
        await store.commit([], [Put(IDENTITY, json.dumps({"id": "x", "format": found}).encode())])
    await check_format(store)


@pytest.mark.parametrize(
    ("value", "why"),
    [(b'{"id": "x", "format": 2}', "format 2 .* upgrade plumd"), (b"[]", "zone restore")],
)
async def test_a_store_of_a_later_format_is_refused(store: Store, value: bytes, why: str) -> None:
    await store.commit([], [Put(IDENTITY, value)])
    with pytest.raises(StoreError, match=why):
        await check_format(store)


async def test_an_object_of_a_later_model_is_named_and_refused(store: Store) -> None:
    await apply(store, parse_manifests(SHOP.read_text() + "---\n" + NODES), actor="test")
    key = f"{ROOT}endpoint/acme/shop/web-1"
    item = await store.get(key)
    assert item is not None
    value = json.loads(item.value)
    value["spec"]["later"] = True
    await store.commit([], [Put(key, json.dumps(value).encode())])
    with pytest.raises(StoreError, match=r"endpoint acme/shop/web-1 .*spec\.later.* upgrade plumd"):
        await read_snapshot(store)
