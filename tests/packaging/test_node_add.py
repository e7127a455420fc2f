"""`plumctl node add` between two machines that boot: `make test-deb`.

n1 makes a zone on an etcd that systemd runs there. n2 is a Debian with sshd and a source for apt, and no
Python: SSH from n1 makes it a node, traffic runs between both, and it leaves again.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.debian import base_disk
from tests.guest.machine import Cable, Result
from tests.packaging.booted import BASE_MIB, PACKAGES, booted
from tests.packaging.mirror import make_mirror

PACKAGE = os.environ.get("PLUM_DEB", "")
pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(not PACKAGE, reason="PLUM_DEB names no package: make test-deb builds one"),
]

DIRECTOR = (*PACKAGES, "etcd-server")
BARE = ("systemd", "systemd-sysv", "dbus", "iproute2", "openssh-server")
N1, N2 = "192.0.2.1", "192.0.2.2"
ZONE = """
kind: tenant
name: acme
---
kind: domain
tenant: acme
name: shop
spec:
  bridges: [{name: web, subnets: [10.0.0.0/24]}]
  default: {ingress: allow, egress: allow}
---
kind: endpoint
tenant: acme
name: web-1
spec: {domain: shop, bridge: web, node: n1, addresses: [10.0.0.11]}
---
kind: endpoint
tenant: acme
name: web-2
spec: {domain: shop, bridge: web, node: n2, addresses: [10.0.0.12]}
"""

ADD = f"plumctl node add {N2} --name n2 --vtep {N2} --role edge --key /opt/id --timeout 300"
WITH_PACKAGE = f"{ADD} --package $(ls /opt/*.deb)"
SSH = f"ssh -i /opt/id -o BatchMode=yes root@{N2}"
LIFE = "plumctl get node n2 -o jsonpath=.liveness.state"
ETCD_PID = "$(systemctl show -p MainPID --value plum-etcd)"
INSIDE = "ip netns exec $(ip netns list | grep -o '[^ ]*web-1' | head -n 1)"


def refused(command: str, code: int, words: str) -> str:
    """Shell that succeeds when the command ends with this code and says these words."""
    return f"{command} >/run/said 2>&1; [ $? = {code} ] && grep '{words}' /run/said" + (
        " || { cat /run/said; false; }"
    )


def until(command: str) -> str:
    return f"for i in $(seq 240); do {command} && break; sleep 0.5; done; {command}"


def unless_failed(steps: list[str]) -> list[str]:
    """What comes after a step that failed is left out: it would take long and tell nothing."""
    mark = "/run/failed"
    return [f"[ ! -e {mark} ] || exit 0; ({step}) || {{ touch {mark}; false; }}" for step in steps]


BE_DIRECTOR = [
    f"ip address add {N1}/24 dev eth0 && ip link set eth0 up",
    "dpkg --force-confold -i /opt/*.deb && ! systemctl is-enabled plum-etcd",
    f"plumctl zone init --node n1 --vtep {N1} --etcd"
    " || { journalctl -u plum-etcd --no-pager -n 20; false; }",
    "systemctl is-enabled plum-etcd",
    "systemctl enable --now plumd",
    until("plumctl zone show"),
    # It is supervised, and keeps what was written.
    f"before={ETCD_PID}; kill -9 $before; for i in $(seq 60); do [ {ETCD_PID} != $before ]"
    f" && [ {ETCD_PID} != 0 ] && break; sleep 0.5; done; [ {ETCD_PID} != $before ]",
    until("plumctl etcd list | grep leads"),
    until("plumctl zone show"),
    "! journalctl -u plum-etcd --no-pager -p err | grep -i -E 'denied|not permitted'",
    until(f"timeout 2 bash -c '</dev/tcp/{N2}/22'"),
]
ADD_N2 = [
    refused(WITH_PACKAGE, 5, "is not known"),
    refused(f"{WITH_PACKAGE} --host-key SHA256:AAAA", 5, "shows host key SHA256:"),
    "! plumctl get node n2",  # who is refused leaves nothing
    f"install -d -m 700 /root/.ssh && echo {N2} $(cat /opt/host_key.pub) >/root/.ssh/known_hosts",
    f"{WITH_PACKAGE} >/run/said 2>&1; status=$?; cat /run/said; [ $status = 0 ]"
    " && grep -E 'install +done' /run/said && grep -E 'join +done' /run/said",
    until(f"[ $({LIFE}) = alive ]"),
    "plumctl get node",
    f"{ADD} | grep -E 'join +kept'",  # again: all of it is there
]
USE_IT = [
    "plumctl apply -f /opt/zone.yaml --wait --timeout 180",
    f"{INSIDE} ping -q -c 3 -W 10 10.0.0.12",
    "plumctl mesh",
]
LEAVE = [
    refused("plumctl node drain n2 --timeout 0", 7, "acme/shop/web-2"),
    refused("plumctl node remove n2 --yes", 6, "web-2"),
    "plumctl node drain n2 --delete-endpoints --yes --timeout 60",
    "plumctl node remove n2 --yes",
    "! plumctl get node n2",
    # Its certificate is void: its own daemon asks no director any more.
    until(f"{SSH} plumctl --node n1 status 2>&1 | grep -i 'not in this zone'"),
    f"{SSH} 'systemctl disable --now plumd && plumd --purge'",
]
LAST = f"{SSH} touch /run/left"

BE_BARE = [
    f"ip address add {N2}/24 dev eth0 && ip link set eth0 up",
    "! command -v python3 && ! command -v plumctl",
    "install -D -m 600 /opt/id.pub /root/.ssh/authorized_keys",
    "install -m 600 /opt/host_key /etc/ssh/ssh_host_ed25519_key && rm -f /etc/ssh/*rsa_key*"
    " /etc/ssh/*ecdsa_key* && systemctl restart ssh",
    "echo 'deb [trusted=yes] file:/opt/mirror ./' >/etc/apt/sources.list && apt-get -q update",
    "until [ -e /run/left ]; do sleep 1; done",
    "journalctl -u plumd --no-pager -p warning | tail -n 20",
    "! ip netns list | grep . && [ ! -e /sys/fs/bpf/plum ]",
]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="plum-guest-") as path:
        yield Path(path)


def key_pair(path: Path) -> list[Path]:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return [path, path.with_name(f"{path.name}.pub")]


def laid_out(wire: Path) -> None:
    """The machine that makes the wire has made it."""
    deadline = time.monotonic() + 30
    while not wire.exists():
        assert time.monotonic() < deadline, "the first machine made no wire"
        time.sleep(0.05)


def failures(results: tuple[Result, ...]) -> str:
    return "\n".join(f"{r.command}\n  -> {r.status}: {r.output}" for r in results if r.status)


def test_a_bare_machine_becomes_a_node_over_ssh_and_leaves_again(folder: Path) -> None:
    login, host_key = key_pair(folder / "id"), key_pair(folder / "host_key")
    make_mirror(base_disk(BARE, BASE_MIB), Path(PACKAGE), folder / "mirror")
    (folder / "zone.yaml").write_text(ZONE)
    for_n1 = [Path(PACKAGE), *login, host_key[1], folder / "zone.yaml"]
    for_n2 = [login[1], host_key[0], folder / "mirror"]
    steps = [*unless_failed([*BE_DIRECTOR, *ADD_N2, *USE_IT, *LEAVE]), LAST]
    wire = folder / "wire"
    one, two = Cable(wire, "02:00:00:00:02:01", True), Cable(wire, "02:00:00:00:02:02", False)
    with booted(steps, for_n1, DIRECTOR, [one]) as director:
        laid_out(wire)
        with booted(BE_BARE, for_n2, BARE, [two]) as bare:
            report = director.wait(steps, 2100)
            assert not failures(report.results), failures(report.results) + bare.console()
            left = bare.wait(BE_BARE, 120)
    assert not failures(left.results), failures(left.results)
