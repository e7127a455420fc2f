"""What the store's tests need of an implementation. The tests themselves know none.

A further implementation joins by one more `Backend` in `BACKENDS`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from daemon.store.interface import Store
from daemon.store.sqlite import SqliteStore

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


BACKENDS: dict[str, Callable[[], Backend]] = {"sqlite": SqliteBackend}


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
