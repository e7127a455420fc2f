"""What the store's tests need of an implementation. The tests themselves know none.

A further implementation joins by one more `Backend` in `BACKENDS`.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Protocol, Self

import pytest

from daemon.store.etcd import EtcdStore
from daemon.store.interface import Delete, Store
from daemon.store.open import open_store
from daemon.store.sqlite import SqliteStore
from tests.store.member import Member

ROOT = Path(__file__).parents[2]


class Backend(Protocol):
    """One empty store, for one test."""

    url: str  # what `open_store` takes, in this process or another
    kept: int  # at least so many revisions of history, with `open`
    gone: int  # and never more than so many

    async def open(self) -> Store: ...

    async def advance(self, seconds: float) -> None:
        """Let time pass for leases made through `open`."""
        ...

    def dispose(self) -> None: ...


class SqliteBackend:
    kept = 20
    gone = 22

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="t-store-"))
        self.path = self.directory / "store.db"
        self.url = f"sqlite://{self.path}"
        self.now = 1000.0

    async def open(self) -> Store:
        return await SqliteStore.open(self.path, lambda: self.now, self.kept)

    async def advance(self, seconds: float) -> None:
        self.now += seconds

    def dispose(self) -> None:
        shutil.rmtree(self.directory)


class EtcdBackend:
    """One member that all tests share; each finds it empty.

    Time is the tests' own: a lease is granted for an hour, and ends by the revocation
    that a member's clock would bring about (`lessor` in etcd does just that).
    """

    kept = 20
    gone = 22
    member: ClassVar[Member | None] = None

    def __init__(self) -> None:
        if EtcdBackend.member is None:
            EtcdBackend.member = Member()
            atexit.register(EtcdBackend.member.end)
        self.url = f"etcd://{EtcdBackend.member.endpoint}"
        self.now = 0.0
        self.deadlines: dict[int, tuple[float, float]] = {}  # by lease: life, end
        cleaner = threading.Thread(target=lambda: asyncio.run(self._empty()))
        cleaner.start()  # a loop of its own: the caller's may be running
        cleaner.join()

    async def open(self) -> Store:
        assert EtcdBackend.member is not None
        return await _TimedStore.open_for(self, EtcdBackend.member.endpoint)

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        due = sorted((end, lease) for lease, (_, end) in self.deadlines.items() if end <= self.now)
        async with await open_store(self.url) as store:
            for _, lease in due:
                del self.deadlines[lease]
                await store.revoke(lease)

    async def _empty(self) -> None:
        async with await open_store(self.url) as store:
            items = (await store.list("")).items
            for start in range(0, len(items), 100):
                await store.commit([], [Delete(item.key) for item in items[start : start + 100]])

    def dispose(self) -> None:
        pass


class _TimedStore(EtcdStore):
    backend: EtcdBackend

    @classmethod
    async def open_for(cls, backend: EtcdBackend, endpoint: str) -> Self:
        store = await cls.open([endpoint], None, backend.kept)
        store.backend = backend
        return store

    async def grant(self, ttl_s: float) -> int:
        lease = await super().grant(ttl_s + 3600 if ttl_s > 0 else ttl_s)
        self.backend.deadlines[lease] = (ttl_s, self.backend.now + ttl_s)
        return lease

    async def keep_alive(self, lease: int) -> None:
        await super().keep_alive(lease)
        ttl_s, _ = self.backend.deadlines[lease]
        self.backend.deadlines[lease] = (ttl_s, self.backend.now + ttl_s)

    async def revoke(self, lease: int) -> None:
        await super().revoke(lease)
        self.backend.deadlines.pop(lease, None)


BACKENDS: dict[str, Callable[[], Backend]] = {"etcd": EtcdBackend, "sqlite": SqliteBackend}


@pytest.fixture(params=sorted(BACKENDS))
def new_backend(request: pytest.FixtureRequest) -> Callable[[], Backend]:
    return BACKENDS[request.param]


@pytest.fixture
def backend(new_backend: Callable[[], Backend]) -> Iterator[Backend]:
    backend = new_backend()
    yield backend
    backend.dispose()


#: Starts worker.py with these arguments; its standard output is a pipe of lines.
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        worker = Path(__file__).with_name("worker.py")
        process = subprocess.Popen(
            [*prefix, sys.executable, str(worker), *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
