"""The placement keys say exactly which node hosts endpoints of which domain."""

from __future__ import annotations

import asyncio
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.model.manifest import parse_manifests
from daemon.model.object import Kind, Ref
from daemon.store.interface import Store
from daemon.store.open import open_store
from daemon.zone.apply import apply, delete
from daemon.zone.errors import ZoneError
from daemon.zone.history import rollback
from daemon.zone.keys import PLACEMENT
from daemon.zone.placement import placements
from daemon.zone.read import read_snapshot

ZONE = """
{kind: node, name: n1, spec: {vtep: 192.0.2.1}}
---
{kind: node, name: n2, spec: {vtep: 192.0.2.2}}
---
{kind: tenant, name: t}
---
{kind: domain, name: d, tenant: t, spec: {bridges: [{name: b, subnets: [10.0.0.0/24]}]}}
---
{kind: domain, name: d2, tenant: t, spec: {bridges: [{name: b, subnets: [10.0.0.0/24]}]}}
"""
ENDPOINT = "{{kind: endpoint, name: {}, tenant: t, spec: {{domain: {}, bridge: b, node: {}}}}}"

#: Endpoints to write (name, domain, node), one to delete, or a revision to go back to.
steps = st.one_of(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.sampled_from(("d", "d2")), st.sampled_from(("n1", "n2"))
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda one: one[:2],
    ),
    st.tuples(st.sampled_from(("d", "d2")), st.sampled_from("abcd")),
    st.integers(1, 6),
)


async def held(store: Store) -> set[str]:
    return {item.key for item in (await store.list(PLACEMENT)).items}


async def take(store: Store, step: object) -> None:
    match step:
        case int(seq):
            await rollback(store, seq, actor="test")
        case (str(domain), str(name)):
            ref = Ref(kind=Kind.ENDPOINT, tenant="t", domain=domain, name=name)
            await delete(store, [ref], actor="test")
        case list(some):
            text = "\n---\n".join(ENDPOINT.format(*one) for one in some)
            await apply(store, parse_manifests(text), actor="test")


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, max_size=8), st.lists(steps, max_size=8))
def test_placements_follow_the_endpoints_of_concurrent_writers(
    one: list[object], other: list[object]
) -> None:
    async def write(store: Store, todo: list[object]) -> None:
        for step in todo:
            try:
                await take(store, step)
            except ZoneError:
                continue  # nothing there to delete or to go back to

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with await open_store(f"sqlite://{folder}/zone.db") as store:
                await apply(store, parse_manifests(ZONE), actor="test")
                await asyncio.gather(write(store, one), write(store, other))
                snapshot = await read_snapshot(store)
                assert await held(store) == placements(snapshot.endpoints.values())

    asyncio.run(run())
