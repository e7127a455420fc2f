"""Plum on the oldest kernel we support, Debian's 6.1: the real chain in an emulated machine.

Nothing here is compiled by the machine, and nothing is there but what a node needs.
"""

from __future__ import annotations

import pytest

from tests.guest.debian import CHECKOUT, debian_machine
from tests.guest.machine import Report

pytestmark = [pytest.mark.privileged, pytest.mark.guest, pytest.mark.timeout(600)]

LIMIT_S = 300
BULK = "2M"
ONE, TWO = ("10.1.0.11", "fd01::11"), ("10.2.0.12", "fd02::12")
MANIFEST = f"""
kind: tenant
name: acme
---
kind: domain
tenant: acme
name: old
spec:
  default: {{ingress: allow}}
  bridges:
    - {{name: left, subnets: [10.1.0.0/24, "fd01::/64"]}}
    - {{name: right, subnets: [10.2.0.0/24, "fd02::/64"]}}
  routers:
    - name: core
      interfaces:
        - {{bridge: left, addresses: [10.1.0.1/24, "fd01::1/64"]}}
        - {{bridge: right, addresses: [10.2.0.1/24, "fd02::1/64"]}}
---
kind: endpoint
tenant: acme
name: one
spec: {{domain: old, bridge: left, node: n1, addresses: [{ONE[0]}, "{ONE[1]}"]}}
---
kind: endpoint
tenant: acme
name: two
spec: {{domain: old, bridge: right, node: n2, addresses: [{TWO[0]}, "{TWO[1]}"]}}
"""

PLUMCTL = "python3 -m plumctl"
LOAD = """python3 -c '
import pathlib
from daemon.datapath import libbpf, loader
libbpf.mount_bpffs()
for path in pathlib.Path("plum/bpf").glob("*.bpf.o"):
    pins = pathlib.Path("/sys/fs/bpf", path.name.replace(".", "-"))
    pins.mkdir()
    loaded = loader.load(pins, [path])
    print(path.name, *loaded.programs)
'"""
EXEC = f"{PLUMCTL} sandbox exec acme/old/one -- ping -c 1 -W 2 {TWO[0]}"
DOWN = f"{PLUMCTL} sandbox down"
DROPS = f"{PLUMCTL} drops"
COMPLAINTS = "dmesg --level=emerg,alert,crit,err,warn | grep -E 'BUG|WARNING|Call Trace|UBSAN'"


def inside(name: str) -> str:
    return f"nsenter --net=/run/netns/plum-acme-old-{name}"


def up(underlay: int) -> str:
    return f"{PLUMCTL} sandbox up --nodes 2 --underlay {underlay} --domain plum/old.yaml"


def ping(address: str) -> str:
    return f"{inside('one')} ping -c 3 -i 0.2 -W 2 {address}"


def transfer(sender: str, receiver: str, address: str) -> str:
    """TCP content is the same at the other end."""
    return (
        f"head -c {BULK} /dev/urandom >/tmp/sent; rm -f /tmp/got; "
        f"{inside(receiver)} timeout 30 nc -l {address} 9000 >/tmp/got & "
        f"until {inside(receiver)} ss -Hltn | grep -q :9000; do kill -0 $! || exit 1; done; "
        f"{inside(sender)} timeout 30 nc -N {address} 9000 </tmp/sent; wait; "
        "cmp /tmp/sent /tmp/got && stat -c %s /tmp/got"
    )


def traffic(underlay: int) -> list[str]:
    """Of a fresh zone. The comment tells the commands of one underlay from the other's."""
    commands = [ping(TWO[0]), ping(TWO[1])]
    for index in (0, 1):
        commands += [transfer("one", "two", TWO[index]), transfer("two", "one", ONE[index])]
    return [f"{command} # over IPv{underlay}" for command in commands]


@pytest.fixture(scope="module")
def report() -> Report:
    commands = [
        "uname -r",
        LOAD,
        up(4),
        EXEC,
        *traffic(4),
        DROPS,
        DOWN,
        up(6),
        *traffic(6),
        COMPLAINTS,
    ]
    machine = debian_machine(commands, {"old.yaml": MANIFEST})
    with machine.running():
        return machine.wait(commands, LIMIT_S)


def test_kernel_is_the_oldest_supported(report: Report) -> None:
    assert report.of("uname -r").output.startswith("6.1.")


def test_every_object_loads(report: Report) -> None:
    loaded = report.of(LOAD)
    assert loaded.status == 0, loaded.output
    names = {line.split()[0] for line in loaded.output.splitlines() if line}
    assert names == {f"{path.stem}.o" for path in CHECKOUT.glob("bpf/*.bpf.c")}


@pytest.mark.parametrize("underlay", [4, 6])
def test_two_nodes_carry_both_families(report: Report, underlay: int) -> None:
    """Each inner family in each outer one: taking off a header of the other needs a detour
    before Linux 6.3 (bpf/lib/encap.h)."""
    for command in (up(underlay), *traffic(underlay)):
        result = report.of(command)
        assert result.status == 0, f"{command}\n{result.output}"
        assert "ping" not in command or " 0% packet loss" in result.output


def test_sandbox_is_used_and_taken_down_there(report: Report) -> None:
    for command in (EXEC, DOWN):
        assert report.of(command).status == 0, report.of(command).output
    assert "Nothing was dropped" in report.of(DROPS).output


def test_kernel_does_not_complain(report: Report) -> None:
    complaints = report.of(COMPLAINTS)
    assert complaints.status == 1, complaints.output  # grep: no line
