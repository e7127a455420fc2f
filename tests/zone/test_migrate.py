"""A zone moves whole, or stays where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from daemon.model.manifest import parse_manifests
from daemon.model.user import AccessRole
from daemon.store.interface import Committed, Compare, Delete, Put, Store, StoreError
from daemon.store.open import open_store
from daemon.zone.apply import apply
from daemon.zone.backup import restore
from daemon.zone.errors import ZoneError
from daemon.zone.keys import IDENTITY, RESTORE, ROOT
from daemon.zone.migrate import migrate
from daemon.zone.read import read_snapshot
from daemon.zone.users import create_user
from tests.store.conftest import BACKENDS, Backend
from tests.store.member import Member
from tests.zone.test_validate import BASE

pytestmark = pytest.mark.asyncio
TO = "etcd://192.0.2.1:2379"
LATE = "{kind: tenant, name: late}"


@pytest.fixture(params=sorted(BACKENDS))
async def target(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    backend: Backend = BACKENDS[request.param]()
    async with await open_store(backend.url) as opened:
        yield opened
    backend.dispose()


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Store]:
    async with await open_store(f"sqlite://{tmp_path}/old.db") as opened:
        await apply(opened, parse_manifests(BASE), actor="test")
        await opened.commit([], [Put(f"{ROOT}status/n1", b"{}"), Put(f"{ROOT}token/x", b"{}")])
        yield opened


async def test_everything_that_lasts_is_there_and_the_old_store_says_so(
    source: Store, target: Store
) -> None:
    before = await read_snapshot(source)
    await migrate(source, target, TO, actor="test")
    after = await read_snapshot(target)
    assert (after.domains, after.endpoints, after.nodes) == (
        before.domains,
        before.endpoints,
        before.nodes,
    )
    assert await target.get(f"{ROOT}token/x") is not None
    assert await target.get(f"{ROOT}status/n1") is None
    assert await target.get(RESTORE) is None
    nothing = {f"{ROOT}tenant/acme": b'{"name": "acme"}'}
    for change in (
        apply(source, parse_manifests(LATE), actor="test"),
        restore(source, nothing, actor="test", replace=True, other_zone=True),
        create_user(source, "ann", AccessRole.VIEWER, None, "", 0.0),
    ):
        with pytest.raises(ZoneError, match=f"has moved to {TO}") as caught:
            await change
        assert "ask a plumd of the new store" in caught.value.hint
    await apply(target, parse_manifests(LATE), actor="test")


async def test_a_store_that_holds_a_zone_is_no_place_to_move_to(
    source: Store, target: Store
) -> None:
    await apply(target, parse_manifests(LATE), actor="test")
    with pytest.raises(ZoneError, match="holds a zone already"):
        await migrate(source, target, TO, actor="test")
    await apply(source, parse_manifests(LATE), actor="test")  # it is in use as before


async def test_an_empty_store_and_a_second_target_are_refused(
    source: Store, target: Store, tmp_path: Path
) -> None:
    async with await open_store(f"sqlite://{tmp_path}/empty.db") as empty:
        with pytest.raises(ZoneError, match="holds no zone"):
            await migrate(empty, target, TO, actor="test")
    await migrate(source, target, TO, actor="test")
    with pytest.raises(ZoneError, match="has moved to"):
        await migrate(source, target, "etcd://192.0.2.9:2379", actor="test")
    await target.commit([], [Put(IDENTITY, b'{"id": "another"}')])
    with pytest.raises(ZoneError, match="holds another zone"):
        await migrate(source, target, TO, actor="test")


@pytest.fixture
def stingy() -> Iterator[Member]:
    """An etcd with the limits it has unless told otherwise."""
    member = Member(limits=())
    yield member
    member.end()


async def test_a_large_zone_fits_through_etcds_own_limits(source: Store, stingy: Member) -> None:
    tokens = {f"{ROOT}token/{number:04}": bytes([number % 256]) * 3000 for number in range(700)}
    await source.commit([], [Put(key, value) for key, value in tokens.items()])
    async with await open_store(f"etcd://{stingy.endpoint}") as target:
        await migrate(source, target, TO, actor="test")
        moved = {item.key: item.value for item in (await target.list(f"{ROOT}token/")).items}
        assert {key: moved.get(key) for key in tokens} == tokens
        await apply(target, parse_manifests(LATE), actor="test")


class Dying:
    """A store whose process is killed after some commits."""

    def __init__(self, store: Store, commits: int) -> None:
        self._store, self._left = store, commits

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def commit(
        self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
    ) -> Committed:
        if not self._left:
            raise asyncio.CancelledError
        self._left -= 1
        return await self._store.commit(compares, writes)


@pytest.mark.parametrize("commits", range(3))
async def test_killed_half_way_it_goes_on_when_run_again(
    source: Store, target: Store, commits: int
) -> None:
    before = await read_snapshot(source)
    with pytest.raises(asyncio.CancelledError):  # neither store gets to tidy up
        await migrate(Dying(source, 1), Dying(target, commits), TO, actor="test")  # type: ignore[arg-type]
    with pytest.raises((ZoneError, StoreError)):
        await apply(source, parse_manifests(LATE), actor="test")
    await migrate(source, target, TO, actor="test")
    assert (await read_snapshot(target)).endpoints == before.endpoints
