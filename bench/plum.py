"""Plum as a contender, and a zone of it for the suites that measure it alone.

The nodes stand on the ground of `topology`: the underlay is one veth pair, as
for every contender, without the switch that `plumctl sandbox` puts between its
nodes; and each daemon can be killed and started by itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.loadtool import Ends
from bench.manifests import EXTERNAL, ROUTER_MAC, TENANT, Manifest, domain, endpoint, external
from bench.netns import ip, namespaces, netns_path
from bench.topology import (
    CLIENT,
    ENDPOINT_MTU_BYTES,
    ROUTER_HOST,
    SERVER,
    UNDERLAY_MTU_BYTES,
    Contender,
    ContenderFailed,
    address,
    give_address,
    know,
    two_nodes,
)
from plumctl.client import Client
from plumctl.errors import PlumError

NAME = "plum"
#: A daemon that does not answer by then has failed.
START_TIMEOUT_S = 20.0
PROGRAM_TIMEOUT_S = 60.0
PINS = Path("/sys/fs/bpf")
ROOT = str(Path(__file__).resolve().parent.parent)


@dataclass
class Node:
    """One plumd under our hand."""

    name: str
    netns: str
    vtep: str
    directory: Path  #: sockets and logs
    pins: Path
    store: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "plumd.sock"

    @property
    def client(self) -> Client:
        return Client(str(self.socket))

    @property
    def pid(self) -> int:
        if self.process is None:
            raise ContenderFailed(f"plumd of {self.name} does not run")
        return self.process.pid

    def start(self) -> None:
        """Start plumd and wait until its API answers."""
        with (self.directory / "plumd.log").open("ab") as log:
            environment = {**os.environ, "PYTHONPATH": ROOT}
            self.process = subprocess.Popen(command(self), stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.client.status()
                return
            except PlumError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise ContenderFailed(f"plumd of {self.name}: {error}") from error
            time.sleep(0.01)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the signal, and wait until the process is gone."""
        if self.process is not None:
            os.kill(self.process.pid, number)
            self.process.wait(START_TIMEOUT_S)
            self.process = None

    def resident_mb(self) -> float:
        """VmRSS of plumd in megabytes (10^6 bytes); proc_pid_status(5)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
        return kib * 1024 / 1e6

    def cpu_s(self) -> float:
        """Seconds of processor that all its threads have used."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


def command(node: Node) -> list[str]:
    """How plumd is started in a node's namespace: nsenter becomes it, and keeps bpffs in sight."""
    return [
        *("nsenter", f"--net={netns_path(node.netns)}", "--"),
        *(sys.executable, "-P", "-m", "daemon"),  # -P: never a `daemon` of the current directory
        *("--node", node.name, "--store", str(node.store), "--underlay", "under0"),
        *("--run-dir", str(node.directory), "--state-dir", str(node.directory)),
        *("--socket", str(node.socket), "--pin-dir", str(node.pins), "--log-level", "warning"),
    ]


@dataclass
class Zone:
    """Nodes of one store."""

    nodes: Sequence[Node]

    @property
    def environment(self) -> dict[str, str]:
        """What plumctl needs to find the zone."""
        return {"PLUM_SOCKET": str(self.nodes[0].socket)}

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Apply, and return when every node concerned has programmed it."""
        client = self.nodes[0].client
        self._wait(client, client.apply(manifests).revision)

    def delete(self, manifests: Sequence[Manifest]) -> None:
        client = self.nodes[0].client
        refs = [(str(one["kind"]), path_of(one)) for one in manifests]
        self._wait(client, client.delete(refs).revision)

    def _wait(self, client: Client, revision: int) -> None:
        waited = client.wait(revision, PROGRAM_TIMEOUT_S)
        if not waited.done:
            missing = "; ".join(f"{one.path}: {one.reason}" for one in waited.missing)
            raise ContenderFailed(f"not programmed: {missing}")


def path_of(manifest: Manifest) -> str:
    """Path of an object as the API names it."""
    parts = [TENANT, manifest["spec"]["domain"]] if manifest["kind"] == "endpoint" else []
    if manifest["kind"] == "domain":
        parts = [TENANT]
    return "/".join([*parts, manifest["name"]])


@contextmanager
def zone_on(namespaces_of_nodes: Sequence[str], prefix: str) -> Iterator[Zone]:
    """Daemons in these namespaces, whose `under0` is 192.0.2.1, .2, ...; gone at the end."""
    directory = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    nodes = [
        Node(
            name=f"n{number}",
            netns=netns,
            vtep=f"192.0.2.{number}",
            directory=directory / f"n{number}",
            pins=PINS / prefix / f"n{number}",
            store=directory / "store.db",
        )
        for number, netns in enumerate(namespaces_of_nodes, 1)
    ]
    try:
        for node in nodes:
            node.directory.mkdir()
            node.start()
        zone = Zone(nodes)
        zone.apply([node_manifest(node) for node in nodes])
        yield zone
    finally:
        for node in nodes:
            node.kill()
        shutil.rmtree(PINS / prefix, ignore_errors=True)
        shutil.rmtree(directory)


def node_manifest(node: Node) -> Manifest:
    spec = {"vtep": node.vtep, "underlay_mtu": UNDERLAY_MTU_BYTES}
    return {"kind": "node", "name": node.name, "spec": spec}


@contextmanager
def one_node(prefix: str) -> Iterator[Zone]:
    """A zone of a single node, whose underlay leads nowhere."""
    node = f"{prefix}-a"
    with namespaces(node, f"{prefix}-far"):
        ip(node, f"link add under0 type veth peer name under0 netns {prefix}-far")
        ip(node, "link set under0 up", "address add 192.0.2.1/24 dev under0")
        with zone_on([node], prefix) as zone:
            yield zone


def prepare(netns: str, version: int, subnet: int, host: int) -> None:
    """What a workload brings on its `eth0`: address, default route, and its gateway as
    permanent neighbour (a request lost while the endpoint is closed would cost a second).
    """
    ip(netns, f"link set eth0 mtu {ENDPOINT_MTU_BYTES} up")
    give_address(netns, "eth0", version, subnet, host)
    know(netns, "eth0", version, subnet, ROUTER_HOST, ROUTER_MAC)
    everything = "0.0.0.0/0" if version == 4 else "::/0"
    ip(netns, f"route add {everything} via {address(version, subnet, ROUTER_HOST)}")


@contextmanager
def two_ends(prefix: str, rules: int, version: int) -> Iterator[tuple[Zone, Ends]]:
    """Client and server in two subnets on two nodes, routed, with `rules` rules."""
    attach = {"kind": "veth", "device": "ep0"}
    with two_nodes(prefix) as (client, a, b, server), zone_on([a, b], prefix) as zone:
        prepare(client, version, 1, CLIENT)
        prepare(server, version, 2, SERVER)
        zone.apply(
            [
                *domain(rules, version),
                endpoint("client", "n1", version, 1, CLIENT, attach),
                endpoint("server", "n2", version, 2, SERVER, attach),
            ]
        )
        yield zone, Ends(client, server, address(version, 2, SERVER))


@contextmanager
def outside(prefix: str, rules: int) -> Iterator[Ends]:
    """The client in a domain on node A; the server outside, behind node B, the gateway."""
    attach = {"kind": "veth", "device": "ep0"}
    with two_nodes(prefix) as (client, a, b, server), zone_on([a, b], prefix) as zone:
        prepare(client, 4, 1, CLIENT)
        ip(server, f"link set eth0 mtu {ENDPOINT_MTU_BYTES} up")
        give_address(server, "eth0", 4, 2, SERVER)
        gateway = node_manifest(zone.nodes[1])
        gateway["spec"]["roles"] = ["edge", "gateway"]
        zone.apply([gateway, external()])
        course = domain(rules, 4, (1,))
        course[1]["spec"]["routers"][0]["uplink"] = {"network": EXTERNAL}
        zone.apply([*course, endpoint("client", "n1", 4, 1, CLIENT, attach)])
        yield Ends(client, server, address(4, 2, SERVER))


def nat_contender(rules: int = 5) -> Contender:
    """Source NAT on the client's node, a gateway without connections."""
    return Contender("plum-nat", lambda prefix, _: outside(prefix, rules), True)


def contender(rules: int = 5) -> Contender:
    """`two_ends` as a contender."""

    @contextmanager
    def build(prefix: str, version: int) -> Iterator[Ends]:
        with two_ends(prefix, rules, version) as (_, ends):
            yield ends

    return Contender(NAME, build, True)
