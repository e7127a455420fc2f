"""A sandbox with everything a run needs: small disk, steerable clocks, clients, traffic."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from plumctl.client import Client
from plumctl.errors import PlumError
from plumctl.run import run, succeeds
from plumctl.sandbox import process, zone
from plumctl.sandbox.layout import Layout
from tests.faults import topology
from tests.faults.api_client import key_of
from tests.faults.bugs import Bug
from tests.faults.store_clients import ROOT
from tests.faults.traffic import Flow

ROOT_DIR = Path(__file__).resolve().parent.parent.parent
CLOCK_SOURCE = Path(__file__).with_name("clock.c")
DISK_BYTES = 96 << 20
READY_S = 30.0


class ArenaError(Exception):
    """The run cannot go on; says what is missing."""


@dataclass
class Worker:
    """A client process. `leg` counts its lives: each writes a history under its own name."""

    role: str
    number: int
    bug: Bug
    leg: int = 0
    running: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return f"{self.role}-{self.number}"


@dataclass
class Arena:
    layout: Layout
    folder: Path  # histories and journals
    seed: int
    nodes: Sequence[str] = ("n1", "n2", "n3")
    bug: Bug = Bug.NONE
    workers: list[Worker] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    _traffic: subprocess.Popen[bytes] | None = None
    _blank: set[str] = field(default_factory=set)

    @property
    def tenant(self) -> str:
        return self.layout.name

    @property
    def _clock_library(self) -> Path:
        return (self.folder / "clock.so").resolve()

    @property
    def store_url(self) -> str:
        return f"sqlite://{self.layout.store}"

    def client(self, node: str, timeout_s: float = 5.0) -> Client:
        return Client(str(self.layout.socket(node)), timeout_s=timeout_s)

    # Life

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """The zone with its clients and traffic; gone afterwards, whatever happens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        run("gcc", "-shared", "-fPIC", "-O2", "-o", str(self._clock_library), str(CLOCK_SOURCE))
        with mock.patch.object(process, "start", self._start):
            self._clear()
            try:
                zone.up(self.layout, zone.fabric_for(len(self.nodes), 4, 1500), str)
                self._shrink_disk()
                self._await_ready()
                self.flows = topology.build(self)
                self._start_traffic()
                for role, count in (("registers", 3), ("holder", 2), ("watch", 2), ("api", 2)):
                    for number in range(1, count + 1):
                        worker = Worker(role, number, self._bug_of(role))
                        self.workers.append(worker)
                        self.start_worker(worker)
                yield
            finally:
                self.stop_clients()
                for node in self.nodes:
                    if (log := self.layout.log(node)).exists():
                        shutil.copy(log, self.folder / f"plumd-{node}.log")
                self._clear()

    def stop_clients(self) -> None:
        """End traffic and clients; what they recorded stays."""
        running = [worker.running for worker in self.workers if worker.running]
        running += [self._traffic] if self._traffic else []
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                one.send_signal(signal.SIGCONT)
            assert one.stdin
            with contextlib.suppress(BrokenPipeError):
                one.stdin.close()
        for one in running:
            try:
                one.wait(10)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
        for worker in self.workers:
            worker.running = None
        self._traffic = None

    def _clear(self) -> None:
        process.stop(self.layout, process.processes(self.layout))
        while succeeds("mountpoint", "-q", str(self.layout.store_dir)):
            run("umount", str(self.layout.store_dir))
        zone.down(self.layout, str)
        self.layout.lock_file.unlink(missing_ok=True)

    # Daemons

    def pid(self, node: str) -> int:
        """0: it does not run."""
        found = [one.pid for one in process.processes(self.layout) if one.node == node]
        return found[0] if found else 0

    def kill_plumd(self, node: str) -> None:
        """kill -9, and wait until it is gone."""
        pid = self.pid(node)
        if not pid:
            raise ArenaError(f"no plumd runs on {node}: see {self.layout.log(node)}")
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            if not select.select([handle], [], [], 10)[0]:
                raise ArenaError(f"plumd of {node} does not die")
        finally:
            os.close(handle)

    def launch_on_blank(self, node: str) -> None:
        """Start it on a store that holds nothing, at a socket nobody asks."""
        self._blank.add(node)
        try:
            process.start_plumd(self.layout, node)
        finally:
            self._blank.discard(node)

    def start_plumd(self, node: str) -> None:
        """Start it unless it runs, and wait until it has caught up."""
        if not self.pid(node):
            process.start_plumd(self.layout, node)
        wait_for(lambda: self.ready(node), READY_S, f"plumd of {node} is not ready")

    def ready(self, node: str) -> bool:
        try:
            return self.client(node).status().ready
        except PlumError:
            return False

    def clock_file(self, name: str) -> Path:
        return self.layout.run_dir / f"clock-{name}"

    def step_clock(self, name: str, seconds: float) -> None:
        """CLOCK_REALTIME of a plumd or a client, from now on."""
        path = self.clock_file(name)
        path.touch()
        with path.open("r+b", buffering=0) as file:  # in place: it is mapped
            file.write(struct.pack("=d", seconds))

    def _start(
        self, argv: Sequence[str], log: Path, env: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        """In place of the sandbox's own: the same, with a clock that can be stepped."""
        node = env[process.MARK].rpartition("/")[2]
        argv, env = list(argv), env | self._with_clock(node)
        if node in self._blank:
            folder = self.layout.node_run_dir(node)
            for blank in folder.glob("blank.*"):
                blank.unlink()
            argv[argv.index("--store") + 1] = str(folder / "blank.db")
            argv[argv.index("--socket") + 1] = str(folder / "blank.sock")
        if self.bug is Bug.SWEEPING:
            argv[argv.index("daemon")] = "tests.faults.sweeping_plumd"
        with log.open("ab") as stream:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=env,
            )

    def _with_clock(self, name: str) -> dict[str, str]:
        """A preloaded clock of its own: a time namespace has no offset for CLOCK_REALTIME, the
        machine's clock is everybody's, and libfaketime breaks Python's time.sleep."""
        self.step_clock(name, 0)
        return {"LD_PRELOAD": str(self._clock_library), "FAULTS_CLOCK": str(self.clock_file(name))}

    def _shrink_disk(self) -> None:
        """Put the store on a file system of its own that can be filled."""
        folder = self.layout.store_dir
        process.stop(self.layout, process.processes(self.layout))
        aside = folder.with_name(f".{folder.name}.aside")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        folder.mkdir(mode=0o750)
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0750", "tmpfs", str(folder))
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        shutil.rmtree(aside)
        for node in self.nodes:
            process.start_plumd(self.layout, node)

    def _await_ready(self) -> None:
        for node in self.nodes:
            wait_for(lambda node=node: self.ready(node), READY_S, f"plumd of {node} is not ready")

    # Clients

    def start_worker(self, worker: Worker) -> None:
        worker.leg += 1
        name = f"{worker.name}.{worker.leg}"
        command = [sys.executable, "-m", "tests.faults.client", worker.role, "--name", name]
        command += ["--out", str(self.folder / f"history-{name}.jsonl"), "--seed", str(self.seed)]
        command += ["--store", self.store_url, "--tenant", self.tenant, "--bug", worker.bug]
        for prefix in self.watched():
            command += ["--prefix", prefix]
        for node in self.nodes:
            command += ["--socket", str(self.layout.socket(node))]
        with (self.folder / f"client-{name}.log").open("ab") as log:
            worker.running = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=ROOT_DIR,
                env=self._environment() | self._with_clock(worker.name),
                start_new_session=True,
            )

    def watched(self) -> list[str]:
        return [ROOT, *(key_of(kind, f"{self.tenant}/") for kind in ("endpoint", "domain"))]

    def _start_traffic(self) -> None:
        journal = self.folder / "traffic.jsonl"
        log = (self.folder / "traffic.log").open("ab")
        self._traffic = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.traffic", "--out", str(journal)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT_DIR,
            env=self._environment(),
            start_new_session=True,
        )
        log.close()
        assert self._traffic.stdin and self._traffic.stdout
        self._traffic.stdin.write(topology.plain(self.flows))
        self._traffic.stdin.flush()
        if not select.select([self._traffic.stdout], [], [], READY_S)[0]:
            raise ArenaError("the traffic does not start")
        if self._traffic.stdout.readline() != b"ready\n":
            raise ArenaError(f"the traffic ended at once: see {self.folder / 'traffic.log'}")

    def _bug_of(self, role: str) -> Bug:
        meant = {
            Bug.UNFENCED: "holder",
            Bug.EARLY: "registers",
            Bug.CACHED: "registers",
            Bug.DEAF: "watch",
        }
        return self.bug if meant.get(self.bug) == role else Bug.NONE

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT_DIR)}


def wait_for(ask: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not ask():
        if time.monotonic() > deadline:
            raise ArenaError(f"{otherwise} after {timeout_s:g} s")
        time.sleep(0.05)
