"""Checks against real servers behind a veth: what serves, what does not, and why."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from daemon.drivers.netns import entered
from daemon.health.checks import check
from daemon.health.wire import wire
from daemon.model.balancer import Health
from daemon.responders.segment import Ends

pytestmark = pytest.mark.privileged

VIP = {4: "10.3.0.100", 6: "fd00:3::100"}
OWN = {4: "10.3.0.11", 6: "fd00:3::11"}
VIP_MAC, MAC = "02:6c:00:00:00:01", "02:65:00:00:00:01"
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Backend:
    """A namespace with one device, whose other end is ours."""

    def __init__(self, name: str, device: str) -> None:
        self.device, self.path = device, Path("/run/netns") / name
        self.port = 64600

    def listen(self, family: int, kind: int, port: int) -> socket.socket:
        with entered(self.path):
            opened = socket.socket(FAMILY[family], kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((OWN[family], port))
        return opened

    def ask(self, family: int = 4, **spec: Any) -> str:
        self.port += 1
        macs = (bytes.fromhex(mac.replace(":", "")) for mac in (VIP_MAC, MAC))
        addresses = (ip_address(VIP[family]), ip_address(OWN[family]))
        health = Health.model_validate({"timeout_s": 2, **spec})
        ends = Ends(*macs, *addresses, self.port, health.port or 0)

        async def run() -> str:
            async with wire(socket.if_nametoindex(self.device), ends) as line:
                return await check(health, line, ends)

        return asyncio.run(run())


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=10)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    mark = secrets.token_hex(3)
    name, device = f"t-health-{mark}", f"thc{mark}"
    ip("netns", "add", name)
    try:
        peer = ("peer", "name", "eth0", "address", MAC, "netns", name)
        ip("link", "add", device, "type", "veth", *peer)
        ip("link", "set", device, "addrgenmode", "none", "up")
        for words in (
            ("link", "set", "eth0", "up"),
            ("addr", "add", f"{OWN[4]}/24", "dev", "eth0"),
            ("addr", "add", f"{OWN[6]}/64", "dev", "eth0", "nodad"),
            *(("neigh", "add", VIP[family], "lladdr", VIP_MAC, "dev", "eth0") for family in (4, 6)),
        ):
            ip("-n", name, *words)
        yield Backend(name, device)
    finally:
        ip("netns", "del", name)


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/well" else 503)
        self.end_headers()
        self.wfile.write(b"x" * 100_000)  # more than a check reads

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


def serving(
    backend: Backend, family: int, port: int, wrap: Callable[[Any], Any] = lambda sock: sock
) -> HTTPServer:
    listening = backend.listen(family, socket.SOCK_STREAM, port)
    listening.listen(8)
    server = HTTPServer(("", 0), Page, bind_and_activate=False)
    server.socket.close()
    server.socket = wrap(listening)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture(scope="module", params=[4, 6])
def family(request: pytest.FixtureRequest, backend: Backend) -> Iterator[int]:
    server = serving(backend, request.param, 8080)
    yield request.param
    server.shutdown()
    server.server_close()


def test_tcp_that_listens_is_up(backend: Backend, family: int) -> None:
    assert backend.ask(family, kind="tcp", port=8080) == ""


def test_tcp_that_does_not_listen_is_refused(backend: Backend, family: int) -> None:
    assert backend.ask(family, kind="tcp", port=8081) == "connection refused"


def test_http_judges_the_status(backend: Backend, family: int) -> None:
    well = {"kind": "http", "port": 8080, "path": "/well"}
    assert backend.ask(family, **well) == ""
    assert backend.ask(family, **well, status={"first": 200, "last": 204}) == ""
    assert backend.ask(family, **well, status=204) == "status 200, not 204"
    ill = {**well, "path": "/ill"}
    assert backend.ask(family, **ill) == "status 503, not 200 to 399"
    assert backend.ask(family, **ill, status=503) == ""


def test_connections_are_closed_at_both_ends(backend: Backend, family: int) -> None:
    for _ in range(5):
        assert backend.ask(family, kind="http", port=8080, path="/well") == ""
    name = backend.path.name
    command = ["ip", "netns", "exec", name, "ss", "-Htn", "state", "established"]
    assert subprocess.run(command, capture_output=True, check=True, timeout=10).stdout == b""


def test_what_is_no_http_is_down(backend: Backend) -> None:
    with closing(backend.listen(4, socket.SOCK_STREAM, 8090)) as listening:
        listening.listen(1)

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-none\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert backend.ask(kind="http", port=8090) == "no HTTP answer"
        thread.join(5)


def test_a_server_that_says_nothing_is_down_in_time(backend: Backend) -> None:
    with closing(backend.listen(4, socket.SOCK_STREAM, 8091)) as listening:
        listening.listen(1)
        said = backend.ask(kind="http", port=8091, timeout_s=0.3)
    assert said == "no answer within 0.3 s"


def tls_context(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "anybody")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    certificate = made.sign(key, hashes.SHA256())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(encoding, form, serialization.NoEncryption())
    (folder / "pem").write_bytes(pem + certificate.public_bytes(encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    return context


def test_https_of_any_certificate(backend: Backend, tmp_path: Path) -> None:
    context = tls_context(tmp_path)
    server = serving(backend, 4, 8443, lambda sock: context.wrap_socket(sock, server_side=True))
    try:
        assert backend.ask(kind="https", port=8443, path="/well") == ""
        assert backend.ask(kind="https", port=8443, path="/ill") == "status 503, not 200 to 399"
    finally:
        server.shutdown()
        server.server_close()


def test_https_to_a_server_without_tls_is_down(backend: Backend, family: int) -> None:
    assert backend.ask(family, kind="https", port=8080).startswith("TLS: ")


@pytest.mark.parametrize("version", [4, 6])
def test_udp_is_up_when_it_answers(backend: Backend, version: int) -> None:
    with closing(backend.listen(version, socket.SOCK_DGRAM, 5353)) as server:

        def answer() -> None:
            data, peer = server.recvfrom(4096)
            assert data == b"\xffwho"
            assert peer[0] == VIP[version]
            server.sendto(b"me", peer)

        thread = threading.Thread(target=answer)
        thread.start()
        assert backend.ask(version, kind="udp", port=5353, send="\u00ffwho") == ""
        thread.join(5)
        mute = backend.ask(version, kind="udp", port=5353, send="x", timeout_s=0.3)
    assert mute == "no answer within 0.3 s"
    assert backend.ask(version, kind="udp", port=5353, send="x") == "port unreachable"
