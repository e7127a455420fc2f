"""Export, and apply again: the same zone. Random zones and the examples."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.model.manifest import parse_manifests, read_manifests
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Store
from daemon.store.open import open_store
from daemon.zone.apply import apply
from daemon.zone.export import export, export_yaml
from daemon.zone.read import read_snapshot
from plumctl.sandbox.zone import external, fabric_for

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
#: The sandbox's own.
NODES = "\n---\n".join(
    [
        *(
            f"{{kind: node, name: n{i}, spec: {{vtep: 192.0.2.{i}, roles: [edge, gateway]}}}}"
            for i in (1, 2, 3)
        ),
        json.dumps(external(fabric_for(3, 4, 1500))),
    ]
)


async def with_store(work: Callable[[Store], Coroutine[Any, Any, Snapshot]]) -> Snapshot:
    with tempfile.TemporaryDirectory() as folder:
        async with await open_store(f"sqlite://{folder}/zone.db") as store:
            return await work(store)


async def import_into_new_zone(text: str) -> Snapshot:
    async def work(store: Store) -> Snapshot:
        await apply(store, parse_manifests(text), actor="test")
        return await read_snapshot(store)

    return await with_store(work)


def specs(snapshot: Snapshot) -> dict[str, object]:
    return {manifest.ref.text: manifest.spec for manifest in export(snapshot)}


def test_there_are_the_examples_that_were_promised() -> None:
    names = {path.name for path in EXAMPLES}
    assert names == {
        "shop.yaml",
        "shop-globex.yaml",
        "dual-stack.yaml",
        "twenty-bridges.yaml",
        "balanced.yaml",
        "guarded.yaml",
        "outside.yaml",
        "prefix.yaml",
        "catalogue.yaml",
        "voice.yaml",
        "names.yaml",
    }


@pytest.mark.asyncio
async def test_all_examples_apply_together_and_export_to_themselves(store: Store) -> None:
    await apply(store, parse_manifests(NODES), actor="test")
    for path in EXAMPLES:
        parsed = parse_manifests(path.read_text(), path.name)
        assert parsed.problems == ()
        result = await apply(store, parsed, actor="test")
        assert {change.action.value for change in result.changes} == {"created"}
    zone = await read_snapshot(store)
    assert len(zone.domains["hooli/campus"].spec.bridges) == 20
    acme, globex = zone.domains["acme/shop"], zone.domains["globex/shop"]
    assert acme.spec == globex.spec
    assert not set(acme.vnis.values()) & set(globex.vnis.values())
    db_rules = next(p for p in acme.spec.policies if p.name == "protect-db").ingress
    assert (db_rules[-1].name, db_rules[-1].action) == ("only-app", "deny")

    text = export_yaml(export(zone))
    again = await apply(store, parse_manifests(text), actor="test")
    assert again.history is None
    assert specs(await import_into_new_zone(text)) == specs(zone)
    assert "mac:" not in text
    assert "fd00:10::2" not in text


@pytest.mark.asyncio
async def test_an_export_with_allocations_pins_them_elsewhere(store: Store) -> None:
    await apply(store, parse_manifests(NODES), actor="test")
    for path in EXAMPLES[::-1]:
        await apply(store, parse_manifests(path.read_text()), actor="test")
    zone = await read_snapshot(store)
    copy = await import_into_new_zone(export_yaml(export(zone, allocated=True)))
    for name, endpoint in zone.endpoints.items():
        assert (copy.endpoints[name].mac, copy.endpoints[name].addresses) == (
            endpoint.mac,
            endpoint.addresses,
        )


@pytest.mark.asyncio
async def test_an_export_can_be_of_a_tenant_or_a_domain(store: Store) -> None:
    await apply(store, parse_manifests(NODES), actor="test")
    for path in EXAMPLES:
        await apply(store, parse_manifests(path.read_text()), actor="test")
    zone = await read_snapshot(store)
    tenant = [manifest.ref.text for manifest in export(zone, tenant="acme")]
    domain = [manifest.ref.text for manifest in export(zone, domain="acme/shop")]
    assert tenant == ["tenant acme", *domain]
    assert domain[0] == "domain acme/shop"
    assert len(domain) == 6


names = st.from_regex(r"[a-z][a-z0-9-]{0,6}[a-z0-9]", fullmatch=True)
labels = st.dictionaries(
    st.sampled_from(("tier", "app", "no", "1.5", "true")),
    st.sampled_from(("web", "yes", "null", "0x1f", "1e3", "a/b", "12")),
    max_size=3,
)


@st.composite
def zones(draw: st.DrawFn) -> list[dict[str, object]]:
    bridges = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    ports = st.one_of(st.integers(0, 65535), st.integers(0, 30000).map(lambda p: f"{p}-{p + 7}"))
    rules = st.fixed_dictionaries(
        {"name": st.just("r"), "protocol": st.sampled_from(("tcp", "udp", "sctp"))},
        optional={
            "action": st.sampled_from(("allow", "deny")),
            "peers": st.lists(st.sampled_from(({"group": "g"}, {"cidr": "fd00::/8"})), max_size=2),
            "ports": st.lists(ports, max_size=3),
        },
    )
    spec: dict[str, object] = {
        "description": draw(st.text(max_size=20)),
        "bridges": [
            {
                "name": name,
                "subnets": [f"10.{i}.0.0/24", f"fd00:{i}::/64"][: draw(st.integers(0, 2))],
                **draw(st.fixed_dictionaries({}, optional={"mtu": st.integers(1280, 1400)})),
            }
            for i, name in enumerate(bridges)
        ],
        "groups": [{"name": "g", "labels": draw(labels)}],
        "policies": [{"name": "p", "ingress": [draw(rules)], "egress": [draw(rules)]}],
    }
    documents: list[dict[str, object]] = [
        {"kind": "node", "name": "n1", "spec": {"vtep": "192.0.2.1"}},
        {"kind": "tenant", "name": "t", "spec": {"description": draw(st.text(max_size=20))}},
        {"kind": "domain", "name": "d", "tenant": "t", "spec": spec},
    ]
    for name in draw(st.lists(names, max_size=6, unique=True)):
        place = {"domain": "d", "bridge": draw(st.sampled_from(bridges)), "node": "n1"}
        endpoint = {**place, "labels": draw(labels)}
        documents.append({"kind": "endpoint", "name": name, "tenant": "t", "spec": endpoint})
    return documents


@settings(max_examples=60, deadline=None)
@given(zones(), st.booleans())
def test_apply_after_export_changes_nothing(
    documents: list[dict[str, object]], allocated: bool
) -> None:
    async def run() -> None:
        async def work(store: Store) -> Snapshot:
            await apply(store, read_manifests(documents), actor="test")
            before = await read_snapshot(store)
            text = export_yaml(export(before, allocated=allocated))
            result = await apply(store, parse_manifests(text), actor="test")
            after = await read_snapshot(store)
            for path, endpoint in before.endpoints.items():
                update = {"spec": endpoint.spec}
                assert after.endpoints[path].model_copy(update=update) == endpoint
            if not allocated:
                assert result.history is None
                elsewhere = await import_into_new_zone(text)
                assert specs(elsewhere) == specs(before)
            return after

        await with_store(work)

    asyncio.run(run())
