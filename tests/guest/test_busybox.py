"""The busybox guest on a plain Linux bridge: what the harness reports is what happened.

The same guest on Plum's own datapath: test_domain_guest.py.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.busybox import run_busybox
from tests.guest.machine import GuestError, Tap

pytestmark = [pytest.mark.privileged, pytest.mark.guest, pytest.mark.timeout(300)]

NETNS = f"t-guest-{os.getpid()}"
MAC = "02:00:00:00:00:51"


def inside(*command: str) -> str:
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{NETNS}", *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def tap(tmp_path: Path) -> Iterator[Tap]:
    """A bridge with a DHCP server and an address, and a tap on it."""
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    server = None
    try:
        inside("ip", "link", "set", "lo", "up")
        inside("ip", "link", "add", "br0", "type", "bridge")
        inside("ip", "address", "add", "192.0.2.1/24", "dev", "br0")
        inside("ip", "link", "set", "br0", "up")
        inside("ip", "tuntap", "add", "tap0", "mode", "tap")
        inside("ip", "link", "set", "tap0", "master", "br0", "up")
        server = subprocess.Popen(
            [
                *("nsenter", f"--net=/run/netns/{NETNS}", "dnsmasq", "--keep-in-foreground"),
                *("--conf-file=/dev/null", "--port=0", "--interface=br0", "--bind-dynamic"),
                f"--dhcp-leasefile={tmp_path}/leases",
                "--pid-file=",
                f"--dhcp-host={MAC},192.0.2.77",
                "--dhcp-range=192.0.2.10,192.0.2.90,5m",
                "--dhcp-option=option:mtu,1400",
            ],
            stderr=subprocess.DEVNULL,
        )
        yield Tap("tap0", MAC, Path("/run/netns", NETNS))
    finally:
        if server is not None:
            server.kill()
            server.wait()
        subprocess.run(["ip", "netns", "delete", NETNS], check=True)


def test_guest_gets_its_lease_and_reports_each_command(tap: Tap) -> None:
    commands = [
        "ping -c 2 -W 2 192.0.2.1",
        "ping -c 1 -W 1 192.0.2.9",
        "ip -4 -o address show dev eth0",
        "cat /sys/class/net/eth0/mtu",
        'echo "it\'s"; printf no-newline; exit 7',
    ]
    report = run_busybox(tap, commands)
    assert report.facts["ip"] == "192.0.2.77"
    assert report.facts["router"] == "192.0.2.1"
    reached, lost, address, mtu, last = report.results
    assert (reached.status, lost.status) == (0, 1)
    assert "2 packets received" in reached.output
    assert "192.0.2.77/24" in address.output
    assert mtu.output.split() == ["1400"]
    assert (last.status, last.output) == (7, "it's\nno-newline\n")


def test_guest_that_hangs_is_ended_in_time(tap: Tap) -> None:
    with pytest.raises(GuestError, match="not done after 20 s") as error:
        run_busybox(tap, ["echo before", "sleep 600"], timeout_s=20)
    assert "before" in str(error.value)
