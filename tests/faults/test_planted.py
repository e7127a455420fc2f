"""Bugs planted in clients of a real store, under real faults: each must be found."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.store.interface import Put
from daemon.store.sqlite import SqliteStore
from tests.faults import history
from tests.faults.bugs import Bug
from tests.faults.checker import Fault, Finding, check
from tests.faults.history import Action, Cell, Outcome, Recorder, plain
from tests.faults.store_clients import MARKER, ROOT, TTL_S
from tests.store.pause import pause_between_writes

Started = subprocess.Popen[bytes]


@contextmanager
def client(folder: Path, role: str, bug: Bug = Bug.NONE, number: int = 1) -> Iterator[Started]:
    command = [sys.executable, "-m", "tests.faults.client", role, "--seed", str(number)]
    command += ["--name", f"{role}-{number}", "--store", f"sqlite://{folder / 'store.db'}"]
    command += ["--out", str(folder / f"history-{role}-{number}.jsonl")]
    command += ["--prefix", ROOT, "--bug", bug]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as started:
        try:
            yield started
        finally:
            started.kill()


def written(folder: Path, role: str, number: int = 1) -> int:
    """Lines in a client's history."""
    path = folder / f"history-{role}-{number}.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def until(ask: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not ask():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def verdict(folder: Path) -> list[Finding]:
    """What the checker says, after a last look at the store itself."""
    record = Recorder(folder / "history-last.jsonl", "last")

    async def look() -> None:
        async with await SqliteStore.open(folder / "store.db") as store:
            number = record.begin(Action.COMMIT, writes=plain([Cell(MARKER, "last")]))
            committed = await store.commit([], [Put(MARKER, b"last")])
            record.end(number, Outcome.OK, revision=committed.revision)
            number = record.begin(Action.LIST, scope=ROOT)
            listing = await store.list(ROOT)
            found = plain(Cell(i.key, i.value.decode(), i.mod_revision) for i in listing.items)
            record.end(number, Outcome.OK, revision=listing.revision, found=found)

    asyncio.run(look())
    return check(history.read(folder.glob("history-*.jsonl")))


def judged(folder: Path, bug: Bug, fault: Fault) -> None:
    found = verdict(folder)
    if bug is Bug.NONE:
        assert found == []
    else:
        assert fault in {finding.fault for finding in found}, found[:5]


@pytest.mark.parametrize("bug", [Bug.NONE, Bug.UNFENCED])
def test_a_lease_used_as_a_lock_is_found(tmp_path: Path, bug: Bug) -> None:
    """A holder that is stopped while its lease runs out writes on when it wakes up."""
    with client(tmp_path, "watch"), client(tmp_path, "holder", bug) as first:
        until(lambda: written(tmp_path, "holder") > 30)
        pause_between_writes(first, f"sqlite://{tmp_path / 'store.db'}")
        with client(tmp_path, "holder", bug, 2):
            time.sleep(TTL_S)
            until(lambda: written(tmp_path, "holder", 2) > 60)
            before = written(tmp_path, "holder")
            first.send_signal(signal.SIGCONT)
            until(lambda: written(tmp_path, "holder") > before + 5)
    judged(tmp_path, bug, Fault.FENCE)


@pytest.mark.parametrize("bug", [Bug.NONE, Bug.EARLY])
def test_a_write_acknowledged_before_it_is_committed_is_found(tmp_path: Path, bug: Bug) -> None:
    for number in (1, 2):
        with client(tmp_path, "registers", bug, number):
            until(lambda number=number: written(tmp_path, "registers", number) > 60)
    found = {finding.fault for finding in verdict(tmp_path)}
    assert bool(found & {Fault.LOST, Fault.STALE, Fault.ORDER}) == (bug is Bug.EARLY)


def test_answers_from_a_cache_are_found(tmp_path: Path) -> None:
    bug = Bug.CACHED
    with client(tmp_path, "registers", bug, 1), client(tmp_path, "registers", bug, 2):
        until(lambda: min(written(tmp_path, "registers", n) for n in (1, 2)) > 100)
    judged(tmp_path, bug, Fault.STALE)


@pytest.mark.parametrize("bug", [Bug.NONE, Bug.DEAF])
def test_a_watch_that_takes_no_notice_of_compaction_is_found(tmp_path: Path, bug: Bug) -> None:
    """The watcher sleeps while things are written and their history is thrown away."""

    async def forget() -> None:
        async with await SqliteStore.open(tmp_path / "store.db", keep_revisions=0) as store:
            await store.commit([], [Put("/compacted", os.urandom(8))])

    with client(tmp_path, "watch", bug) as watcher, client(tmp_path, "registers"):
        until(lambda: written(tmp_path, "watch") > 10)
        watcher.send_signal(signal.SIGSTOP)
        before = written(tmp_path, "registers")
        until(lambda: written(tmp_path, "registers") > before + 60)
        asyncio.run(forget())
        before = written(tmp_path, "watch")
        watcher.send_signal(signal.SIGCONT)
        until(lambda: written(tmp_path, "watch") > before + 5)
    judged(tmp_path, bug, Fault.WATCH)
