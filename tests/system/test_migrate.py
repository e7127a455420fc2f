"""A zone moves from SQLite to three etcd members while its packets go on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from plumctl.errors import PlumError
from plumctl.sandbox import etcd, fabric, process
from plumctl.sandbox import zone as sandboxes
from tests.system.conftest import sandbox
from tests.system.steady import steady
from tests.system.zone import Zone, domain, endpoint, tenant, until

pytestmark = pytest.mark.timeout(180)

NAME = "t-sys-mig"
LAB = f"{NAME}/lab"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def moving() -> Iterator[Zone]:
    yield from sandbox(NAME, 3, 4)


def known(zone: Zone, node: str) -> dict[str, object]:
    """What was given to every object, by kind and path."""
    return {
        f"{kind} {view.path}": (view.spec, view.allocated)
        for kind in ("node", "tenant", "domain", "endpoint")
        for view in zone.client(node).list(kind).items
    }


def migrate(zone: Zone, source: str, target: str) -> subprocess.CompletedProcess[str]:
    """As an operator on n1, where the members can be reached."""
    command = [sys.executable, "-P", "-m", "plumctl", "zone", "migrate", source, target]
    return subprocess.run(
        fabric.enter(zone.layout.namespace("n1"), command),
        capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_zone_moves_from_sqlite_to_etcd_and_its_packets_go_on(moving: Zone) -> None:
    zone = moving
    zone.apply(
        [
            tenant(NAME),
            domain(NAME, "lab", [{"name": "lan", "subnets": ["10.8.1.0/24"]}]),
            endpoint(f"{LAB}/one", "lan", "n1"),
            endpoint(f"{LAB}/two", "lan", "n2"),
        ]
    )
    before = known(zone, "n1")
    cluster = sandboxes.fabric_for(3, 4, 1500, "etcd")
    etcd.make_certificates(zone.layout, cluster)
    for node in etcd.members(cluster):
        process.start_member(zone.layout, node, etcd.command(zone.layout, cluster, node))
    old, new = f"sqlite://{zone.layout.store}", etcd.url(zone.layout, cluster, "n1")
    guests = zone.guests(NAME)
    with steady(guests["lab/one"], guests["lab/two"]) as traffic:
        moved = migrate(zone, old, new)
        assert moved.returncode == 0, moved.stderr
        # The old store is closed, and says where the zone has gone.
        with pytest.raises(PlumError) as refused:
            zone.client("n2").apply([endpoint(f"{LAB}/lost", "lan", "n1")])
        assert "etcd://" in f"{refused.value.message} {refused.value.hint}"
        for node in zone.nodes:
            zone.kill(node)
            url = etcd.url(zone.layout, cluster, node)
            process.start_plumd(zone.layout, node, url)
            until(lambda node=node: zone.ready(node), 30)  # type: ignore[misc]
        zone.apply([endpoint(f"{LAB}/three", "lan", "n3")], node="n2")
        sent = traffic.sent
        until(lambda: traffic.sent > sent + 50)
    traffic.check(100)
    after = known(zone, "n3")
    assert after.pop(f"endpoint {LAB}/three")
    assert after == before
