"""Health checks on the wire: a real web server dies and comes back behind a balancer."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.system.zone import Document, Guest, Zone, domain, endpoint, tenant, until

TENANT = "t-sys-clinic"
VIP = {4: "10.9.1.100", 6: "fd00:9:1::100"}
SERVERS = ("web-1", "web-2", "web-3")
INTERVAL_S, FALL = 0.3, 2
#: Beside interval * fall: a timeout, the report, the watch and a compilation, on a busy machine.
SLACK_S = 3.0


def documents(name: str) -> list[Document]:
    """Two domains use the same addresses: a check must reach its own."""
    bridges = [
        {"name": "web", "subnets": ["10.9.1.0/24", "fd00:9:1::/64"]},
        {"name": "far", "subnets": ["10.9.2.0/24", "fd00:9:2::/64"]},
    ]
    routers = [
        {
            "name": "core",
            "interfaces": [
                {"bridge": "web", "addresses": ["10.9.1.1/24", "fd00:9:1::1/64"]},
                {"bridge": "far", "addresses": ["10.9.2.1/24", "fd00:9:2::1/64"]},
            ],
        }
    ]
    health = {"kind": "http", "path": "/name", "status": 200, "interval_s": INTERVAL_S}
    health |= {"timeout_s": 0.3, "rise": 2, "fall": FALL}
    front = {"name": "front", "bridge": "web", "addresses": list(VIP.values()), "health": health}
    front |= {"listeners": [{"port": 80, "to_port": 8080}]}
    front["backends"] = [{"endpoint": server} for server in SERVERS]
    path = f"{TENANT}/{name}"
    return [
        domain(TENANT, name, bridges, routers=routers, load_balancers=[front]),
        endpoint(f"{path}/web-1", "web", "n1", "10.9.1.11", "fd00:9:1::11", **inside(name, "1")),
        endpoint(f"{path}/web-2", "web", "n2", "10.9.1.12", "fd00:9:1::12", **inside(name, "2")),
        endpoint(f"{path}/web-3", "far", "n3", "10.9.2.13", "fd00:9:2::13", **inside(name, "3")),
        endpoint(f"{path}/buyer", "far", "n1", "10.9.2.21", "fd00:9:2::21", **inside(name, "b")),
    ]


def inside(name: str, mark: str) -> Document:
    return {"attach": {"namespace": f"{TENANT}-{name}-{mark}"}}


class Servers:
    def __init__(self, guests: dict[str, Guest], pages: Path) -> None:
        self.guests = guests
        self._pages = pages
        self._running: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str) -> None:
        folder = self._pages / name
        folder.mkdir(exist_ok=True)
        (folder / "name").write_text(name)
        command = ["python3", "-m", "http.server", "8080", "--bind", "::", "-d", str(folder)]
        self._running[name] = self.guests[name].start(*command)
        until(lambda: ":8080" in self.guests[name].run("ss", "-Hltn"), 20)

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.kill()
        process.communicate()

    def stop(self) -> None:
        for name in list(self._running):
            self.kill(name)


@pytest.fixture(scope="module")
def servers(zone_of_three: Zone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    zone_of_three.apply([tenant(TENANT), *documents("ward"), *documents("twin")])
    guests = {
        path.removeprefix("ward/"): guest
        for path, guest in zone_of_three.guests(TENANT).items()
        if path.startswith("ward/")
    }
    with ExitStack() as stack:
        found = Servers(guests, tmp_path_factory.mktemp("pages"))
        stack.callback(found.stop)
        for name in SERVERS:
            found.start(name)
        yield found
    zone_of_three.drop_tenant(TENANT)


def verdicts(zone: Zone, name: str = "ward", node: str = "n1") -> dict[str, Any]:
    view = zone.client(node).get("domain", f"{TENANT}/{name}")
    return dict((view.document.get("health") or {}).get("front", {}))


def up(zone: Zone) -> set[str]:
    return {name for name, verdict in verdicts(zone).items() if verdict["up"]}


def asked(client: Guest, family: int, times: int) -> Counter[str]:
    host = VIP[family] if family == 4 else f"[{VIP[family]}]"
    urls = [f"http://{host}/name"] * times
    header = ("-H", "Connection: close", "-w", "\n")
    return Counter(client.run("curl", "-sS", "--fail", *header, *urls, timeout_s=60).split())


def test_a_dead_server_gets_nothing_new_and_comes_back(plum: Zone, servers: Servers) -> None:
    buyer = servers.guests["buyer"]
    until(lambda: up(plum) == set(SERVERS), 15)
    until(lambda: set(asked(buyer, 4, 30)) == set(SERVERS), 15)
    with ExitStack() as stack:
        held = [stack.enter_context(buyer.connect(VIP[4], 80)) for _ in range(9)]
        servers.kill("web-2")
        killed = time.monotonic()
        until(lambda: up(plum) == {"web-1", "web-3"}, INTERVAL_S * FALL + SLACK_S)
        assert "refused" in verdicts(plum)["web-2"]["why"]
        until(lambda: answers_well(buyer), 2.0)
        assert time.monotonic() - killed < INTERVAL_S * FALL + SLACK_S + 2.0
        for family in (4, 6):
            assert set(asked(buyer, family, 30)) == {"web-1", "web-3"}
        alive = [name for connection in held if (name := said(connection))]
        assert alive and set(alive) == {"web-1", "web-3"}
    servers.start("web-2")
    until(lambda: up(plum) == set(SERVERS), 15)
    until(lambda: "web-2" in asked(buyer, 4, 30), 5)


def answers_well(buyer: Guest) -> bool:
    try:
        return sum(asked(buyer, 4, 20).values()) == 20
    except AssertionError:
        return False


def said(connection: Any) -> str:
    """Who answers on a connection opened before; nothing: it died with its server."""
    try:
        connection.sendall(b"GET /name HTTP/1.0\r\n\r\n")
        heard = b""
        while part := connection.recv(65536):
            heard += part
    except OSError:
        return ""
    return heard.rpartition(b"\r\n")[2].decode()


def test_a_check_reaches_its_own_domain(plum: Zone, servers: Servers) -> None:
    """Nobody serves in the domain that has the same addresses."""
    until(lambda: {v["up"] for v in verdicts(plum, "twin").values()} == {False}, 15)
    assert up(plum) == set(SERVERS)


def test_checks_leave_no_drops(plum: Zone, servers: Servers) -> None:
    paths = {f"{TENANT}/ward/{name}" for name in SERVERS}
    drops = [row for row in plum.client().counters().drops if row.get("endpoint") in paths]
    assert [row for row in drops if row["reason"] in ("NO_LISTENER", "TCP_NO_HANDSHAKE")] == []


def test_a_stopped_guest_is_down_by_its_silence(plum: Zone, servers: Servers) -> None:
    guest = servers.guests["web-1"]
    guest.run("ip", "link", "set", "eth0", "down")
    try:
        until(lambda: "web-1" not in up(plum), 15)
        assert "no answer" in verdicts(plum)["web-1"]["why"]
    finally:
        guest.run("ip", "link", "set", "eth0", "up")
    until(lambda: "web-1" in up(plum), 20)
