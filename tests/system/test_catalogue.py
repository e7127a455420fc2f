"""Fifty tenants with the very same addresses use one provider, and none is mixed up."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.zone import Guest, Zone, endpoint, until

TENANTS = 50
PROVIDER = "t-sys-provider"
SERVICE = "100.64.0.10"
PORT = 443


def customer(number: int) -> str:
    return f"t-sys-c{number}"


def network() -> dict[str, Any]:
    spec = {
        "gateways": [{"node": "n1"}, {"node": "n2"}],
        "nat": ["100.64.1.0/28"],
        "floating": ["100.64.0.0/24"],
    }
    return {"kind": "external", "name": "t-sys-catalogue", "spec": spec}


def domain(tenant: str, subnet: str, **uplink: Any) -> dict[str, Any]:
    address = f"{subnet.rpartition('.')[0]}.1/24"
    router = {
        "name": "door",
        "interfaces": [{"bridge": "lan", "addresses": [address]}],
        "uplink": {"network": "t-sys-catalogue", **uplink},
    }
    spec = {
        "default": {"ingress": "allow"},
        "bridges": [{"name": "lan", "subnets": [subnet]}],
        "routers": [router],
    }
    return {"kind": "domain", "name": "d", "tenant": tenant, "spec": spec}


@pytest.fixture(scope="module")
def market(zone_of_three: Zone) -> Iterator[tuple[Guest, list[Guest]]]:
    floating = [{"address": SERVICE, "endpoint": "service"}]
    documents = [
        network(),
        {"kind": "tenant", "name": PROVIDER},
        domain(PROVIDER, "10.0.0.0/24", source_nat=False, floating=floating),
        endpoint(f"{PROVIDER}/d/service", "lan", "n3"),
    ]
    for number in range(TENANTS):
        documents.append({"kind": "tenant", "name": customer(number)})
        documents.append(domain(customer(number), "10.0.0.0/24"))
        node = f"n{number % 3 + 1}"
        documents.append(endpoint(f"{customer(number)}/d/user", "lan", node, "10.0.0.9"))
    zone_of_three.apply(documents)
    service = zone_of_three.guest(f"{PROVIDER}/d/service")
    users = [zone_of_three.guest(f"{customer(n)}/d/user") for n in range(TENANTS)]
    yield service, users
    for tenant in (PROVIDER, *(customer(n) for n in range(TENANTS))):
        zone_of_three.drop_tenant(tenant)
    zone_of_three.delete(("external", "t-sys-catalogue"))


def test_each_answer_carries_its_tenants_mark(market: tuple[Guest, list[Guest]]) -> None:
    service, users = market
    assert {user.ip() for user in users} == {"10.0.0.9"}
    server = service.listen(PORT)
    server.settimeout(10)
    peers: list[tuple[str, int]] = []

    def serve() -> None:
        for _ in users:
            with contextlib.suppress(TimeoutError):
                connection, peer = server.accept()
                peers.append(peer)
                mark = connection.recv(64)
                connection.sendall(b"for " + mark)
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    opened = [user.socket(socket.AF_INET, socket.SOCK_STREAM) for user in users]
    for number, one in enumerate(opened):
        one.settimeout(5)
        one.bind(("", 4000))  # the very same port, too
        one.connect((SERVICE, PORT))
        one.sendall(customer(number).encode())
        assert one.recv(64) == b"for " + customer(number).encode()
    thread.join()
    for one in (*opened, server):
        one.close()
    assert len(set(peers)) == TENANTS
    assert all(address.startswith("100.64.1.") for address, _ in peers)


def test_tenants_do_not_reach_each_other(
    zone_of_three: Zone, market: tuple[Guest, list[Guest]]
) -> None:
    _, users = market
    before = zone_of_three.dropped("NO_PUBLIC")
    with users[0].udp() as sender:
        for address in ("100.64.1.0", "100.64.1.1"):
            for port in range(1024, 65536, 1024):
                sender.sendto(b"?", (address, port))
        until(lambda: zone_of_three.dropped("NO_PUBLIC") > before)
    with users[1].udp(port=4000) as listener:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(16)
