"""A whole sandbox: real daemons, real programs, packets between nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plumctl.sandbox import fabric, process, zone
from plumctl.sandbox.layout import Layout

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: runs plumd and makes namespaces"),
]
SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop.yaml"
TENANT = "t-cli"  # workloads' namespaces carry it: `make demo` may have left acme's


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """The example, of a tenant of our own."""
    mine = tmp_path / "shop.yaml"
    mine.write_text(SHOP.read_text().replace("acme", TENANT))
    return str(mine)


LAYOUT = Layout("t-cli-up")


@pytest.fixture
def sandbox(plumctl: Any, environment: dict[str, str]) -> Iterator[Any]:
    """`plumctl sandbox ...` of a sandbox of our own, gone at the end."""
    del environment["PLUM_SOCKET"]
    environment["PLUM_SANDBOX"] = LAYOUT.name
    plumctl("sandbox", "down")
    yield lambda *argv, **more: plumctl("sandbox", *argv, **more)
    down = plumctl("sandbox", "down")
    LAYOUT.lock_file.unlink()
    assert down.code == 0, down.err
    assert not [name for name in fabric.namespaces() if name.startswith(LAYOUT.prefix)]
    assert f"plum-{TENANT}-shop-web-1" not in fabric.namespaces()
    assert process.processes(LAYOUT) == []
    for folder in (LAYOUT.run_dir, LAYOUT.pin_dir, LAYOUT.store_dir):
        assert not folder.exists()


@pytest.mark.parametrize(("family", "store"), [("4", "sqlite"), ("6", "sqlite"), ("6", "etcd")])
def test_workloads_talk_across_nodes_and_policies_hold(
    sandbox: Any, plumctl: Any, shop: str, family: str, store: str
) -> None:
    up = sandbox("up", "--domain", shop, "--underlay", family, "--store", store)
    assert up.code == 0, up.err
    listing = json.loads(plumctl("get", "ep", "-o", "json").out)
    assert {item["status"]["state"] for item in listing["items"]} == {"programmed"}
    ping = ("--", "ping", "-c", "3", "-i", "0.2", "-W", "2")
    assert sandbox("exec", "app-1", *ping, "10.1.0.11").code == 0  # n2 to n1, allowed
    assert sandbox("exec", "web-1", *ping, "10.2.0.11").code == 1  # n1 to n2, refused
    drops = plumctl("drops", "--endpoint", "app-1", "-o", "name").lines
    assert "POLICY_INGRESS" in drops


def test_up_again_keeps_the_zone_and_starts_dead_nodes(
    sandbox: Any, plumctl: Any, shop: str
) -> None:
    assert sandbox("up", "--nodes", "3", "--domain", shop).code == 0
    pids = json.loads(sandbox("status", "-o", "json").out)["items"]
    os.kill(pids[1]["pid"], signal.SIGKILL)
    assert sandbox("status").code == 1
    again = sandbox("up", "--nodes", "3", "--domain", shop)
    assert again.code == 0, again.err
    after = json.loads(sandbox("status", "-o", "json").out)["items"]
    assert [node["state"] for node in after] == ["running"] * 3
    assert [node["pid"] for node in after][::2] == [node["pid"] for node in pids][::2]
    assert f"{TENANT}/shop/web-1" in plumctl("get", "ep", "-o", "name").lines
    assert sandbox("up", "--nodes", "2").code == 6
    assert sandbox("exec", "web-1", "--", "sh", "-c", "exit 42").code == 42
    n2 = sandbox("node", "n2", "--", sys.executable, "-m", "plumctl", "status", "-o", "name")
    assert n2.out == "n2\n"


def test_a_zone_on_etcd_works_without_any_one_member_and_is_mended(
    sandbox: Any, plumctl: Any, shop: str
) -> None:
    assert sandbox("up", "--store", "etcd", "--domain", shop).code == 0
    members = {one.node: one.pid for one in process.processes(LAYOUT) if "." in one.node}
    assert set(members) == {"n1.etcd", "n2.etcd", "n3.etcd"}
    os.kill(members["n1.etcd"], signal.SIGKILL)
    more = ("--bridge", "web", "--node", "n1", "--wait")
    created = plumctl("endpoint", "create", f"{TENANT}/shop/web-9", *more)
    assert created.code == 0, created.err
    assert sandbox("up", "--store", "etcd").code == 0
    again = {one.node for one in process.processes(LAYOUT)}
    assert again == {"n1", "n2", "n3", *members}
    assert f"{TENANT}/shop/web-9" in plumctl("get", "ep", "-o", "name").lines
    assert sandbox("up", "--store", "sqlite").code == 6


@pytest.mark.parametrize("after_s", [0.2, 0.5, 1.0])
def test_up_after_one_that_was_killed_half_way(
    sandbox: Any, environment: dict[str, str], after_s: float
) -> None:
    half = subprocess.Popen(
        [sys.executable, "-m", "plumctl", "sandbox", "up", "--nodes", "2"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(after_s)  # not synchronisation: any moment will do
    half.kill()
    half.wait()
    up = sandbox("up", "--nodes", "2")
    assert up.code == 0, up.err
    assert [node.state for node in zone.states(LAYOUT)] == ["running"] * 2
    assert len(process.processes(LAYOUT)) == 2
