"""Nothing is allocated twice, however many write at once."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.model.manifest import parse_manifests, read_manifests
from daemon.model.object import Kind, Ref
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Store
from daemon.store.open import open_store
from daemon.zone.apply import apply, delete
from daemon.zone.errors import ZoneError
from daemon.zone.history import history
from daemon.zone.read import read_current, read_snapshot

ZONE = """
{kind: node, name: n1, spec: {vtep: 192.0.2.1}}
---
{kind: node, name: n2, spec: {vtep: 192.0.2.2}}
---
{kind: tenant, name: t}
---
kind: domain
name: d
tenant: t
spec:
  bridges:
    - {name: web, subnets: [10.0.0.0/24, "fd00::/64"]}
    - {name: db, subnets: [10.0.1.0/29]}
"""

NAMES = ("a", "b", "c", "d", "e", "f")
#: One writer's errand: endpoints to place (name, bridge, node, address or None), or to delete.
Errand = tuple[str, str, str, str | None] | str
errands = st.one_of(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(("web", "db")),
        st.sampled_from(("n1", "n2")),
        st.sampled_from((None, None, "10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2")),
    ),
    st.sampled_from(NAMES),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(errands, min_size=1, max_size=4), min_size=2, max_size=5))
def test_concurrent_appliers_share_nothing(writers: list[list[Errand]]) -> None:
    async def run() -> Snapshot:
        with tempfile.TemporaryDirectory() as folder:
            async with await open_store(f"sqlite://{folder}/zone.db") as store:
                await apply(store, parse_manifests(ZONE), actor="test")
                await asyncio.gather(*(run_errands(store, writer) for writer in writers))
                seqs = [revision.seq for revision in await history(store)]
                assert seqs == list(range(len(seqs), 0, -1))
                return await read_snapshot(store)

    assert_consistent(asyncio.run(run()))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), errands), max_size=12))
def test_daemons_that_take_turns_see_what_the_other_wrote(turns: list[tuple[int, Errand]]) -> None:
    """Each remembers the zone it last wrote; only the other knows what came since."""

    async def run() -> Snapshot:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite://{folder}/zone.db"
            async with await open_store(url) as one, await open_store(url) as other:
                await apply(one, parse_manifests(ZONE), actor="test")
                for who, errand in turns:
                    store = (one, other)[who]
                    await run_errands(store, [errand])
                    _, remembered = await read_current(store)
                    fresh = await read_snapshot(store)
                    assert replace(remembered, revision=0) == replace(fresh, revision=0)
                return fresh if turns else await read_snapshot(one)

    assert_consistent(asyncio.run(run()))


async def run_errands(store: Store, errands: list[Errand]) -> None:
    for errand in errands:
        try:
            if isinstance(errand, str):
                ref = Ref(kind=Kind.ENDPOINT, tenant="t", domain="d", name=errand)
                await delete(store, [ref], actor="test")
            else:
                name, bridge, node, address = errand
                spec = {"domain": "d", "bridge": bridge, "node": node}
                more = {"addresses": [address]} if address else {}
                manifest = {
                    "kind": "endpoint",
                    "name": name,
                    "tenant": "t",
                    "spec": {**spec, **more},
                }
                await apply(store, read_manifests([manifest]), actor="test")
        except ZoneError as error:
            # Taken, not there, or outside the bridge: refused, never half done.
            if not error.problems:
                raise


def assert_consistent(zone: Snapshot) -> None:
    endpoints = list(zone.endpoints.values())
    domain = zone.domains["t/d"]
    subnets = {bridge.name: bridge.subnets for bridge in domain.spec.bridges}
    for what in (
        [str(e.id) for e in endpoints],
        [f"{e.spec.node} {e.slot}" for e in endpoints],
        [e.mac for e in endpoints],
        [str(a) for e in endpoints for a in e.addresses],
    ):
        assert [twice for twice, count in Counter(what).items() if count > 1] == []
    for endpoint in endpoints:
        for address in endpoint.addresses:
            assert any(address in net for net in subnets[endpoint.spec.bridge])
        if not endpoint.spec.addresses:
            assert len(endpoint.addresses) == len(subnets[endpoint.spec.bridge])


@pytest.mark.asyncio
async def test_processes_on_one_file_share_nothing(store: Store, store_url: str) -> None:
    await apply(store, parse_manifests(ZONE), actor="test")
    root = Path(__file__).parents[2]
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).parent / "applier.py"),
            store_url,
            name,
            "20",
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        for name in ("p", "q", "r")
    ]
    assert await asyncio.gather(*(process.wait() for process in processes)) == [0, 0, 0]
    zone = await read_snapshot(store)
    assert len(zone.endpoints) == 60
    assert_consistent(zone)
    assert sorted(e.slot for e in zone.endpoints.values()) == list(range(60))


@pytest.mark.asyncio
async def test_a_bridge_does_not_go_while_an_endpoint_comes(store: Store) -> None:
    """What a claim by address or slot could not see: a check of one against the other."""
    endpoint = "{kind: endpoint, name: a, tenant: t, spec: {domain: d, bridge: db, node: n1}}"
    domain = "{kind: domain, name: d, tenant: t, spec: {bridges: [{name: web}]}}"
    await apply(store, parse_manifests(ZONE), actor="test")
    results = await asyncio.gather(
        apply(store, parse_manifests(endpoint), actor="one"),
        apply(store, parse_manifests(domain), actor="two"),
        return_exceptions=True,
    )
    assert len([result for result in results if isinstance(result, ZoneError)]) == 1
