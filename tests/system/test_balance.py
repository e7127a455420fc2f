"""A load balancer on the wire: real servers, real clients, backends that come and go."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from daemon.model.manifest import parse_manifests
from tests.system.zone import Guest, Zone, until

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "balanced.yaml"
TENANT = "t-sys-soylent"
VIP = {4: "10.8.1.100", 6: "fd00:8:1::100"}
BULK_BYTES = 8 << 20


def bulk(name: str) -> bytes:
    return name.encode() * (BULK_BYTES // len(name))


def documents() -> list[dict[str, Any]]:
    parsed = parse_manifests(EXAMPLE.read_text(), EXAMPLE.name)
    assert not parsed.problems
    found = [manifest.document() for manifest in parsed.manifests]
    for document in found:
        document["name" if document["kind"] == "tenant" else "tenant"] = TENANT
    return found


@pytest.fixture(scope="module")
def guests(zone_of_three: Zone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """By name; each server serves a page with its name and a large file."""
    zone_of_three.apply(documents())
    found = {path.split("/")[1]: g for path, g in zone_of_three.guests(TENANT).items()}
    with ExitStack() as stack:
        for name in ("web-1", "web-2", "web-3"):
            pages = tmp_path_factory.mktemp(name)
            (pages / "name").write_text(name)
            (pages / "bulk").write_bytes(bulk(name))
            command = ["python3", "-m", "http.server", "8080", "--bind", "::", "-d", str(pages)]
            server = found[name].start(*command)
            stack.callback(server.wait)
            stack.callback(server.kill)
            until(lambda guest=found[name]: ":8080" in guest.run("ss", "-Hltn"), 20)
        yield found
    zone_of_three.drop_tenant(TENANT)


def url(family: int, page: str) -> str:
    host = VIP[family] if family == 4 else f"[{VIP[family]}]"
    return f"http://{host}/{page}"


def asked(client: Guest, family: int, times: int) -> Counter[str]:
    """Who answers, over so many connections of curl's."""
    urls = [url(family, "name")] * times
    header = ("-H", "Connection: close")
    said = client.run("curl", "-sS", "--fail", "-w", "\n", *header, *urls, timeout_s=60)
    return Counter(said.split())


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("client", ["buyer", "neighbour"])
def test_every_server_with_weight_answers(
    guests: dict[str, Guest], client: str, family: int
) -> None:
    answers = asked(guests[client], family, 40)
    assert set(answers) == {"web-1", "web-2"}
    assert min(answers.values()) >= 8, answers


@pytest.mark.parametrize("family", [4, 6])
def test_bulk_data_arrives_whole(guests: dict[str, Guest], family: int) -> None:
    """Large segments, with the checksums offloaded that a NAT has to leave right."""
    for _ in range(4):
        fetch = f"curl -sS --fail '{url(family, 'bulk')}' | sha256sum"
        said = guests["buyer"].run("sh", "-c", fetch, timeout_s=60)
        assert said.split()[0] in {sha256(bulk(name)).hexdigest() for name in ("web-1", "web-2")}


def test_a_drained_server_keeps_what_it_has(plum: Zone, guests: dict[str, Guest]) -> None:
    with ExitStack() as stack:
        open_connections = [
            stack.enter_context(guests["buyer"].connect(VIP[4], 80)) for _ in range(12)
        ]
        changed = documents()
        balancer = changed[1]["spec"]["load_balancers"][0]
        balancer["backends"] = [{"endpoint": "web-1", "weight": 0}]  # and web-3 is back
        plum.apply(changed)
        assert set(asked(guests["buyer"], 4, 30)) == {"web-2", "web-3"}
        names = {fetched(connection) for connection in open_connections}
        plum.apply(documents())
    assert names == {"web-1", "web-2"}


def fetched(connection: socket.socket) -> str:
    connection.sendall(b"GET /name HTTP/1.0\r\n\r\n")
    said = b""
    while part := connection.recv(65536):
        said += part
    return said.rpartition(b"\r\n")[2].decode()


def test_servers_see_who_asks(plum: Zone, guests: dict[str, Guest]) -> None:
    server, buyer = guests["web-2"], guests["buyer"]
    with ExitStack() as stack:
        listening = stack.enter_context(server.udp(5353))
        other = stack.enter_context(guests["web-1"].udp(5353))
        client = stack.enter_context(buyer.udp(0))
        for listener in (listening, other):
            listener.setblocking(False)
        client.sendto(b"who", (VIP[4], 53))

        def heard() -> Any:
            for listener in (listening, other):
                try:
                    return listener, listener.recvfrom(100)
                except BlockingIOError:
                    continue
            return None

        listener, (data, sender) = until(heard)
        assert (data, sender) == (b"who", client.getsockname())
        listener.sendto(b"you", sender)
        assert client.recvfrom(100) == (b"you", (VIP[4], 53))


def test_a_wrong_port_is_refused_at_once_and_counted(plum: Zone, guests: dict[str, Guest]) -> None:
    with pytest.raises(ConnectionRefusedError):
        guests["buyer"].connect(VIP[4], 81)
    assert plum.dropped("NO_LISTENER", f"{TENANT}/site/buyer") > 0
