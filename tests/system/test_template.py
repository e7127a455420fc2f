"""A template of ten bridges and forty endpoints, on the wire, and its upgrade."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from plumctl.commands.template import SHIPPED
from tests.system.zone import Guest, Zone, tenant, until

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


def test_tenants_with_the_same_addresses_use_one_service(plum: Zone, tmp_path: Path) -> None:
    names = {"provider": f"{TENANT}-p", "one": f"{TENANT}-1", "two": f"{TENANT}-2"}
    network = f"{TENANT}-net"
    spec = {"gateways": [{"node": "n1"}], "nat": ["100.64.3.0/28"], "floating": ["100.64.2.0/24"]}
    plum.apply([{"kind": "external", "name": network, "spec": spec}, *map(tenant, names.values())])
    given = ("--set", "nodes=n1,n2,n3", "--set", f"network={network}", "--wait")
    where = ("--set", "address=100.64.2.10", "--set", "consumers=100.64.3.0/28")
    try:
        path = f"{names['provider']}/shop"
        plumctl(plum, tmp_path, "template", "instantiate", "provider", path, *where, *given)
        for who in ("one", "two"):
            path = f"{names[who]}/office"
            plumctl(plum, tmp_path, "template", "instantiate", "consumer", path, *given)
        servers = [plum.guest(f"{names['provider']}/shop/server-{n}") for n in (1, 2)]
        with ExitStack() as stack:
            for server in servers:
                stack.enter_context(answering(server, 443))
            for who in ("one", "two"):
                desk = plum.guest(f"{names[who]}/office/desk-1")
                assert desk.ip() == "192.168.1.2"
                said = {until(lambda desk=desk: asked(desk)) for _ in range(20)}
                assert said == {server.path for server in servers}
    finally:
        for name in names.values():
            plum.drop_tenant(name)
        plum.delete(("external", network))


@contextmanager
def answering(server: Guest, port: int) -> Iterator[None]:
    """Says who it is to everybody who connects, until the end."""
    listening = server.listen(port)

    def serve() -> None:
        with suppress(OSError):
            while True:
                accepted, _ = listening.accept()
                with suppress(OSError), accepted:
                    accepted.sendall(server.path.encode())

    listening.settimeout(None)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    listening.close()


def asked(desk: Guest) -> str:
    """Which server answers; empty while none is known to live."""
    try:
        with desk.connect("100.64.2.10", 443, 2) as opened:
            return opened.recv(100).decode()
    except OSError:
        return ""


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
