"""A real plumd on a real kernel: one node, from the manifest to the packet."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from daemon.datapath.maps import Map

pytestmark = pytest.mark.privileged
ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=30)


@dataclass
class Node:
    """A namespace with an underlay, and a plumd in it."""

    directory: Path
    tag: str = field(default_factory=lambda: f"t-api-{uuid.uuid4().hex[:6]}")
    process: subprocess.Popen[bytes] | None = None

    @property
    def pins(self) -> Path:
        return Path("/sys/fs/bpf") / self.tag

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def inside(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run("nsenter", f"--net=/run/netns/{self.tag}", *command, check=check)

    def workload(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        namespace = f"--net=/run/netns/{self.tag}-{name}"
        return run("nsenter", namespace, *command, check=False)

    def arguments(self) -> list[str]:
        return [
            *("nsenter", f"--net=/run/netns/{self.tag}", sys.executable, "-m", "daemon"),
            *("--node", "n1", "--run-dir", str(self.directory / "run")),
            *("--state-dir", str(self.directory / "state"), "--pin-dir", str(self.pins)),
        ]

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.arguments(), stdout=log, stderr=log, env=environment
            )
        self.until(lambda: self.ask("GET", "/v1/status"), "the API", 30)

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(10)

    def purge(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [*self.arguments(), "--purge"]
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=30)

    def ask(self, method: str, target: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.directory / "run" / "plumd.sock"))
            payload = json.dumps(body) if body is not None else None
            connection.request(method, target, payload, {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())
        except OSError:
            return None
        finally:
            connection.close()

    def apply(self, *objects: object) -> None:
        applied = self.ask("POST", "/v1/apply", {"objects": objects})
        assert "revision" in applied, applied
        revision = applied["revision"]
        waited = self.ask("GET", f"/v1/wait?revision={revision}&timeout_s=10")
        assert waited["done"], waited

    def until(self, condition: Callable[[], object], what: str, limit_s: float = 10) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            said = self.log.read_text()[-3000:] if self.log.exists() else ""
            assert time.monotonic() < deadline, f"{what} did not come\n{said}"
            time.sleep(0.02)

    def repaired(self, what: str) -> bool:
        return any(what in repair["what"] for repair in self.ask("GET", "/v1/status")["repairs"])

    def web(self, name: str, **attach: str) -> dict[str, object]:
        attach = {"namespace": f"{self.tag}-{name}", **attach}
        spec = {"domain": "shop", "bridge": "web", "node": "n1", "attach": attach}
        return {"kind": "endpoint", "tenant": "acme", "name": name, "spec": spec}

    def zone(self) -> list[dict[str, object]]:
        bridge = {"name": "web", "subnets": ["10.0.0.0/24", "fd00:1::/64"]}
        bridge["dhcp"] = {"dns": ["10.0.0.53"], "search": ["shop.example"]}  # type: ignore[assignment]
        faces = [{"bridge": "web", "addresses": ["10.0.0.1/24", "fd00:1::1/64"]}]
        spec = {
            "default": {"ingress": "allow"},
            "bridges": [bridge],
            "routers": [{"name": "r", "interfaces": faces}],
        }
        return [
            {
                "kind": "node",
                "name": "n1",
                "spec": {"vtep": "192.0.2.1", "roles": ["edge", "gateway"]},
            },
            {"kind": "tenant", "name": "acme"},
            {"kind": "domain", "tenant": "acme", "name": "shop", "spec": spec},
        ]

    def pings(self, name: str, address: str) -> bool:
        return self.workload(name, "ping", "-c1", "-W2", address).returncode == 0

    def address(self, name: str) -> str:
        view = self.ask("GET", f"/v1/objects/endpoint/acme/shop/{name}")
        return str(view["allocated"]["addresses"][0])

    def device(self, name: str) -> str:
        links = json.loads(self.inside("ip", "-j", "-d", "link").stdout)
        alias = f"plum:n1:acme/shop/{name}"
        return next((link["ifname"] for link in links if link.get("ifalias") == alias), "")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    run("ip", "netns", "add", node.tag)
    node.inside("ip", "link", "add", "under", "type", "veth", "peer", "name", "far")
    node.inside("ip", "addr", "add", "192.0.2.1/24", "dev", "under")
    for device in ("under", "far"):
        node.inside("ip", "link", "set", device, "up")
    try:
        node.start()
        yield node
    finally:
        if node.process is not None and node.process.poll() is None:
            node.stop(signal.SIGKILL)
        node.purge()
        run("ip", "netns", "del", node.tag)
        shutil.rmtree(node.pins, ignore_errors=True)


def test_endpoints_reach_each_other_and_their_gateway(node: Node) -> None:
    node.apply(*node.zone(), node.web("a"), node.web("b"))
    assert node.pings("a", node.address("b"))
    assert node.pings("a", "10.0.0.1")
    assert node.pings("a", "fd00:1::1")
    (counters,) = node.ask("GET", "/v1/counters")["nodes"].values()
    rows = {row["path"]: row for row in counters["endpoints"]}
    assert rows["acme/shop/a"]["tx_packets"] > 0
    assert rows["acme/shop/b"]["rx_packets"] > 0


def test_real_clients_get_addresses_by_dhcp(node: Node, tmp_path: Path) -> None:
    node.apply(*node.zone(), node.web("guest", configure="dhcp"))
    script = tmp_path / "told.sh"
    script.write_text(f"#!/bin/sh\nenv > {tmp_path}/told-$reason$1\n")
    script.chmod(0o755)
    asked = ("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-s", str(script))
    done = node.workload("guest", *asked, "-O", "search", "-O", "mtu")
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "told-bound").read_text().splitlines()
    for line in (
        f"ip={node.address('guest')}",
        "router=10.0.0.1",
        "dns=10.0.0.53",
        "mtu=1450",
        "search=shop.example",
        "mask=24",
    ):
        assert line in told
    own = ("ip", "-6", "address", "show", "dev", "eth0", "scope", "link", "-tentative")
    node.until(lambda: "fe80" in node.workload("guest", *own).stdout, "a link-local address")
    six = ("dhclient", "-6", "-1", "-sf", str(script), "-lf", f"{tmp_path}/leases")
    done = node.workload("guest", *six, "-pf", f"{tmp_path}/pid", "eth0")
    try:
        assert done.returncode == 0, done.stderr
        assert "new_ip6_address=fd00:1::" in (tmp_path / "told-BOUND6").read_text()
    finally:
        if (tmp_path / "pid").exists():
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    node.until(
        lambda: "fe80::72:ff:fe00:1" in node.workload("guest", "ip", "-6", "route").stdout,
        "the default route by RA",
    )


def test_kill_and_restart_cut_nothing_and_write_nothing(node: Node) -> None:
    node.apply(*node.zone(), node.web("a"), node.web("b"))
    address = node.address("b")
    assert node.pings("a", address)
    node.stop(signal.SIGKILL)
    assert node.pings("a", address)
    before = len(node.log.read_text())
    node.start()
    node.until(lambda: node.ask("GET", "/v1/status")["ready"], "the first sync")
    assert node.pings("a", address)
    said = node.log.read_text()[before:]
    assert "rows written" not in said
    assert node.ask("GET", "/v1/status")["repairs"] == []
    assert node.stop() == 0
    assert node.pings("a", address)


def test_what_is_deleted_by_hand_comes_back_within_two_seconds(node: Node) -> None:
    node.apply(*node.zone(), node.web("a"), node.web("b"))
    address = node.address("b")
    hosts = Map.pinned(node.pins / "plum_host")
    rows = hosts.dump()

    hosts.delete_many(list(rows))
    node.until(lambda: hosts.dump() == rows, "the rows", 2)
    hosts.close()
    node.inside("tc", "filter", "del", "dev", node.device("a"), "ingress")
    shown = ("tc", "filter", "show", "dev", node.device("a"), "ingress")
    node.until(lambda: "plum_from_ep" in node.inside(*shown).stdout, "the filter", 2)
    node.inside("tc", "filter", "del", "dev", "under", "ingress")
    shown = ("tc", "filter", "show", "dev", "under", "ingress")
    node.until(lambda: "plum_from_ul" in node.inside(*shown).stdout, "the underlay's filter", 2)
    node.inside("ip", "link", "del", node.device("b"))
    node.until(lambda: node.device("b"), "the device", 2)
    node.until(lambda: node.pings("a", address), "the ping")
    for what in ("plum_host", "filter of pl", "underlay", "device pl"):
        node.until(lambda what=what: node.repaired(what), what, 2)  # type: ignore[misc]


def test_an_existing_veth_is_adopted_and_let_go(node: Node) -> None:
    inside = f"{node.tag}-vm"
    run("ip", "netns", "add", inside)
    try:
        attach = {"kind": "veth", "device": "vm0"}
        late = {**node.web("vm"), "spec": {"domain": "shop", "bridge": "web", "node": "n1"}}
        late["spec"]["attach"] = attach  # type: ignore[index]
        applied = node.ask("POST", "/v1/apply", {"objects": [*node.zone(), node.web("a"), late]})
        target = f"/v1/wait?revision={applied['revision']}&timeout_s=1"
        missing = node.ask("GET", target)
        assert [item["path"] for item in missing["pending"]] == ["acme/shop/vm"]
        node.inside(
            "ip", "link", "add", "vm0", "type", "veth", "peer", "name", "eth0", "netns", inside
        )
        view = node.ask("GET", "/v1/objects/endpoint/acme/shop/vm")
        mac = view["allocated"]["mac"]
        run("ip", "-n", inside, "link", "set", "eth0", "address", mac, "up")
        run("ip", "-n", inside, "addr", "add", f"{node.address('vm')}/24", "dev", "eth0")
        target = f"/v1/wait?revision={applied['revision']}&timeout_s=9"
        assert node.ask("GET", target)["done"]
        assert node.pings("a", node.address("vm"))
        refs = [{"kind": "endpoint", "path": "acme/shop/vm"}]
        node.ask("POST", "/v1/delete", {"refs": refs})
        node.until(lambda: not node.device("vm"), "letting go")
        (link,) = json.loads(node.inside("ip", "-j", "link", "show", "vm0").stdout)
        assert "UP" not in link["flags"]
    finally:
        run("ip", "netns", "del", inside)


def test_purge_leaves_nothing(node: Node) -> None:
    gateway = {"node": "n1", "device": "far", "addresses": ["198.51.100.1/24"]}
    internet = {"kind": "external", "name": "internet", "spec": {"gateways": [gateway]}}
    node.apply(*node.zone(), node.web("a"), internet)
    guarded = ("tc", "filter", "show", "dev", "far", "ingress")
    node.until(lambda: "plum_from_ext" in node.inside(*guarded).stdout, "the gateway")
    node.stop()
    node.purge()
    links = {link["ifname"] for link in json.loads(node.inside("ip", "-j", "link").stdout)}
    assert links == {"lo", "under", "far"}
    for device in ("under", "far"):
        assert "bpf" not in node.inside("tc", "filter", "show", "dev", device, "ingress").stdout
    assert not node.pins.exists()
    assert not Path(f"/run/netns/{node.tag}-a").exists()
    node.purge()  # twice is no error
