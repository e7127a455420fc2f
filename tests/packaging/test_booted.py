"""The Debian package on a Debian 12 that boots: `make test-deb`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.packaging.booted import run_booted

PACKAGE = os.environ.get("PLUM_DEB", "")
pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not PACKAGE, reason="PLUM_DEB names no package: make test-deb builds one"),
]

ZONE = """
kind: node
name: n1
spec: {vtep: 192.0.2.1}
---
kind: tenant
name: acme
---
kind: domain
tenant: acme
name: shop
spec: {bridges: [{name: web, subnets: [10.0.0.0/24]}]}
---
kind: endpoint
tenant: acme
name: web-1
spec: {domain: shop, bridge: web, node: n1, addresses: [10.0.0.11]}
---
kind: endpoint
tenant: acme
name: web-2
spec: {domain: shop, bridge: web, node: n1, addresses: [10.0.0.12]}
"""
PID = "$(systemctl show -p MainPID --value plumd)"
INSIDE = "ip netns exec $(ip netns list | grep -o '[^ ]*web-1' | head -n 1)"
PING = f"{INSIDE} ping -q -c 3 -i 0.2 -W 5 10.0.0.12"
FLOOD = f"({INSIDE} ping -q -i 0.1 -w 40 10.0.0.12 >/run/ping 2>&1 &) ; sleep 2"
SETTLED = "for i in $(seq 120); do plumctl status && break; sleep 0.5; done"
READY = "[ $(plumctl status -o jsonpath=.ready) = true ]"


def test_installs_runs_contained_survives_and_leaves(tmp_path: Path) -> None:
    steps = [
        "dpkg --force-confold -i /opt/*.deb",
        "getent group plum plum-admin && ! systemctl is-enabled plumd && ! systemctl is-active plumd",
        "ip link add u0 type veth peer name u1 && ip addr add 192.0.2.1/24 dev u0"
        " && ip link set u0 up && ip link set u1 up",
        "echo PLUM_NODE=n1 >>/etc/default/plumd && systemctl enable --now plumd",
        "plumctl apply -f /opt/zone.yaml --wait --timeout 120",
        PING,
        f"[ $(readlink /proc/{PID}/ns/mnt) = $(readlink /proc/1/ns/mnt) ]",
        f"grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/{PID}/status",
        "stat -c '%a %U %G' /run/plum /run/plum/plumd.sock /var/lib/plum",
        # A restart under traffic: nothing is lost, and it knows its namespaces again.
        f"{FLOOD}; systemctl restart plumd && {SETTLED} && {PING}",
        "grep -q ' 0% packet loss' <(sleep 40; cat /run/ping) || { cat /run/ping; false; }",
        # The same package again, as an upgrade: it restarts.
        f"before={PID}; dpkg -i /opt/*.deb && [ {PID} != $before ] && {SETTLED} && {READY}",
        # An event loop that hangs ends by the watchdog, and another one starts.
        "mkdir -p /run/systemd/system/plumd.service.d && printf '[Service]\\nWatchdogSec=4\\n'"
        " >/run/systemd/system/plumd.service.d/t.conf && systemctl daemon-reload"
        f" && systemctl restart plumd && {SETTLED}",
        f"before={PID}; kill -STOP $before; for i in $(seq 60); do [ {PID} != $before ]"
        f" && [ {PID} != 0 ] && break; sleep 0.5; done; [ {PID} != $before ] && {SETTLED}",
        "journalctl -u plumd --no-pager | grep -i 'watchdog timeout'",
        PING,
        "! journalctl -u plumd --no-pager -p err | grep -i -E 'denied|not permitted'",
        # Removed, it goes on forwarding; purged, nothing is left.
        f"dpkg -r plum-networks && ! command -v plumctl && {PING}",
        "ls /usr/lib/plum 2>/dev/null | grep . && exit 1; [ -d /sys/fs/bpf/plum ]",
        "dpkg -P plum-networks",
        "! ls -d /sys/fs/bpf/plum /var/lib/plum /run/plum /etc/default/plumd 2>/dev/null | grep .",
        "! ip netns list | grep . && ! ip -o link | grep plum: && ! getent group plum plum-admin",
        "! tc filter show dev u0 ingress | grep plum",
    ]
    zone = tmp_path / "zone.yaml"
    zone.write_text(ZONE)
    report = run_booted(steps, [Path(PACKAGE), zone], timeout_s=1500)
    failed = [result for result in report.results if result.status]
    assert not failed, "\n".join(f"{r.command}\n  -> {r.status}: {r.output}" for r in failed)
