"""The examples do what they say, all at once: reachable and refused, pair by pair."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from daemon.model.manifest import parse_manifests
from tests.system.zone import Attempt, Guest, Zone, outcomes

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = ["shop.yaml", "shop-globex.yaml", "dual-stack.yaml", "twenty-bridges.yaml"]
#: Others may run the examples on this machine at the same time: namespaces are global.
MINE = "t-sys-"
PORTS = (80, 443, 5432, 8080)


@pytest.fixture(scope="module")
def guests(zone_of_three: Zone) -> Iterator[dict[str, Guest]]:
    """By tenant/domain/name, with the names of the files."""
    documents = []
    for name in FILES:
        parsed = parse_manifests((EXAMPLES / name).read_text(), name)
        assert not parsed.problems
        for manifest in parsed.manifests:
            document = manifest.document()
            key = "name" if document["kind"] == "tenant" else "tenant"
            document[key] = MINE + document[key]
            documents.append(document)
    tenants = [document["name"] for document in documents if document["kind"] == "tenant"]
    zone_of_three.apply(documents)
    yield {
        f"{name.removeprefix(MINE)}/{inside}": guest
        for name in tenants
        for inside, guest in zone_of_three.guests(name).items()
    }
    for name in tenants:
        zone_of_three.drop_tenant(name)


def test_every_object_is_programmed(plum: Zone, guests: dict[str, Guest]) -> None:
    for kind in ("endpoint", "domain", "node"):
        views = plum.client().list(kind).items
        assert {view.state for view in views} == {"programmed"}, kind
    assert len(guests) == 5 + 5 + 4 + 20


def shop_allows(client: str, server: str, port: int) -> bool:
    """What the head of shop.yaml promises."""
    match server.split("-")[0]:
        case "web":
            return port in (0, 80, 443)
        case "app":
            return client.startswith("web") and port == 8080
        case "db":
            return client.startswith("app") and port == 5432
    raise AssertionError(server)


def test_both_shops_allow_and_refuse_as_they_say(plum: Zone, guests: dict[str, Guest]) -> None:
    expected = {}
    for tenant in ("acme", "globex"):
        shop = {path.split("/")[2]: g for path, g in guests.items() if path.startswith(tenant)}
        assert len(shop) == 5
        for client, server in permutations(shop, 2):
            for port in (0, *PORTS):
                attempt = Attempt(shop[client], shop[server], port)
                expected[key(attempt)] = shop_allows(client, server, port), attempt
    check(expected)
    for path in ("acme/shop/db-1", "globex/shop/app-2"):
        assert plum.dropped("POLICY_INGRESS", MINE + path) > 0
    for rule in ("from-web", "only-web", "from-app", "only-app", "http", "ping"):
        assert plum.hits(f"{MINE}acme/shop", rule) > 0, rule


def test_same_addresses_of_two_tenants_are_different_machines(guests: dict[str, Guest]) -> None:
    """The same 5-tuple at the same time in two domains: each hears its own."""
    ends = []
    for tenant in ("acme", "globex"):
        client, server = (guests[f"{tenant}/shop/{name}"] for name in ("web-1", "app-2"))
        listener = server.listen(8080)
        ends.append((tenant, listener, client.socket(2, 1)))
    for _, _, connection in ends:
        connection.settimeout(5)
        connection.bind(("10.1.0.11", 40007))
        connection.connect(("10.2.0.12", 8080))
    accepted = [(tenant, listener.accept()[0]) for tenant, listener, _ in ends]
    for (tenant, there), (_, _, connection) in zip(accepted, ends, strict=True):
        there.sendall(tenant.encode())
        assert connection.recv(100).decode() == tenant
    for there, (_, listener, connection) in zip((a[1] for a in accepted), ends, strict=True):
        for opened in (there, listener, connection):
            opened.close()


def dual_allows(client: str, server: str, port: int) -> bool:
    is_desk = client.startswith("desk")
    if port == 0:
        return True
    return not server.startswith("desk") and is_desk and port in (80, 443, 8080)


@pytest.mark.parametrize("family", [4, 6])
def test_dual_stack_treats_both_families_alike(guests: dict[str, Guest], family: int) -> None:
    office = {p.split("/")[2]: g for p, g in guests.items() if p.startswith("initech")}
    expected = {}
    for client, server in permutations(office, 2):
        for port in (0, *PORTS):
            attempt = Attempt(office[client], office[server], port, family)
            expected[key(attempt)] = dual_allows(client, server, port), attempt
    check(expected)


def test_twenty_bridges_only_callers_call(guests: dict[str, Guest]) -> None:
    campus = {p.split("/")[2]: g for p, g in guests.items() if p.startswith("hooli")}
    expected = {}
    for client, server in permutations(campus, 2):
        attempt = Attempt(campus[client], campus[server], 0)
        expected[key(attempt)] = int(client.split("-")[1]) % 2 == 1, attempt
    check(expected)


def key(attempt: Attempt) -> str:
    return f"{attempt.client.path} -> {attempt.server.path}:{attempt.port}"


def check(expected: dict[str, tuple[bool, Attempt]]) -> None:
    found = outcomes([attempt for _, attempt in expected.values()])
    wrong = [
        f"{name} {'got through' if found[attempt] else 'was refused'}"
        for name, (allowed, attempt) in expected.items()
        if found[attempt] != allowed
    ]
    assert not wrong
