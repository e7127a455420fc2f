"""External networks in the store: what is refused, who follows whom, whose ports are whose."""

from __future__ import annotations

import pytest

from daemon.model.manifest import parse_manifests
from daemon.model.object import Domain, Kind, Ref
from daemon.store.interface import Store
from daemon.zone.apply import apply, delete
from daemon.zone.errors import ZoneError
from daemon.zone.keys import PLACEMENT, ROOT
from daemon.zone.read import read_snapshot

pytestmark = pytest.mark.asyncio

NODES = """
{kind: node, name: n1, spec: {vtep: 192.0.2.1}}
---
{kind: node, name: n2, spec: {vtep: 192.0.2.2}}
---
{kind: node, name: g1, spec: {vtep: 192.0.2.8, roles: [gateway]}}
---
{kind: node, name: g2, spec: {vtep: 192.0.2.9, roles: [gateway]}}
---
{kind: tenant, name: acme}
---
{kind: tenant, name: globex}
"""


def external(
    name: str = "internet",
    gateways: str = "{node: g1, device: ext0, addresses: [198.51.100.1/24]}",
    nat: str = "198.51.100.64/31",
    floating: str = "198.51.100.128/27",
    more: str = "",
) -> str:
    return (
        f"{{kind: external, name: {name}, spec: {{gateways: [{gateways}], "
        f"routes: [{{to: 0.0.0.0/0, via: [198.51.100.254]}}], nat: [{nat}], "
        f"floating: [{floating}]{more}}}}}"
    )


def domain(uplink: str = "", tenant: str = "acme", router: str = "") -> str:
    return (
        f"{{kind: domain, name: shop, tenant: {tenant}, spec: {{"
        "bridges: [{name: web, subnets: [10.0.1.0/24]}], routers: [{name: edge, "
        f"interfaces: [{{bridge: web, addresses: [10.0.1.1/24]}}]{router}, "
        f"uplink: {{network: internet{uplink}}}}}]}}}}"
    )


def endpoint(name: str, node: str = "n1", tenant: str = "acme") -> str:
    spec = f"{{domain: shop, bridge: web, node: {node}}}"
    return f"{{kind: endpoint, name: {name}, tenant: {tenant}, spec: {spec}}}"


async def put(store: Store, *texts: str) -> None:
    parsed = parse_manifests("\n---\n".join(texts))
    assert not parsed.problems, parsed.problems
    await apply(store, parsed, actor="test")


async def shop(store: Store, tenant: str = "acme") -> Domain:
    return (await read_snapshot(store)).domains[f"{tenant}/shop"]


async def leases(store: Store, tenant: str = "acme") -> dict[str, list[tuple[str, int]]]:
    blocks = (await shop(store, tenant)).nat_blocks.get("edge", {})
    return {n: [(str(b.address), b.first) for b in found] for n, found in blocks.items()}


FLOAT = ", floating: [{address: 198.51.100.130, endpoint: a}]"
PREFIX = ", prefixes: [{inside: fd00:1::/64, outside: 2001:db8:8:1::/64}]"
POOL = external(floating="198.51.100.128/27, 2001:db8:8::/48")
FORWARD = ", forwards: [{address: 198.51.100.131, port: 22, endpoint: a}]"


@pytest.mark.parametrize(
    ("texts", "where", "words"),
    [
        ([external(gateways="{node: n9, device: e, addresses: [198.51.100.1/24]}")], "node", "n9"),
        (
            [external(gateways="{node: n1, device: e, addresses: [198.51.100.1/24]}")],
            "gateways[0].node",
            "no gateway role",
        ),
        ([external(more=", block_ports: 1000")], "block_ports", "no power of two"),
        ([external(floating="198.51.100.64/30")], "floating[0]", "overlaps 198.51.100.64/31"),
        ([external(floating="198.51.100.0/29")], "floating[0]", "198.51.100.1, which is a gatew"),
        ([external(), external("other", nat="198.51.100.65/32")], "nat[0]", "external internet"),
        ([external(), external("two", nat="192.0.2.64/31", floating="")], "device", "internet's"),
        ([domain()], "uplink.network", "no external network internet"),
        ([external(nat=""), domain()], "uplink.source_nat", "has no addresses for it"),
        ([external(), domain(FLOAT)], "floating[0].endpoint", "no endpoint a"),
        (
            [external(), domain(", floating: [{address: 198.51.100.130}]")],
            "floating[0]",
            "name one of them",
        ),
        (
            [external(), domain(", floating: [{address: 198.51.100.130, load_balancer: x}]")],
            "floating[0].load_balancer",
            "no load balancer x",
        ),
        (
            [external(), domain(FLOAT.replace("100.130", "100.66")), endpoint("a")],
            "floating[0].address",
            "in no floating pool",
        ),
        ([external(), domain(PREFIX)], "prefixes[0].outside", "in no floating pool"),
        (
            [POOL, domain(PREFIX.replace("8:1::/64", "8::/60"))],
            "prefixes[0]",
            "not of the same length",
        ),
        ([POOL, domain(PREFIX.replace("/64", "/80"))], "prefixes[0]", "longer than /64"),
        (
            [POOL, domain(PREFIX[:-1] + ", {inside: 'fd00::/16', outside: '2001::/16'}]")],
            "prefixes[1].inside",
            "fd00::/16 overlaps fd00:1::/64",
        ),
        (
            [POOL, domain(PREFIX), domain(PREFIX, "globex")],
            "prefixes[0].outside",
            "overlaps 2001:db8:8:1::/64, which is router edge of domain acme/shop's",
        ),
        (
            [POOL, domain(PREFIX), endpoint("a", tenant="globex"),
             domain(FLOAT.replace("198.51.100.130", "2001:db8:8:1::5"), "globex")],
            "floating[0].address",
            "is in 2001:db8:8:1::/64, which is router edge of domain acme/shop's",
        ),
        (
            [POOL, domain(FLOAT.replace("198.51.100.130", "2001:db8:8:1::5")), endpoint("a"),
             domain(PREFIX, "globex")],
            "prefixes[0].outside",
            "holds 2001:db8:8:1::5, which is router edge of domain acme/shop's",
        ),
        (
            [external(), domain(FLOAT), endpoint("a"), domain(FLOAT, "globex"),
             endpoint("a", tenant="globex")],
            "floating[0].address",
            "router edge of domain acme/shop's already",
        ),
        (
            [external(), domain(FLOAT + FORWARD.replace("131", "130")), endpoint("a")],
            "forwards[0].address",
            "198.51.100.130 is router edge",
        ),
        (
            [external(), domain(FORWARD.replace("}]", "}, {address: 198.51.100.131, port: 22, "
                                                "endpoint: a}]")), endpoint("a")],
            "forwards[1].port",
            "tcp port 22 is forwarded already",
        ),
        (
            [external(), domain(router=", routes: [{to: 0.0.0.0/0, via: [10.0.1.9]}]")],
            "routes[0].to",
            "leads to external network internet already",
        ),
    ],
)  # fmt: skip
async def test_refused_before_anything_changes(
    store: Store, texts: list[str], where: str, words: str
) -> None:
    await put(store, NODES)
    before = await store.list(ROOT)
    with pytest.raises(ZoneError) as caught:
        await put(store, *texts)
    problems = [(problem.path, problem.message) for problem in caught.value.problems]
    assert any(where in path and words in message for path, message in problems), problems
    assert await store.list(ROOT) == before


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        (Ref(kind=Kind.EXTERNAL, name="internet"), "domain acme/shop leads there"),
        (Ref(kind=Kind.NODE, name="g1"), "is a gateway of external network internet"),
        (
            Ref(kind=Kind.ENDPOINT, tenant="acme", domain="shop", name="a"),
            "198.51.100.130 leads to it",
        ),
    ],
)
async def test_what_is_relied_on_stays(store: Store, ref: Ref, words: str) -> None:
    await put(store, NODES, external(), domain(FLOAT), endpoint("a"))
    with pytest.raises(ZoneError, match=words):
        await delete(store, [ref], actor="test")


async def test_a_node_has_its_own_ports_while_it_hosts_the_domain(store: Store) -> None:
    await put(store, NODES, external(), domain(), endpoint("a"))
    first = await leases(store)
    assert set(first) == {"n1"} and len(first["n1"]) == 1
    await put(store, endpoint("b", "n2"))
    both = await leases(store)
    assert both["n1"] == first["n1"] and set(both) == {"n1", "n2"}
    assert both["n1"] != both["n2"]
    await delete(
        store, [Ref(kind=Kind.ENDPOINT, tenant="acme", domain="shop", name="a")], actor="test"
    )
    assert await leases(store) == {"n2": both["n2"]}
    await put(store, endpoint("a"))
    again = await leases(store)
    assert again["n1"] not in (first["n1"], both["n2"])  # given back ones come round last


async def test_no_port_is_leased_twice_and_full_is_said(store: Store) -> None:
    small = external(more=", block_ports: 16384")  # 2 addresses of 3 blocks
    await put(store, NODES, small, domain(), domain(tenant="globex"))
    for tenant in ("acme", "globex"):
        for node in ("n1", "n2"):
            await put(store, endpoint(f"e-{node}", node, tenant))
    every = [
        block
        for tenant in ("acme", "globex")
        for blocks in (await leases(store, tenant)).values()
        for block in blocks
    ]
    assert len(every) == len(set(every)) == 4
    with pytest.raises(ZoneError) as caught:
        await put(store, external(more=", block_ports: 16384, blocks_per_node: 2"))
    assert all("no block of 16384 ports left" in p.message for p in caught.value.problems)
    assert len(caught.value.problems) == 2  # six blocks for eight


async def test_gateways_follow_the_domains_that_lead_out_through_them(store: Store) -> None:
    async def placed() -> set[str]:
        listing = await store.list(PLACEMENT)
        return {item.key.removeprefix(PLACEMENT) for item in listing.items}

    await put(store, NODES, external(), domain(), endpoint("a"))
    assert await placed() == {"n1/acme/shop", "g1/acme/shop"}
    both = (
        "{node: g1, device: ext0, addresses: [198.51.100.1/24]}, "
        "{node: g2, device: ext0, addresses: [198.51.100.2/24]}"
    )
    await put(store, external(gateways=both))
    assert await placed() == {"n1/acme/shop", "g1/acme/shop", "g2/acme/shop"}
    await delete(
        store, [Ref(kind=Kind.ENDPOINT, tenant="acme", domain="shop", name="a")], actor="test"
    )
    assert await placed() == {"g1/acme/shop", "g2/acme/shop"}
    await delete(store, [Ref(kind=Kind.DOMAIN, tenant="acme", name="shop")], actor="test")
    assert await placed() == set()
