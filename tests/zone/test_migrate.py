"""A zone moves from SQLite to a real etcd that has etcd's own limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from daemon.model.manifest import read_manifests
from daemon.store.interface import Committed, Compare, Delete, Put, Store, StoreError
from daemon.store.open import open_store
from daemon.zone.apply import apply
from daemon.zone.backup import take
from daemon.zone.errors import ZoneError
from daemon.zone.keys import IDENTITY, RESTORE, ROOT
from daemon.zone.migrate import migrate
from daemon.zone.read import read_snapshot
from tests.store.member import Member

ROOT_DIR = Path(__file__).parents[2]
IDENTITY_A = b'{"id": "zone-a", "format": 1}'
ENDPOINTS = 250  # several steps

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def member() -> Iterator[Member]:
    member = Member(limits=())
    yield member
    member.end()


@pytest_asyncio.fixture
async def target(member: Member) -> AsyncIterator[Store]:
    async with await open_store(f"etcd://{member.endpoint}") as store:
        items = (await store.list("")).items
        for start in range(0, len(items), 100):
            await store.commit([], [Delete(item.key) for item in items[start : start + 100]])
        yield store


def web(name: str) -> dict[str, object]:
    spec = {"domain": "shop", "bridge": "web", "node": "n1"}
    return {"kind": "endpoint", "tenant": "acme", "name": name, "spec": spec}


async def put(store: Store, *objects: object) -> None:
    await apply(store, read_manifests(list(objects)), actor="test")


@pytest_asyncio.fixture
async def shop(store: Store) -> Store:
    await store.commit([], [Put(IDENTITY, IDENTITY_A), Put(f"{ROOT}user/ann", b"\xff\x00")])
    await put(
        store,
        {"kind": "node", "name": "n1", "spec": {"vtep": "192.0.2.1"}},
        {"kind": "tenant", "name": "acme"},
        {
            "kind": "domain",
            "tenant": "acme",
            "name": "shop",
            "spec": {"bridges": [{"name": "web", "subnets": ["10.0.0.0/20"]}]},
        },
        *(web(f"w-{i}") for i in range(ENDPOINTS)),
    )
    lease = await store.grant(60)
    volatile = [Put(f"{ROOT}status/n1", b"{}"), Put(f"{ROOT}alive/n1", b"{}", lease)]
    await store.commit([], volatile)
    return store


async def lasting(store: Store) -> dict[str, bytes]:
    return {item.key: item.value for item in (await take(store, "1"))[1]}


async def move(source: Store, target: object, resume: bool = False) -> int:
    moved = await migrate(
        source,
        target,  # type: ignore[arg-type]
        version="1",
        actor="test",
        resume=resume,
    )
    return moved.keys


class Breaking:
    """A store that fails for good after some commits; the rest is the real one's."""

    def __init__(self, store: Store, commits: int) -> None:
        self._store, self.left = store, commits

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def commit(
        self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
    ) -> Committed:
        if not self.left:
            raise StoreError("gone")
        self.left -= 1
        return await self._store.commit(compares, writes)


async def test_every_lasting_key_moves_and_the_zone_goes_on(shop: Store, target: Store) -> None:
    before = await lasting(shop)
    assert await move(shop, target) == len(before)
    assert await lasting(target) == before == await lasting(shop)
    assert await target.get(f"{ROOT}status/n1") is None
    assert await target.get(f"{ROOT}alive/n1") is None
    old = (await read_snapshot(shop)).endpoints.keys()
    await put(target, web("later"))
    endpoints = (await read_snapshot(target)).endpoints
    assert len(endpoints) == ENDPOINTS + 1
    assert len({item.slot for item in endpoints.values()}) == ENDPOINTS + 1
    assert endpoints.keys() > old


async def test_a_store_in_use_or_of_another_zone_is_left_alone(shop: Store, target: Store) -> None:
    await target.commit([], [Put(f"{ROOT}status/n9", b"{}")])
    with pytest.raises(ZoneError, match="not empty: 1 keys, the first is /plum/status/n9"):
        await move(shop, target, resume=True)
    other = b'{"id": "zone-b", "format": 1}'
    await target.commit([], [Delete(f"{ROOT}status/n9"), Put(IDENTITY, other)])
    with pytest.raises(ZoneError, match="belongs to another zone"):
        await move(shop, target, resume=True)
    assert [(item.key, item.value) for item in (await target.list("")).items] == [(IDENTITY, other)]


async def test_an_empty_source_is_refused(store: Store, target: Store) -> None:
    with pytest.raises(ZoneError, match="holds no zone"):
        await move(store, target)
    assert (await target.list("")).items == ()


async def test_what_broke_off_is_taken_over_when_told(shop: Store, target: Store) -> None:
    before = await lasting(shop)
    for commits in (1, 2, 3):
        with pytest.raises(StoreError, match="gone"):
            await move(shop, Breaking(target, commits), resume=True)
    assert await target.get(RESTORE) is not None
    with pytest.raises(ZoneError, match="broke off") as refused:
        await move(shop, target)
    assert "--resume" in refused.value.hint
    assert await move(shop, target, resume=True) == len(before)
    assert await lasting(target) == before


async def test_a_change_of_the_old_store_meanwhile_is_noticed(shop: Store, target: Store) -> None:
    class Meanwhile(Breaking):
        async def commit(
            self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
        ) -> Committed:
            if self.left == 98:
                await put(shop, web("late"))
            return await super().commit(compares, writes)

    with pytest.raises(ZoneError, match="written to while it was moved"):
        await move(shop, Meanwhile(target, 100))


async def test_a_foreign_write_into_the_new_store_is_noticed(shop: Store, target: Store) -> None:
    class Meanwhile(Breaking):
        async def commit(
            self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
        ) -> Committed:
            done = await super().commit(compares, writes)
            if Delete(RESTORE) in writes:
                await self._store.commit([], [Put(f"{ROOT}user/eve", b"")])
            return done

    with pytest.raises(ZoneError, match=r"1 keys differ, the first is /plum/user/eve"):
        await move(shop, Meanwhile(target, 100))


def plumctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "plumctl", "zone", "migrate", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT_DIR)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def test_the_command_moves_only_what_nobody_uses(
    store_url: str, shop: Store, target: Store, member: Member, tmp_path: Path
) -> None:
    urls = ("--from", store_url, "--to", f"etcd://{member.endpoint}")
    used = plumctl(*urls)
    assert used.returncode == 1 and f"process {os.getpid()} uses it" in used.stderr
    before = await lasting(shop)
    await shop.close()
    moved = plumctl(*urls, "-o", "json")
    assert moved.returncode == 0, moved.stderr
    assert json.loads(moved.stdout)["keys"] == len(before)
    assert "--store" in moved.stderr
    assert await lasting(target) == before
    assert plumctl(*urls).returncode == 6
    missing = plumctl("--from", f"sqlite://{tmp_path}/none.db", "--to", urls[3])
    assert missing.returncode == 1 and "No such file" in missing.stderr
    assert not (tmp_path / "none.db").exists()
    swapped = plumctl("--from", urls[3], "--to", store_url)
    assert swapped.returncode == 1 and "moved to etcd" in swapped.stderr
