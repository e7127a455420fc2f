"""A template of ten bridges and forty endpoints, on the wire, and its upgrade."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from plumctl.commands.template import SHIPPED
from tests.system.zone import Zone, tenant

TENANT = "t-sys-play"
PATH = f"{TENANT}/lab"
BAR_S = 5.0


def plumctl(zone: Zone, config: Path, *words: str) -> str:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(config)}
    command = [sys.executable, "-m", "plumctl", *words, "--socket", str(zone.layout.socket("n1"))]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def tenanted(plum: Zone) -> Iterator[Zone]:
    plum.apply([tenant(TENANT)])
    yield plum
    plum.drop_tenant(TENANT)


def test_ten_bridges_and_forty_endpoints_ping(tenanted: Zone, tmp_path: Path) -> None:
    given = ("--set", "nodes=n1,n2,n3", "--set", "bridges=10", "--set", "endpoints=4", "--wait")
    started = time.monotonic()
    plumctl(tenanted, tmp_path, "template", "instantiate", "playground", PATH, *given)
    guests = sorted(tenanted.guests(TENANT).items())
    assert len(guests) == 40

    def ping(index: int) -> str:
        """Each to the next, the last to the first: within bridges and between them."""
        target = guests[(index + 1) % len(guests)][1].ip()
        return guests[index][1].run("ping", "-c1", "-W2", target)

    with ThreadPoolExecutor(8) as pool:
        assert all(" 0% packet loss" in said for said in pool.map(ping, range(len(guests))))
    took_s = time.monotonic() - started
    print(f"instantiated and pinged in {took_s:.2f} s")
    assert took_s <= BAR_S

    own = tmp_path / "plum" / "templates"
    own.mkdir(parents=True)
    text = (SHIPPED / "playground.yaml").read_text().replace("version: 1", "version: 2")
    (own / "mine.yaml").write_text(text.replace("ingress: allow", "ingress: deny"))
    shown = plumctl(tenanted, tmp_path, "template", "upgrade", "playground", "--dry-run")
    assert f"Instance {PATH}:" in shown and "deny" in shown
    before = tenanted.client().get("domain", PATH)
    assert before.spec["origin"]["version"] == 1
    plumctl(tenanted, tmp_path, "template", "upgrade", "playground", "--yes", "--wait")
    after = tenanted.client().get("domain", PATH)
    assert after.spec["default"]["ingress"] == "deny"
    assert after.spec["origin"]["version"] == 2
    again = plumctl(tenanted, tmp_path, "template", "upgrade", "playground", "--yes")
    assert "0 differ" in again
