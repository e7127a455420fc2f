"""What is SQLite's own: the file, its faults, and the price of waiting."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.store.interface import Put, Store, StoreError
from daemon.store.open import open_store
from daemon.store.sqlite_file import connect

if TYPE_CHECKING:
    from tests.store.conftest import Spawn

pytestmark = pytest.mark.asyncio


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="t-store-") as directory:
        os.chmod(directory, 0o755)  # another user looks in one of the tests
        yield Path(directory) / "store.db"


def url(path: Path) -> str:
    return f"sqlite://{path}"


async def filled(path: Path, count: int = 1) -> None:
    async with await open_store(url(path)) as store:
        for number in range(count):
            await store.commit([], [Put(f"/{number}", b"x" * 3000)])


@pytest.mark.parametrize(
    "wrong",
    ["etcd://h/", "sqlite://relative/x", "sqlite:", "sqlite:///", "sqlite:///a?x=1", "/a", ""],
)
async def test_url_that_names_no_file_is_refused(wrong: str) -> None:
    with pytest.raises(StoreError, match="sqlite:///absolute/path"):
        await open_store(wrong)


async def test_new_file_is_the_owners_alone_and_synced_at_every_commit(path: Path) -> None:
    await filled(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with closing(connect(path)) as ours:
        assert ours.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


async def test_name_with_signs_of_urls_is_one_file(path: Path) -> None:
    odd = path.with_name("a b?c#d%41.db")
    async with await open_store(f"sqlite://{path.parent}/a%20b%3Fc%23d%2541.db") as store:
        await store.commit([], [Put("/a", b"")])
    assert [entry.name for entry in path.parent.iterdir()] == [odd.name]


async def test_many_may_create_it_at_once(path: Path) -> None:
    for name in "abcdefgh":
        new = url(path.with_name(name))
        stores = await asyncio.gather(*(open_store(new) for _ in range(8)))
        for number, store in enumerate(stores):
            assert (await store.commit([], [Put("/a", b"")])).revision == number + 1
        for store in stores:
            await store.close()


async def test_missing_directory_is_told(path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be created: No such file or directory"):
        await open_store(url(path.parent / "none" / "store.db"))


async def test_directory_in_its_place_is_told(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match="not a regular file"):
        await open_store(url(path))


async def test_something_else_is_told_and_left_alone(path: Path) -> None:
    path.write_bytes(b"not a database\n" * 1000)
    with pytest.raises(StoreError, match="not a SQLite file"):
        await open_store(url(path))
    assert path.read_bytes() == b"not a database\n" * 1000


async def test_database_of_another_program_is_told_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        await open_store(url(path))
    assert path.read_bytes() == before


async def test_newer_schema_is_told(path: Path) -> None:
    await filled(path)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version=2")
    with pytest.raises(StoreError, match=r"newer Plum \(schema 2.*upgrade"):
        await open_store(url(path))


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
async def test_damaged_file_is_told(path: Path, where: float) -> None:
    await filled(path, 100)
    content = bytearray(path.read_bytes())
    page = int(len(content) * where) // 4096 * 4096
    content[page : page + 4096] = os.urandom(4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        await open_store(url(path))


async def test_read_only_file_is_told(path: Path, spawn: Spawn) -> None:
    await filled(path)
    path.chmod(0o444)
    if os.geteuid() == 0:  # root may write whatever the mode says: ask as somebody else
        said = spawn("as-nobody", url(path)).communicate(timeout=20)[0]
        assert said.startswith("refused") and "read-only" in said
    else:
        with pytest.raises(StoreError, match="read-only"):
            await open_store(url(path))


async def test_full_disk_is_told_and_loses_nothing(path: Path, spawn: Spawn) -> None:
    script = 'mount -t tmpfs -o size=2m none $0 && head -c 1m /dev/zero > $0/ballast && exec "$@"'
    inside = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, str(path.parent))
    worker = spawn("fill", url(path), str(path.parent / "ballast"), prefix=inside)
    said = worker.communicate(timeout=20)[0].splitlines()
    refused, kept, stored, after = said
    assert "disk is full" in refused
    assert int(stored.split()[1]) > 10
    assert kept.split()[1] == stored.split()[1]
    assert after == "after True"


async def test_file_replaced_under_us_is_told(path: Path) -> None:
    async with await open_store(url(path)) as store:
        await store.commit([], [Put("/a", b"")])
        path.rename(path.with_name("moved"))
        for call in (store.get("/a"), store.list(""), store.commit([], [Put("/a", b"")])):
            with pytest.raises(StoreError, match="removed or replaced"):
                await call
        assert not path.exists()


async def test_waiting_watch_ends_when_the_file_is_removed(path: Path) -> None:
    async with await open_store(url(path)) as store:
        watch = store.watch(["/"], 0)
        waiting = asyncio.ensure_future(anext(watch))
        await until_watched(store)
        path.unlink()
        with pytest.raises(StoreError, match="removed or replaced"):
            await asyncio.wait_for(waiting, 5)


async def until_watched(store: Store) -> None:
    while not watch_threads():
        await asyncio.sleep(0.001)
    await store.get("/")


def watch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "store-watch"]


async def test_watch_thread_lives_only_while_somebody_watches(path: Path) -> None:
    async with await open_store(url(path)) as store:
        await store.commit([], [Put("/a", b"")])
        for _ in range(3):
            watches = [store.watch(["/"], 0) for _ in range(3)]
            for watch in watches:
                await anext(watch)
            threads = watch_threads()
            assert len(threads) == 1
            for watch in watches:
                await watch.aclose()  # type: ignore[attr-defined]
            threads[0].join(5)
            assert watch_threads() == []


async def test_waiting_costs_next_to_nothing(path: Path) -> None:
    async with await open_store(url(path)) as store:
        await store.grant(60)
        waiting = asyncio.ensure_future(anext(store.watch(["/"], 0)))
        await until_watched(store)
        before = time.process_time()
        await asyncio.sleep(2)
        assert time.process_time() - before < 0.01  # 0.5 %
        waiting.cancel()


async def test_reader_does_not_wait_for_another_process_that_writes(path: Path) -> None:
    async with await open_store(url(path)) as store:
        await store.commit([], [Put("/a", b"")])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.ensure_future(store.commit([], [Put("/a", b"2")]))
            assert await asyncio.wait_for(store.get("/a"), 1)
            assert not writing.done()
            other.execute("ROLLBACK")
        assert (await writing).succeeded


async def test_without_inotify_watches_still_see_other_processes(path: Path, spawn: Spawn) -> None:
    await filled(path)
    script = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$0" "$@"'
    inside = ("unshare", "--map-root-user", "sh", "-c", script)
    deaf = spawn("echo", url(path), "/", prefix=inside)
    assert deaf.stdout is not None and deaf.stdout.readline() == "ready\n"
    async with await open_store(url(path)) as store:
        late = []
        for number in range(20):
            await store.commit([], [Put(f"/{number}", b"")])
            then = time.monotonic()
            key, seen = (await asyncio.to_thread(deaf.stdout.readline)).split()
            assert key == f"/{number}"
            late.append(float(seen) - then)
    assert 0.003 < max(late) < 0.2, late  # more than the bell takes: it did poll
