"""Cordon and removal of nodes."""

from __future__ import annotations

import pytest

from daemon.model.manifest import read_manifests
from daemon.model.object import Kind, Ref
from daemon.store.interface import Put, Store
from daemon.zone.apply import apply, delete
from daemon.zone.errors import ZoneError
from daemon.zone.history import history, revert, rollback
from daemon.zone.keys import ROOT, object_key
from daemon.zone.lifecycle import cordon, endpoints_on, remove
from daemon.zone.read import read_snapshot

ZONE = [
    {"kind": "node", "name": "n1", "spec": {"vtep": "192.0.2.1", "roles": ["director", "edge"]}},
    {"kind": "node", "name": "n2", "spec": {"vtep": "192.0.2.2"}},
    {"kind": "tenant", "name": "acme"},
    {
        "kind": "domain",
        "tenant": "acme",
        "name": "shop",
        "spec": {"bridges": [{"name": "web", "subnets": ["10.0.0.0/24"]}]},
    },
]


def web(name: str, node: str, **more: object) -> dict[str, object]:
    spec = {"domain": "shop", "bridge": "web", "node": node, **more}
    return {"kind": "endpoint", "tenant": "acme", "name": name, "spec": spec}


async def put(store: Store, *objects: object, confirm_s: float | None = None) -> int | None:
    manifests = read_manifests(list(objects))
    return (await apply(store, manifests, actor="test", confirm_s=confirm_s)).history


@pytest.fixture
async def zone(store: Store) -> Store:
    await put(store, *ZONE, web("web-1", "n2"))
    return store


async def test_a_cordoned_node_keeps_its_endpoints_and_takes_no_new_ones(zone: Store) -> None:
    await cordon(zone, "n2", True, actor="ann")
    await put(zone, web("web-1", "n2", labels={"tier": "web"}))  # what is there may change
    for objects in ([web("web-2", "n2")], [web("web-3", "n1"), web("web-4", "n2")]):
        with pytest.raises(ZoneError, match=r"cordoned.*plumctl node uncordon n2") as caught:
            await put(zone, *objects)
        assert caught.value.code == 409
    await put(zone, web("web-1", "n1"))
    with pytest.raises(ZoneError, match="cordoned"):
        await put(zone, web("web-1", "n2"))
    assert endpoints_on(await read_snapshot(zone), "n2") == []
    await cordon(zone, "n2", False, actor="ann")
    await put(zone, web("web-2", "n2"))
    assert [r.verb for r in await history(zone)][1] == "uncordon"


async def test_cordon_survives_the_nodes_manifest_and_leaves_no_trace_when_undone(
    zone: Store,
) -> None:
    key = object_key(Ref.parse(Kind.NODE, "n2"))
    before = await zone.get(key)
    await cordon(zone, "n2", True, actor="ann")
    seq = (await cordon(zone, "n2", True, actor="ann")).history
    assert seq is None  # nothing changed the second time
    await put(zone, {"kind": "node", "name": "n2", "spec": {"vtep": "192.0.2.9"}})
    assert (await read_snapshot(zone)).nodes["n2"].cordoned
    await put(zone, ZONE[1])
    await cordon(zone, "n2", False, actor="ann")
    after = await zone.get(key)
    assert before is not None and after is not None and after.value == before.value


async def test_what_nobody_confirms_goes_back_even_to_a_cordoned_node(zone: Store) -> None:
    seq = await put(zone, web("web-1", "n1"), confirm_s=60)
    await cordon(zone, "n2", True, actor="ann")
    assert seq is not None
    await revert(zone, seq)
    snapshot = await read_snapshot(zone)
    assert endpoints_on(snapshot, "n2") == ["acme/shop/web-1"]
    assert snapshot.nodes["n2"].cordoned


async def test_a_node_goes_with_all_that_the_store_keeps_of_it(zone: Store) -> None:
    own = [
        f"{ROOT}{name}"
        for name in ("cert/n2", "alive/n2", "status/n2", "mesh/n2", "placement/n2/acme/shop")
    ]
    others = [f"{ROOT}cert/n1", f"{ROOT}cert/n22", f"{ROOT}placement/n22/acme/shop"]
    await zone.commit([], [Put(key, b"") for key in own + others])
    with pytest.raises(ZoneError, match="still has endpoint acme/shop/web-1"):
        await remove(zone, "n2", actor="ann")
    assert await zone.get(own[0]) is not None
    await delete(zone, [Ref.parse(Kind.ENDPOINT, "acme/shop/web-1")], actor="ann")
    result = await remove(zone, "n2", actor="ann")
    assert "n2" not in (await read_snapshot(zone)).nodes
    for key in own:
        assert await zone.get(key) is None
    for key in others:
        assert await zone.get(key) is not None
    assert result.history is not None
    await rollback(zone, result.history - 1, actor="ann")  # the object, not the certificate
    assert "n2" in (await read_snapshot(zone)).nodes
    assert await zone.get(own[0]) is None


async def test_the_last_director_stays_unless_it_is_the_last_node(zone: Store) -> None:
    with pytest.raises(ZoneError, match="n1 is the last director"):
        await remove(zone, "n1", actor="ann")
    await delete(zone, [Ref.parse(Kind.ENDPOINT, "acme/shop/web-1")], actor="ann")
    await remove(zone, "n2", actor="ann")
    await remove(zone, "n1", actor="ann")
    assert not (await read_snapshot(zone)).nodes


async def test_unknown_nodes_are_named(zone: Store) -> None:
    for call in (cordon(zone, "n9", True, actor="ann"), remove(zone, "n9", actor="ann")):
        with pytest.raises(ZoneError, match="there is no node n9") as caught:
            await call
        assert caught.value.code == 404
