"""A real guest in a virtual domain: kernel, DHCP client and TCP that are not ours.

Its tap is on node n1 of a sandbox; what it talks to is a namespace on node n2.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plumctl.sandbox.layout import Layout
from tests.guest.busybox import busybox_guest
from tests.guest.machine import Tap

pytestmark = [pytest.mark.privileged, pytest.mark.guest, pytest.mark.timeout(420)]

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = Layout(f"t-guest-{os.getpid()}")
TENANT = f"t{os.getpid()}"
VM = f"{TENANT}/lab/vm"
SERVER = f"{TENANT}/lab/server"
PAGE = "a page from the other node"

Plumctl = Callable[..., str]

SERVE = f"""
import socket
listener = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"{PAGE}\\n")
    connection.close()
"""


@pytest.fixture(scope="module")
def plumctl() -> Plumctl:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PLUM_SANDBOX": LAYOUT.name}
    environment.pop("PLUM_SOCKET", None)

    def run(*arguments: str, stdin: str = "", code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "plumctl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            env=environment,
        )
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    return run


@pytest.fixture(scope="module")
def vm(plumctl: Plumctl) -> Iterator[Tap]:
    """The domain, with the guest's endpoint on a tap of node n1."""
    try:
        plumctl("sandbox", "up", "--nodes", "2")
        netns = Path("/run/netns", LAYOUT.namespace("n1"))
        inside = ["nsenter", f"--net={netns}", "ip"]
        subprocess.run([*inside, "tuntap", "add", "tap0", "mode", "tap"], check=True)
        manifest = (ROOT / "tests/guest/zone.yaml").read_text().replace("TENANT", TENANT)
        plumctl("apply", "--wait", "-f", "-", stdin=manifest)
        view = json.loads(plumctl("get", "endpoint", VM, "-o", "json"))
        (item,) = view.get("items", [view])
        yield Tap("tap0", item["allocated"]["mac"], netns)
    finally:
        plumctl("sandbox", "down")
        LAYOUT.lock_file.unlink(missing_ok=True)


@pytest.fixture
def page(plumctl: Plumctl) -> Iterator[None]:
    """A TCP server in the namespace endpoint."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PLUM_SANDBOX": LAYOUT.name}
    command = [sys.executable, "-m", "plumctl", "sandbox", "exec", SERVER, "--"]
    with subprocess.Popen(
        [*command, sys.executable, "-c", SERVE], stdout=subprocess.PIPE, env=environment
    ) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"ready\n"
            yield
        finally:
            server.kill()


def test_guest_gets_its_address_and_talks_to_the_other_node(
    vm: Tap, plumctl: Plumctl, page: None
) -> None:
    commands = {
        "gateway": "ping -c 2 -W 3 10.71.1.1",
        "neighbour": "ip neigh show 10.71.1.1",
        "other node": "ping -c 3 -W 3 10.71.2.11",
        "tcp": "nc -w 10 10.71.2.11 8080",
        "refused": "nc -w 3 10.71.2.11 8081",
        "route": "traceroute -n -q 1 -w 3 -m 4 10.71.2.11",
        "mtu": "cat /sys/class/net/eth0/mtu",
        # busybox has no DHCPv6 client and no `nodad`.
        "address6": "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; "
        "ip -6 address add fd00:71:1::77/64 dev eth0",
        "route6": "ip -6 route show default",
        "ping6": "ping -6 -c 3 -W 3 fd00:71:2::11",
        "inward": "echo listening; echo hello from the guest | nc -l -p 9000 -w 60",
    }
    with busybox_guest(vm, list(commands.values())).running() as machine:
        machine.wait_for("listening\n", 150)
        # `nc` starts after the word; the connection is tried until it is taken.
        heard = plumctl(
            *("sandbox", "exec", SERVER, "--", "sh", "-c"),
            "for i in 1 2 3 4 5; do nc -w 3 10.71.1.77 9000 && exit; sleep 1; done; exit 1",
        )
        report = machine.wait(list(commands.values()), 60)
    of = {name: report.of(command) for name, command in commands.items()}
    said = report.console

    facts = report.facts
    assert (facts["ip"], facts["router"], facts["dns"]) == ("10.71.1.77", "10.71.1.1", "10.71.2.53")
    assert facts["search"] == "lab.example"
    assert of["mtu"].output.split() == [facts["mtu"]]
    assert int(facts["mtu"]) <= 1500 - 50
    assert of["gateway"].status == 0, said
    assert "lladdr" in of["neighbour"].output, said
    assert "3 packets received" in of["other node"].output, said
    assert of["tcp"].output.strip() == PAGE, said
    assert of["refused"].status != 0, said
    hops = [
        line.split()[1] for line in of["route"].output.splitlines() if line[:2].strip().isdigit()
    ]
    assert hops == ["10.71.1.1", "10.71.2.11"], said
    assert "via fe80::" in of["route6"].output, said
    assert "3 packets received" in of["ping6"].output, said
    assert heard == "hello from the guest\n"
    counters = plumctl("get", "endpoint", VM, "-o", "wide", "--no-headers")
    assert "programmed" in counters
