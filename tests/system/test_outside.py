"""Out of the zone and in, on the wire: real sockets, two gateways, one of which dies."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.abi import Uplink
from daemon.datapath.maps import Map
from daemon.drivers.netns import entered
from daemon.model.manifest import parse_manifests
from plumctl.sandbox.layout import NETNS_DIR
from tests.system.zone import Guest, Zone, until

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "outside.yaml"
TENANT = "t-sys-hooli"
HOST = {4: "198.51.100.254", 6: "2001:db8:51::fe"}
FLOAT = {4: "198.51.100.130", 6: "2001:db8:51::230"}
FORWARD = "198.51.100.131"
BALANCED = "198.51.100.132"
SHARED = ("198.51.100.64", "198.51.100.65", "198.51.100.66", "198.51.100.67")
CONNECTIONS = 1000
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def documents() -> list[dict[str, Any]]:
    parsed = parse_manifests(EXAMPLE.read_text(), EXAMPLE.name)
    assert not parsed.problems
    found = [manifest.document() for manifest in parsed.manifests]
    for document in found:
        document["name" if document["kind"] == "tenant" else "tenant"] = TENANT
    return found


@pytest.fixture(scope="module")
def guests(zone_of_three: Zone) -> Iterator[dict[str, Guest]]:
    zone_of_three.apply(documents())
    yield {path.split("/")[1]: g for path, g in zone_of_three.guests(TENANT).items()}
    zone_of_three.drop_tenant(TENANT)


@pytest.fixture
def outside(zone_of_three: Zone) -> Path:
    return NETNS_DIR / zone_of_three.layout.outside


def listening(namespace: Path, family: int, port: int, address: str = "") -> socket.socket:
    with entered(namespace):
        server = socket.create_server((address, port), family=FAMILY[family], backlog=2048)
    server.settimeout(5)
    return server


class Echo(threading.Thread):
    """A server outside that sends back what it gets, and notes who asked."""

    def __init__(self, server: socket.socket) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._poll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self._end = False
        self.peers: set[str] = set()
        server.setblocking(False)
        self._poll.register(server, select.EPOLLIN)

    def run(self) -> None:
        while not self._end:
            for fd, _ in self._poll.poll(0.2):
                self._serve(fd)

    def _serve(self, fd: int) -> None:
        if fd == self._server.fileno():
            connection, peer = self._server.accept()
            self.peers.add(peer[0])
            self._open[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)
            return
        data = self._open[fd].recv(4096)
        if data:
            self._open[fd].sendall(data)
        else:
            self._poll.unregister(fd)
            self._open.pop(fd).close()

    def close(self) -> None:
        self._end = True
        self.join()
        for connection in self._open.values():
            connection.close()
        self._server.close()


@contextlib.contextmanager
def echo(namespace: Path, family: int = 4, port: int = 7000) -> Iterator[Echo]:
    thread = Echo(listening(namespace, family, port))
    thread.start()
    try:
        yield thread
    finally:
        thread.close()


def connect(guest: Guest, family: int, address: str, port: int) -> socket.socket:
    opened = guest.socket(FAMILY[family], socket.SOCK_STREAM)
    opened.settimeout(5)
    opened.connect((address, port))
    return opened


def exchange(opened: socket.socket, word: bytes) -> bytes:
    opened.sendall(word)
    got = b""
    while len(got) < len(word):
        more = opened.recv(len(word) - len(got))
        assert more, "the other side ended the connection"
        got += more
    return got


@pytest.mark.parametrize("family", [4, 6])
def test_endpoints_share_public_addresses(
    guests: dict[str, Guest], outside: Path, family: int
) -> None:
    with echo(outside, family) as server:
        for name in ("app-1", "app-2"):
            with connect(guests[name], family, HOST[family], 7000) as opened:
                assert exchange(opened, name.encode()) == name.encode()
    if family == 4:
        assert server.peers <= set(SHARED)
    assert guests["app-1"].ip(family) not in server.peers


@pytest.mark.parametrize("family", [4, 6])
def test_a_floating_address_is_reached_and_used(
    guests: dict[str, Guest], outside: Path, family: int
) -> None:
    server = guests["web-1"].socket(FAMILY[family], socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", 80))
    server.listen()
    server.settimeout(5)
    with entered(outside):
        client = socket.create_connection((FLOAT[family], 80), timeout=5)
    accepted, peer = server.accept()
    assert peer[0] == HOST[family]
    client.sendall(b"hello")
    assert accepted.recv(16) == b"hello"
    with entered(outside), pytest.raises(TimeoutError):  # no rule lets it in
        socket.create_connection((FLOAT[family], 81), timeout=0.3)
    for one in (client, accepted, server):
        one.close()
    with echo(outside, family) as there:
        with connect(guests["web-1"], family, HOST[family], 7000) as opened:
            exchange(opened, b"x")
        assert there.peers == {FLOAT[family]}


def test_a_load_balancer_behind_a_public_address(guests: dict[str, Guest], outside: Path) -> None:
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(echo(NETNS_DIR / guests[name].namespace, port=80))
            for name in ("web-1", "web-2")
        ]
        with entered(outside):
            for _ in range(30):
                client = socket.create_connection((BALANCED, 80), timeout=5)
                assert exchange(client, b"shop") == b"shop"
                client.close()
        assert [server.peers for server in servers] == [{HOST[4]}, {HOST[4]}]


def test_a_forwarded_port(guests: dict[str, Guest], outside: Path) -> None:
    server = guests["app-1"].socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", 22))
    server.listen()
    server.settimeout(5)
    with entered(outside):
        client = socket.create_connection((FORWARD, 2222), timeout=5)
    accepted, _ = server.accept()
    accepted.sendall(b"SSH-2.0")
    assert client.recv(16) == b"SSH-2.0"
    for one in (client, accepted, server):
        one.close()


def test_from_inside_by_the_public_address(guests: dict[str, Guest]) -> None:
    server = guests["web-1"].socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", 80))
    server.listen()
    server.settimeout(5)
    with connect(guests["app-2"], 4, FLOAT[4], 80) as client:
        accepted, peer = server.accept()
        assert peer[0] in SHARED
        client.sendall(b"hairpin")
        assert accepted.recv(16) == b"hairpin"
        accepted.close()
    server.close()


@pytest.mark.parametrize("family", [4, 6])
def test_bulk_through_source_nat(guests: dict[str, Guest], outside: Path, family: int) -> None:
    size = 4 << 20
    server = listening(outside, family, 7001)
    with connect(guests["app-1"], family, HOST[family], 7001) as client:
        accepted, _ = server.accept()
        sending = threading.Thread(target=client.sendall, args=(bytes(size),))
        sending.start()
        got = 0
        while got < size:
            got += len(accepted.recv(1 << 16))
        sending.join()
        back = threading.Thread(target=accepted.sendall, args=(bytes(size),))
        back.start()
        while got < 2 * size:
            got += len(client.recv(1 << 16))
        back.join()
        accepted.close()
    server.close()


def test_path_mtu_is_found_from_outside(outside: Path, guests: dict[str, Guest]) -> None:
    """The way to an edge is narrower than the street: the gateway says so."""
    command = ["ping", "-c", "3", "-i", "0.2", "-W", "1", "-M", "do", "-s", "1472", FLOAT[4]]
    with entered(outside):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert "mtu = 1450" in done.stdout.lower() or "mtu=1450" in done.stdout.lower(), done.stdout


def test_traceroute_shows_the_way(outside: Path, guests: dict[str, Guest]) -> None:
    shown = guests["app-1"].run("traceroute", "-n", "-I", "-q", "1", "-w", "1", HOST[4])
    assert "10.9.2.1" in shown and HOST[4] in shown


class Pinger(threading.Thread):
    """A hundred packets a second to the echo server; the longest silence, in seconds."""

    def __init__(self, guest: Guest, outside: Path) -> None:
        super().__init__(daemon=True)
        with entered(outside):
            self._server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._server.bind(("", 7002))
        self._client = guest.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._client.connect((HOST[4], 7002))
        for one in (self._server, self._client):
            one.setblocking(False)
        self.longest_s = 0.0
        self.answers = 0
        self._end = False

    def run(self) -> None:
        heard = time.monotonic()
        while not self._end:
            with contextlib.suppress(OSError):
                self._client.send(b"?")
            time.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, peer = self._server.recvfrom(16)
                    self._server.sendto(data, peer)
            with contextlib.suppress(OSError):
                while self._client.recv(16):
                    now = time.monotonic()
                    self.longest_s = max(self.longest_s, now - heard)
                    heard = now
                    self.answers += 1

    def close(self) -> float:
        self._end = True
        self.join()
        self._server.close()
        self._client.close()
        return self.longest_s


def test_no_connection_notices_a_dead_gateway(
    zone_of_three: Zone, guests: dict[str, Guest], outside: Path
) -> None:
    with echo(outside) as server, contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(connect(guests["app-1"], 4, HOST[4], 7000))
            for _ in range(CONNECTIONS)
        ]
        for number, one in enumerate(opened):
            assert exchange(one, f"{number:04}".encode()) == f"{number:04}".encode()
        for death in ("process", "outer link", "underlay link"):
            pinger = Pinger(guests["app-1"], outside)
            pinger.start()
            until(lambda of=pinger: of.answers > 20)
            with dead(zone_of_three, "n2", death):
                if death != "process":
                    until(lambda: gateways_used(zone_of_three) == 1)
                for one in opened:
                    assert exchange(one, b"still") == b"still"
            until(lambda: gateways_used(zone_of_three) == 2, 10)
            for one in opened:
                assert exchange(one, b"again") == b"again"
            silence = pinger.close()
            assert silence <= 1.0, f"{death}: {silence:.2f} s without an answer"
    assert server.peers <= set(SHARED)


def gateways_used(zone: Zone) -> int:
    """Gateways that n3 sends to."""
    table = Map.pinned(zone.layout.node_pin_dir("n3") / "plum_uplink")
    rows = [Uplink.unpack(value) for value in table.dump().values()]
    table.close()
    return max((row.gateways for row in rows), default=0)


@contextlib.contextmanager
def dead(zone: Zone, node: str, how: str) -> Iterator[None]:
    if how == "process":
        zone.kill(node)
        try:
            yield
        finally:
            zone.start(node)
        return
    device = "outside" if how == "outer link" else "underlay"
    zone.on(node, "ip", "link", "set", device, "down")
    try:
        yield
    finally:
        zone.on(node, "ip", "link", "set", device, "up")
