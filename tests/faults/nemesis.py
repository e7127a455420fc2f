"""Makes faults and mends them. Whatever it did is undone at the end, also after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from plumctl.run import run
from plumctl.sandbox.fabric import enter
from tests.faults import certificates
from tests.faults.arena import Arena, Worker
from tests.faults.plan import CLIENTS, MEMBERS, PLUMDS, Fault, Kind
from tests.faults.verdict import Cut

Undo = Callable[[], None]

TABLE = "plum_faults"  # of nft, in a node's namespace


class Nemesis:
    def __init__(self, arena: Arena, log: Path) -> None:
        self.cuts: list[Cut] = []
        self._arena = arena
        self._log = log.open("ab", buffering=0)
        self._undo: dict[Fault, Undo] = {}
        self._since: dict[str, float] = {}  # nodes that are cut off
        self._inject: dict[Kind, Callable[[Fault], Undo]] = {
            Kind.KILL: self._kill,
            Kind.PAUSE: self._pause,
            Kind.CUT: self._cut,
            Kind.ISOLATE: self._isolate,
            Kind.FILL: self._fill,
            Kind.CLOCK: self._clock,
            Kind.COMPACT: self._compact,
            Kind.EXPIRE: self._expire,
            Kind.BLANK: self._blank,
        }

    def inject(self, fault: Fault) -> None:
        self._note(fault, "begins")
        self._undo[fault] = self._inject[fault.kind](fault)
        self._note(fault, "is on")

    def heal(self, fault: Fault) -> None:
        """Undo it and wait until what it hit runs again. Twice is harmless."""
        undo = self._undo.pop(fault, None)
        if undo:
            self._note(fault, "heals")
            undo()
            self._note(fault, "is over")

    def heal_all(self) -> None:
        """Undo everything, even if undoing one thing fails; raises the first failure then."""
        failures: list[Exception] = []
        for fault in list(self._undo):
            try:
                self.heal(fault)
            except Exception as error:  # the others have to be undone all the same
                failures.append(error)
        if failures:
            raise failures[0]

    def _note(self, fault: Fault, phase: str) -> None:
        line = {"at": time.monotonic(), "phase": phase, **fault.plain()}
        self._log.write((json.dumps(line) + "\n").encode())

    # The faults: each does its harm and returns what undoes it

    def _kill(self, fault: Fault) -> Undo:
        if not fault.target.startswith(CLIENTS):
            self._arena.kill(fault.process)
            return lambda: self._start(fault)
        worker = self._worker(fault)
        assert worker.running
        worker.running.kill()
        worker.running.wait(10)
        return lambda: self._arena.start_worker(worker)

    def _pause(self, fault: Fault) -> Undo:
        if fault.target.startswith(CLIENTS):
            running = self._worker(fault).running
            assert running
            pid = running.pid
        else:
            pid = self._arena.pid(fault.process)
        _signal(pid, signal.SIGSTOP)

        def go_on() -> None:
            _signal(pid, signal.SIGCONT)
            self._start(fault)

        return go_on

    def _start(self, fault: Fault) -> None:
        """What the fault hit, unless it runs."""
        if fault.target.startswith(MEMBERS):
            self._arena.start_member(fault.name)
        elif fault.target.startswith(PLUMDS):
            self._arena.start_plumd(fault.name)

    def _cut(self, fault: Fault) -> Undo:
        self._link(fault.name, "down")
        began_s = self._since[fault.name] = time.monotonic()

        def mend() -> None:
            self._link(fault.name, "up")
            del self._since[fault.name]
            self.cuts.append(Cut(fault.name, began_s, time.monotonic()))

        return mend

    def _link(self, node: str, state: str) -> None:
        """At the switch: the node only sees that its cable is dead."""
        fabric = self._arena.layout.fabric
        run(*enter(fabric, ["ip", "link", "set", node, state]))

    def _isolate(self, fault: Fault) -> Undo:
        """The node's member and clients are cut off, its overlay is not: only TCP beyond the
        node itself is dropped."""
        inside = self._arena.layout.namespace(fault.name)
        rules = "\n".join(
            [
                f"table inet {TABLE} {{",
                "chain in { type filter hook input priority 0",
                'iifname "underlay" meta l4proto tcp drop',
                "}",
                "chain out { type filter hook output priority 0",
                'oifname "underlay" meta l4proto tcp drop',
                "}",
                "}\n",
            ]
        )
        run(*enter(inside, ["nft", "-f", "-"]), stdin=rules)

        def join() -> None:
            run(*enter(inside, ["nft", "delete", "table", "inet", TABLE]))

        return join

    def _fill(self, fault: Fault) -> Undo:
        folder = self._arena.disks()[fault.name]
        if not self._arena.members:
            with closing(sqlite3.connect(self._arena.layout.store)) as connection:
                # Else writes go into space the log already has.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        filler = folder / "filler"
        for block in (bytes(1 << 20), bytes(4096)):
            with filler.open("ab", buffering=0) as file, suppress(OSError):
                while file.write(block):
                    pass

        def free() -> None:
            filler.unlink()
            if self._arena.members:  # a member that cannot write its log ends
                self._arena.start_member(fault.name)

        return free

    def _clock(self, fault: Fault) -> Undo:
        self._arena.step_clock(fault.name, fault.amount)
        return lambda: self._arena.step_clock(fault.name, 0)

    def _compact(self, fault: Fault) -> Undo:
        self._arena.order("compact", 30)
        return lambda: None

    def _expire(self, fault: Fault) -> Undo:
        """Its plumd is away until the certificate has ended; who directs renews its own."""
        self._arena.kill(fault.name)
        certificates.let_expire(self._arena, fault.name, fault.hold_s)
        return lambda: self._arena.start_plumd(fault.name)

    def _blank(self, fault: Fault) -> Undo:
        """What it lists is empty; clients do not reach it, so nobody writes there."""
        self._arena.kill(fault.name)
        self._arena.launch_on_blank(fault.name)

        def back() -> None:
            self._arena.kill(fault.name)
            self._arena.start_plumd(fault.name)

        return back

    def _worker(self, fault: Fault) -> Worker:
        return next(worker for worker in self._arena.workers if worker.name == fault.name)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)
