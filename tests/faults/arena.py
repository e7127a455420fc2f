"""A sandbox with everything a run needs: small disk, steerable clocks, clients, traffic."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from daemon.drivers.netns import entered
from plumctl.client import Client
from plumctl.errors import PlumError
from plumctl.run import run
from plumctl.sandbox import etcd, process, zone
from plumctl.sandbox.fabric import Fabric, enter
from plumctl.sandbox.layout import NETNS_DIR, Layout, vtep
from tests.faults import certificates, topology
from tests.faults.api_client import key_of
from tests.faults.bugs import Bug
from tests.faults.store_clients import ROOT
from tests.faults.traffic import Flow

ROOT_DIR = Path(__file__).resolve().parent.parent.parent
CLOCK_SOURCE = Path(__file__).with_name("clock.c")
DISK_BYTES = {"sqlite": 96 << 20, "etcd": 224 << 20}  # a member's log alone takes 128 MB
NODES = 3
ROLES = {"operator": 1, "registers": 3, "holder": 2, "watch": 2, "api": 2}
READY_S = 30.0
PLANTED = {
    Bug.SWEEPING: "tests.faults.sweeping_plumd",
    Bug.STALE: "tests.faults.stale_plumd",
}


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
    store: str = "sqlite"  # or etcd
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
    def nodes(self) -> tuple[str, ...]:
        return self.fabric.nodes

    @property
    def fabric(self) -> Fabric:
        return zone.fabric_for(NODES, 4, 1500, self.store)

    @property
    def members(self) -> tuple[str, ...]:
        """Nodes that run a member of the store; none with SQLite."""
        return etcd.members(self.fabric)

    def store_url(self, node: str) -> str:
        if self.members:
            return etcd.url(self.layout, self.fabric, node)
        return f"sqlite://{self.layout.store}"

    def disks(self) -> dict[str, Path]:
        """What a full disk can hit: the store's files, or each member's."""
        if self.members:
            return {node: self.layout.store_dir / node / "etcd" for node in self.members}
        return {"all": self.layout.store_dir}

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
                zone.up(self.layout, self.fabric, str)
                certificates.found(self)
                self._shrink_disks()
                self._await_ready()
                self.flows = topology.build(self)
                self._start_traffic()
                for role, count in ROLES.items():
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
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in reversed(mounts):
            if Path(mount).is_relative_to(self.layout.store_dir):
                run("umount", mount)
        zone.down(self.layout, str)
        self.layout.lock_file.unlink(missing_ok=True)

    # Daemons

    def pid(self, name: str) -> int:
        """Of a node's plumd, or its member (`n1.etcd`). 0: it does not run."""
        found = [one.pid for one in process.processes(self.layout) if one.node == name]
        return found[0] if found else 0

    def kill(self, name: str) -> None:
        """kill -9 of a plumd or a member, and wait until it is gone."""
        pid = self.pid(name)
        if not pid:
            return  # it ended by itself; whoever mends it starts it
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            if not select.select([handle], [], [], 10)[0]:
                raise ArenaError(f"{name} does not die")
        finally:
            os.close(handle)

    def launch_on_blank(self, node: str) -> None:
        """Start it on a store that holds nothing, at a socket no client asks, and wait until it
        has seen that there is nothing."""
        folder = self.layout.node_run_dir(node)
        for blank in folder.glob("blank.*"):
            if blank.is_file() or blank.is_socket():
                blank.unlink()
        self._blank.add(node)
        try:
            process.start_plumd(self.layout, node, f"sqlite://{folder / 'blank.db'}")
        finally:
            self._blank.discard(node)
        blank = Client(str(folder / "blank.sock"), timeout_s=5)

        def listed() -> bool:
            try:
                return "has no node" in blank.status().reason
            except PlumError:
                return False

        wait_for(listed, READY_S, f"plumd of {node} on a blank store does not answer")

    def start_plumd(self, node: str) -> None:
        """Start it unless it runs, and wait until it has caught up."""
        if not self.pid(node):
            process.start_plumd(self.layout, node, self.store_url(node))
        wait_for(lambda: self.ready(node), READY_S, f"plumd of {node} is not ready")

    def launch_member(self, node: str) -> None:
        command = etcd.command(self.layout, self.fabric, node)
        process.start_member(self.layout, node, command)

    def start_member(self, node: str) -> None:
        """Start the node's member unless it runs, and wait until it listens."""
        if not self.pid(process.member_name(node)):
            self.launch_member(node)
        address = str(vtep(self.nodes.index(node) + 1, 4)), etcd.CLIENT_PORT
        namespace = NETNS_DIR / self.layout.namespace(node)

        def listens() -> bool:
            with entered(namespace), socket.socket() as opened:
                opened.settimeout(1)
                return opened.connect_ex(address) == 0

        wait_for(listens, READY_S, f"the member of {node} does not listen")

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
        argv = list(argv)
        if node in self.nodes:  # etcd asks the kernel itself, and is not to be misled so
            env = env | self._with_clock(node)
        if node in self._blank:
            folder = self.layout.node_run_dir(node)
            argv[argv.index("--socket") + 1] = str(folder / "blank.sock")
            # Elsewhere than its zone's: with those it would not start on another store at all.
            argv[argv.index("--state-dir") + 1] = str(folder / "blank.state")
        if self.bug in PLANTED and node in self.nodes:
            argv[argv.index("daemon")] = PLANTED[self.bug]
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

    def _shrink_disks(self) -> None:
        """Put the store on file systems of its own that can be filled."""
        process.stop(self.layout, process.processes(self.layout))
        for folder in self.disks().values():
            aside = folder.with_name(f".{folder.name}.aside")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            folder.mkdir(mode=0o700)
            size = f"size={DISK_BYTES[self.store]},mode=0700"
            run("mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder))
            shutil.copytree(aside, folder, dirs_exist_ok=True)
            shutil.rmtree(aside)
        for node in self.members:
            self.launch_member(node)
        for node in self.nodes:
            process.start_plumd(self.layout, node, self.store_url(node))

    def _await_ready(self) -> None:
        for node in self.nodes:
            wait_for(lambda node=node: self.ready(node), READY_S, f"plumd of {node} is not ready")
            signs = certificates.folder(self, node).ca_key.exists
            wait_for(signs, READY_S, f"{node} does not get the authority's key")

    # Clients

    def start_worker(self, worker: Worker) -> None:
        worker.leg += 1
        name = f"{worker.name}.{worker.leg}"
        command = [sys.executable, "-m", "tests.faults.client", worker.role, "--name", name]
        command += ["--out", str(self.folder / f"history-{name}.jsonl"), "--seed", str(self.seed)]
        node = self.nodes[worker.number % len(self.nodes)]
        command += ["--store", self.store_url(node), "--tenant", self.tenant, "--bug", worker.bug]
        for prefix in self.watched():
            command += ["--prefix", prefix]
        for node in self.nodes:
            command += ["--socket", str(self.layout.socket(node))]
        with (self.folder / f"client-{name}.log").open("ab") as log:
            worker.running = subprocess.Popen(
                enter(self.layout.namespace(node), command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if worker.role == "operator" else log,
                stderr=log,
                cwd=ROOT_DIR,
                env=self._environment() | self._with_clock(worker.name),
                start_new_session=True,
            )

    def order(self, line: str, timeout_s: float) -> int:
        """What the operator answers; 0: it did not happen, or nobody knows."""
        running = next(worker.running for worker in self.workers if worker.role == "operator")
        assert running and running.stdin and running.stdout
        running.stdin.write(f"{line}\n".encode())
        running.stdin.flush()
        if not select.select([running.stdout], [], [], timeout_s)[0]:
            raise ArenaError(f"the operator does not answer in {timeout_s:g} s")
        return int(running.stdout.readline() or 0)

    def ask_where(self, role: str) -> None:
        """Have these clients write into their logs what they wait for."""
        for worker in self.workers:
            if worker.role == role and worker.running and worker.running.poll() is None:
                worker.running.send_signal(signal.SIGUSR1)

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

    @property
    def python_path(self) -> str:
        return str(ROOT_DIR)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": self.python_path}


def wait_for(ask: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not ask():
        if time.monotonic() > deadline:
            raise ArenaError(f"{otherwise} after {timeout_s:g} s")
        time.sleep(0.05)
