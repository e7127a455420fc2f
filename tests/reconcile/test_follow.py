"""A node follows its own part of the zone, and hears of nothing else."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.compiler.node import compile_node
from daemon.compiler.result import Device, Runtime
from daemon.model.manifest import read_manifests
from daemon.model.object import Kind, Ref
from daemon.model.snapshot import Snapshot
from daemon.reconcile.follow import Follower
from daemon.store.interface import Batch, Put, Store, StoreError
from daemon.store.open import open_store
from daemon.zone.apply import apply, delete
from daemon.zone.errors import ZoneError
from daemon.zone.history import rollback
from daemon.zone.keys import object_key
from daemon.zone.read import read_snapshot
from tests.store.conftest import BACKENDS

NODES = ("n1", "n2", "n3")
#: shop-2 and shop share a prefix: an inexact watch of one would hear the other.
DOMAINS = ("shop", "shop-2", "blog")


def domain(name: str, **spec: object) -> dict[str, object]:
    spec = {"bridges": [{"name": "b", "subnets": ["10.0.0.0/24"]}], **spec}
    return {"kind": "domain", "tenant": "t", "name": name, "spec": spec}


def endpoint(name: str, owner: str, node: str) -> dict[str, object]:
    spec = {"domain": owner, "bridge": "b", "node": node}
    return {"kind": "endpoint", "tenant": "t", "name": name, "spec": spec}


ZONE = [
    *({"kind": "node", "name": n, "spec": {"vtep": f"192.0.2.{i}"}} for i, n in enumerate(NODES)),
    {"kind": "tenant", "name": "t"},
    *map(domain, DOMAINS),
]


async def put(store: Store, *objects: object) -> int:
    return (await apply(store, read_manifests(objects), actor="test")).revision


async def remove(store: Store, owner: str, name: str) -> int:
    ref = Ref(kind=Kind.ENDPOINT, tenant="t", domain=owner, name=name)
    return (await delete(store, [ref], actor="test")).revision


def part(full: Snapshot, node: str) -> Snapshot:
    """What `node` needs of a zone, worked out from all of it."""
    hosted = {f"t/{e.spec.domain}" for e in full.endpoints.values() if e.spec.node == node}
    return Snapshot(
        0,
        {},
        full.nodes,
        {path: d for path, d in full.domains.items() if path in hosted},
        {p: e for p, e in full.endpoints.items() if p.rpartition("/")[0] in hosted},
    )


def bare(snapshot: Snapshot) -> tuple[object, ...]:
    return (snapshot.nodes, snapshot.domains, snapshot.endpoints)


class Following:
    """One node's follower and what it received."""

    def __init__(self, store: Store, node: str) -> None:
        self.seen: list[Snapshot] = []
        self.failures: list[str] = []
        self.follower = Follower(store, node, self.seen.append, self.failures.append, 0.02)

    async def state(self, wanted: Snapshot) -> None:
        """Wait until what was received last is `wanted`."""
        async with asyncio.timeout(10):
            while not self.seen or bare(self.seen[-1]) != bare(wanted):
                await asyncio.sleep(0.002)


@asynccontextmanager
async def following(store: Store, *nodes: str) -> AsyncIterator[list[Following]]:
    all_of_them = [Following(store, node) for node in nodes]
    tasks = [asyncio.create_task(one.follower.run()) for one in all_of_them]
    try:
        yield all_of_them
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(params=sorted(BACKENDS))
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    backend = BACKENDS[request.param]()
    try:
        async with await backend.open() as opened:
            yield opened
    finally:
        backend.dispose()


async def test_a_change_elsewhere_sends_the_node_nothing(store: Store) -> None:
    await put(store, *ZONE, endpoint("a", "shop", "n1"), endpoint("b", "shop-2", "n2"))
    async with following(store, "n1", "n2") as (one, other):
        full = await read_snapshot(store)
        await one.state(part(full, "n1"))
        await other.state(part(full, "n2"))
        before = one.follower.batches
        await put(store, endpoint("c", "shop-2", "n2"), endpoint("d", "blog", "n3"))
        await put(store, domain("shop-2", description="changed"))
        await remove(store, "shop-2", "b")
        await put(store, endpoint("e", "shop", "n3"))  # this one concerns it
        full = await read_snapshot(store)
        await other.state(part(full, "n2"))
        await one.state(part(full, "n1"))
        assert one.follower.batches == before + 1
        assert all("t/shop-2" not in seen.domains for seen in one.seen)


async def test_an_object_of_a_later_model_keeps_the_last_state(store: Store) -> None:
    await put(store, *ZONE, endpoint("a", "shop", "n1"))
    async with following(store, "n1") as (one,):
        full = await read_snapshot(store)
        await one.state(part(full, "n1"))
        key = object_key(Ref.parse(Kind.DOMAIN, "t/shop"))
        item = await store.get(key)
        assert item is not None
        later = {**json.loads(item.value), "later": True}
        await store.commit([], [Put(key, json.dumps(later).encode())])
        async with asyncio.timeout(10):
            while not any("domain t/shop" in why and "later" in why for why in one.failures):
                await asyncio.sleep(0.01)
        assert bare(one.seen[-1]) == bare(part(full, "n1"))
        await store.commit([], [Put(key, item.value)])
        await put(store, domain("shop", description="goes on"))
        await one.state(part(await read_snapshot(store), "n1"))


async def test_a_domain_comes_with_its_first_endpoint_and_goes_with_its_last(store: Store) -> None:
    await put(store, *ZONE, endpoint("b", "blog", "n2"))
    async with following(store, "n1") as (one,):
        await one.state(part(await read_snapshot(store), "n1"))
        assert not one.seen[-1].domains
        await put(store, endpoint("a", "blog", "n1"))
        full = await read_snapshot(store)
        await one.state(part(full, "n1"))
        assert set(one.seen[-1].endpoints) == {"t/blog/a", "t/blog/b"}
        await remove(store, "blog", "a")
        await one.state(part(await read_snapshot(store), "n1"))
        assert not one.seen[-1].domains
        assert one.follower.listings == 1


class Flaky:
    """A store whose watches break, and which can be told to go back in time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.breaks = asyncio.Event()
        self.lists: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def list(self, prefix: str) -> Any:
        self.lists.append(prefix)
        return await self._store.list(prefix)

    async def watch(
        self, prefixes: Sequence[str], from_revision: int, keys: Collection[str] = ()
    ) -> AsyncIterator[Batch]:
        watch = cast(Any, self._store.watch(prefixes, from_revision, keys))
        async with aclosing(watch) as batches:
            while True:
                batch = asyncio.ensure_future(anext(batches))
                broken = asyncio.ensure_future(self.breaks.wait())
                await asyncio.wait({batch, broken}, return_when=asyncio.FIRST_COMPLETED)
                if broken.done():  # also if `breaks` was cleared meanwhile
                    batch.cancel()
                    await asyncio.gather(batch, return_exceptions=True)
                    raise StoreError("it does not answer")
                broken.cancel()
                yield batch.result()


async def test_a_broken_watch_goes_on_where_it_was_without_listing_again(store: Store) -> None:
    await put(store, *ZONE, endpoint("a", "shop", "n1"))
    flaky = Flaky(store)
    async with following(cast(Store, flaky), "n1") as (one,):
        await one.state(part(await read_snapshot(store), "n1"))
        flaky.breaks.set()
        await put(store, endpoint("b", "shop", "n2"))
        async with asyncio.timeout(5):
            while len(one.failures) < 3:
                await asyncio.sleep(0.01)
        flaky.lists.clear()
        flaky.breaks.clear()
        await one.state(part(await read_snapshot(store), "n1"))
        assert set(flaky.lists) <= {"/plum/placement/n1/"}
        assert one.follower.listings == 1


async def test_compacted_history_is_listed_again(store: Store) -> None:
    """While the node is away more happens than the store keeps."""
    await put(store, *ZONE, endpoint("a", "shop", "n1"))
    flaky = Flaky(store)
    async with following(cast(Store, flaky), "n1") as (one,):
        await one.state(part(await read_snapshot(store), "n1"))
        flaky.breaks.set()
        for number in range(30):
            await put(store, domain("shop", description=f"{number}"))
        flaky.breaks.clear()
        await one.state(part(await read_snapshot(store), "n1"))
        assert one.follower.listings == 2


#: Endpoints to write (name, domain, node), one to delete, or a revision to go back to.
steps = st.one_of(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(DOMAINS), st.sampled_from(NODES)),
        min_size=1,
        max_size=3,
        unique_by=lambda one: one[:2],
    ),
    st.tuples(st.sampled_from(DOMAINS), st.sampled_from("abcd")),
    st.sampled_from(DOMAINS),
    st.integers(2, 8),
)


async def take(store: Store, step: object, number: int) -> None:
    match step:
        case int(seq):
            await rollback(store, seq, actor="test")
        case (str(owner), str(name)):
            await remove(store, owner, name)
        case str(owner):
            await put(store, domain(owner, description=f"{number}"))
        case list(some):
            await put(store, *(endpoint(*one) for one in some))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(steps, max_size=6), min_size=1, max_size=3))
def test_the_follower_ends_with_what_a_fresh_listing_gives(writers: list[list[object]]) -> None:
    async def write(store: Store, todo: list[object]) -> None:
        for number, step in enumerate(todo):
            try:
                await take(store, step, number)
            except ZoneError:
                continue  # nothing there to delete or to go back to

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with await open_store(f"sqlite://{folder}/zone.db") as store:
                await put(store, *ZONE)
                async with following(store, *NODES) as followers:
                    await asyncio.gather(*(write(store, todo) for todo in writers))
                    full = await read_snapshot(store)
                    for node, one in zip(NODES, followers, strict=True):
                        await one.state(part(full, node))
                        assert_states_hold_together(one.seen, node)
                        assert compiled(one.seen[-1], node) == compiled(full, node)

    asyncio.run(run())


def assert_states_hold_together(seen: list[Snapshot], node: str) -> None:
    """Two revisions mixed could show a slot twice, or an endpoint without its domain.

    What is gone may be gone early: of a domain that is just being listed.
    """
    revisions = [snapshot.revision for snapshot in seen]
    assert revisions == sorted(revisions)
    for snapshot in seen:
        own = [e for e in snapshot.endpoints.values() if e.spec.node == node]
        assert len({e.slot for e in own}) == len(own)
        assert {p.rpartition("/")[0] for p in snapshot.endpoints} <= snapshot.domains.keys()


def compiled(snapshot: Snapshot, node: str) -> object:
    own = sorted(p for p, e in snapshot.endpoints.items() if e.spec.node == node)
    devices = {path: Device(100 + number) for number, path in enumerate(own)}
    result = compile_node(snapshot, node, devices, Runtime(2))
    return (result.packed, result.names, result.mtu)
