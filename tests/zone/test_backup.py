"""Backup and restore: what comes back, what is refused, and what a broken-off one leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from daemon.model import backup as file
from daemon.model.manifest import read_manifests
from daemon.model.object import Kind, Ref
from daemon.store.interface import Committed, Compare, Delete, Put, Store, StoreError
from daemon.store.open import open_store
from daemon.zone.apply import apply, delete
from daemon.zone.backup import restore, take
from daemon.zone.counters import Counters
from daemon.zone.errors import ZoneError
from daemon.zone.keys import IDENTITY, RESTORE, ROOT, ZONE
from daemon.zone.read import read_snapshot
from daemon.zone.restoring import until_restored

NODES = [{"kind": "node", "name": f"n{i}", "spec": {"vtep": f"192.0.2.{i}"}} for i in (1, 2)]
SHOP = [
    {"kind": "tenant", "name": "acme"},
    {
        "kind": "domain",
        "tenant": "acme",
        "name": "shop",
        "spec": {"bridges": [{"name": "web", "subnets": ["10.0.0.0/20"]}]},
    },
]


def web(name: str) -> dict[str, object]:
    spec = {"domain": "shop", "bridge": "web", "node": "n1"}
    return {"kind": "endpoint", "tenant": "acme", "name": name, "spec": spec}


async def put(store: Store, *objects: object) -> None:
    await apply(store, read_manifests(list(objects)), actor="test")


async def taken(store: Store) -> dict[str, bytes]:
    """Through the bytes of a file, as a person has it."""
    header, items = await take(store, "1")
    lines = b"".join(file.write(header, ((item.key, item.value) for item in items)))
    return file.read(lines)[1]


async def lasting(store: Store) -> dict[str, bytes]:
    return {item.key: item.value for item in (await take(store, "1"))[1]}


@pytest.fixture
async def shop(store: Store) -> Store:
    await store.commit([], [Put(IDENTITY, b'{"id": "zone-a", "format": 1}')])
    # More than one step, and a value that is no text.
    await put(store, *NODES, *SHOP, *(web(f"w-{i}") for i in range(250)))
    await store.commit([], [Put(f"{ROOT}user/ann", b"\xff\x00"), Put(f"{ROOT}cert/n1", b"old")])
    return store


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Store]:
    async with await open_store(f"sqlite://{tmp_path}/other.db") as opened:
        yield opened


async def test_an_empty_store_gets_back_every_key(shop: Store, empty: Store) -> None:
    backup = await taken(shop)
    restored = await restore(empty, backup, actor="test")
    assert await lasting(empty) == await lasting(shop)
    assert (restored.keys, restored.written, restored.deleted) == (len(backup), len(backup), 0)
    assert await empty.get(RESTORE) is None
    await put(empty, web("later"))  # and changes go on where they were
    assert len((await read_snapshot(empty)).endpoints) == 251


async def test_replace_undoes_what_was_made_since_and_gives_no_number_again(shop: Store) -> None:
    backup = await taken(shop)
    await put(shop, web("later"), {"kind": "tenant", "name": "zeta"})
    last = (await read_snapshot(shop)).endpoints["acme/shop/later"].id
    await delete(shop, [Ref.parse(Kind.ENDPOINT, "acme/shop/w-0")], actor="test")
    restored = await restore(shop, backup, actor="test", replace=True)
    snapshot = await read_snapshot(shop)
    assert "acme/shop/w-0" in snapshot.endpoints and "acme/shop/later" not in snapshot.endpoints
    assert "zeta" not in snapshot.tenants
    assert (restored.written, restored.deleted) == (2, 4)  # 2 objects, 2 of the history
    await put(shop, web("newest"))
    assert (await read_snapshot(shop)).endpoints["acme/shop/newest"].id > last


async def test_what_nodes_say_of_themselves_and_what_is_leased_stays_out(shop: Store) -> None:
    lease = await shop.grant(60)
    names = ("status/n1", "alive/n1", "leader/x", "liveness/n1", "mesh/n1", "join/1")
    await shop.commit([], [Put(ROOT + name, b"{}") for name in names])
    await shop.commit([], [Put(f"{ROOT}session/x", b"{}", lease=lease)])
    backup = await taken(shop)
    assert not [k for k in backup if k.removeprefix(ROOT) in (*names, "session/x")]
    await restore(shop, backup, actor="test", replace=True)
    for name in (*names, "session/x"):
        assert await shop.get(ROOT + name) is not None


async def test_a_node_keeps_the_certificate_it_has_now(shop: Store) -> None:
    backup = await taken(shop)
    await shop.commit([], [Put(f"{ROOT}cert/n1", b"renewed")])
    await restore(shop, backup, actor="test", replace=True)
    item = await shop.get(f"{ROOT}cert/n1")
    assert item is not None and item.value == b"renewed"


async def test_refusals_change_nothing(shop: Store, empty: Store) -> None:
    backup = await taken(shop)
    await empty.commit([], [Put(IDENTITY, b'{"id": "zone-b"}')])
    for store, items, words in (
        (shop, backup, "holds a zone already"),
        (empty, backup, "is of zone zone-a, the store holds zone zone-b"),
        (empty, backup | {f"{ROOT}status/n1": b""}, "belongs into none"),
        (empty, backup | {"/other/x": b""}, "belongs into none"),
        (empty, backup | {f"{ROOT}tenant/acme": b'{"name": "acme", "new": 1}'}, "understand"),
    ):
        before = await store.list("/")
        with pytest.raises(ZoneError, match=words) as caught:
            await restore(store, items, actor="test", other_zone=words == "understand")
        assert caught.value.hint
        assert await store.list("/") == before


async def test_another_zones_objects_come_without_its_identity_and_certificates(
    shop: Store, empty: Store
) -> None:
    identity = b'{"id": "zone-b"}'
    await empty.commit([], [Put(IDENTITY, identity)])
    await restore(empty, await taken(shop), actor="test", other_zone=True)
    item = await empty.get(IDENTITY)
    assert item is not None and item.value == identity
    assert await empty.get(f"{ROOT}cert/n1") is None
    assert len((await read_snapshot(empty)).endpoints) == 250


class Breaking:
    """A store that fails for good after some commits; the rest is the real one's."""

    def __init__(self, store: Store, commits: int) -> None:
        self._store, self.left = store, commits

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def commit(
        self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
    ) -> Committed:
        assert len(writes) <= 128 and len(compares) <= 128  # what etcd takes
        if not self.left:
            raise StoreError("gone")
        self.left -= 1
        return await self._store.commit(compares, writes)


async def test_wherever_it_breaks_off_the_zone_waits_and_the_next_one_ends_it(
    shop: Store, tmp_path: Path
) -> None:
    backup = await taken(shop)
    for commits in range(5):  # the mark, three steps, the end
        async with await open_store(f"sqlite://{tmp_path}/broken-{commits}.db") as store:
            await put(store, *NODES)
            with pytest.raises(StoreError):
                await restore(Breaking(store, commits), backup, actor="x", replace=True)  # type: ignore[arg-type]
            if commits:
                with pytest.raises(ZoneError, match="being restored \\(begun by x"):
                    await put(store, {"kind": "tenant", "name": "late"})
                with pytest.raises(ZoneError, match="being restored"):
                    await take(store, "1")
                with pytest.raises(ZoneError, match="being restored"):
                    await restore(store, backup, actor="y")
                reading = asyncio.create_task(until_restored(store))
                await asyncio.wait([reading], timeout=0.05)
                assert not reading.done()
            await restore(store, backup, actor="y", replace=True, other_zone=True)
            assert len((await read_snapshot(store)).endpoints) == 250
            if commits:
                assert await asyncio.wait_for(reading, 10)


async def test_one_that_was_taken_over_writes_nothing_more(shop: Store, empty: Store) -> None:
    backup = await taken(shop)

    class Overtaken(Breaking):
        async def commit(
            self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
        ) -> Committed:
            if self.left == 1:
                await restore(self._store, {}, actor="second", replace=True)
            return await super().commit(compares, writes)

    with pytest.raises(ZoneError, match="another restore"):
        await restore(Overtaken(empty, 3), backup, actor="first")  # type: ignore[arg-type]
    assert set(await lasting(empty)) == {ZONE}
    item = await empty.get(ZONE)
    assert item is not None and Counters.model_validate_json(item.value).seq == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: len(data) // 2], "end is missing"),
        (lambda data: b"".join(data.splitlines(keepends=True)[:-1]), "end is missing"),
        (lambda data: data.replace(b'"acme', b'"acmf', 1), "checksum"),
        (lambda data: b"", "no JSON"),
        (lambda data: b"PK\x03\x04", "no JSON"),
        (lambda data: b'{"kind": "tenant"}\n', "no backup of a zone"),
        (lambda data: data.replace(b'"version": 1', b'"version": 2', 1), "version 2.*up to 1"),
    ],
)
async def test_a_file_that_is_not_as_it_was_written_is_refused(
    shop: Store, change: object, words: str
) -> None:
    header, items = await take(shop, "1")
    data = b"".join(file.write(header, ((item.key, item.value) for item in items)))
    with pytest.raises(file.BackupError, match=words) as caught:
        file.read(change(data))  # type: ignore[operator]
    assert caught.value.hint


async def test_any_single_changed_byte_is_noticed(store: Store) -> None:
    await put(store, *NODES)
    header, items = await take(store, "1")
    data = bytearray(b"".join(file.write(header, ((item.key, item.value) for item in items))))
    json.loads(data.splitlines()[0])
    for at in range(0, len(data) - 1, 7):
        changed = bytes(data[:at]) + bytes([data[at] ^ 1]) + bytes(data[at + 1 :])
        with pytest.raises(file.BackupError):
            file.read(changed)
