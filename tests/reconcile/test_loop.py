"""The loop over a real store: what it follows, publishes, retries and repairs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.model.manifest import read_manifests
from daemon.model.object import Kind, Ref
from daemon.model.user import AccessRole
from daemon.reconcile.loop import Pace, Reconciler
from daemon.reconcile.status import NodeStatus, State, status_key
from daemon.responders.service import Responder
from daemon.store.interface import Delete, Put, Store, StoreError
from daemon.store.open import open_store
from daemon.zone.apply import apply, delete
from daemon.zone.backup import restore, take
from daemon.zone.keys import RESTORE, object_key
from daemon.zone.restoring import Mark
from daemon.zone.users import create_user
from tests.reconcile.conftest import FakeHost

NODE = {"kind": "node", "name": "n1", "spec": {"vtep": "192.0.2.1"}}
OTHER = {"kind": "node", "name": "n2", "spec": {"vtep": "192.0.2.2"}}
SHOP = {
    "kind": "domain",
    "tenant": "acme",
    "name": "shop",
    "spec": {"bridges": [{"name": "web", "subnets": ["10.0.0.0/24"]}]},
}
PACE = Pace(
    verify=0.1,
    verify_max=0.2,
    retry_first=0.05,
    retry_max=0.2,
    collect=0.1,
    refresh=0.1,
    confirm=0.1,
)


def web(name: str, **spec: object) -> dict[str, object]:
    return {
        "kind": "endpoint",
        "tenant": "acme",
        "name": name,
        "spec": {"domain": "shop", "bridge": "web", "node": "n1", **spec},
    }


ZONE = [NODE, OTHER, {"kind": "tenant", "name": "acme"}, SHOP]


async def put(store: Store, *objects: object, confirm_s: float | None = None) -> int:
    result = await apply(store, read_manifests(objects), actor="test", confirm_s=confirm_s)
    return result.revision


async def status(store: Store) -> NodeStatus | None:
    item = await store.get(status_key("n1"))
    return NodeStatus.model_validate_json(item.value) if item else None


async def until(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    store: Store, host: FakeHost, pace: Pace = PACE, reconciler: Reconciler | None = None
) -> AsyncIterator[Reconciler]:
    reconciler = reconciler or Reconciler(
        "n1", store, host, Responder(lambda index, frame: None), api="unix:///x", pace=pace
    )
    task = asyncio.create_task(reconciler.run())
    try:
        yield reconciler
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await open_store(f"sqlite://{tmp_path}/zone.db") as opened:
        yield opened


async def test_what_is_applied_is_programmed_and_reported(store: Store) -> None:
    await put(store, *ZONE)
    host = FakeHost()
    async with running(store, host) as reconciler:
        await asyncio.wait_for(reconciler.ready.wait(), 5)
        revision = await put(store, web("web-1"))
        await until(lambda: reconciler.status.applied_revision >= revision)
        assert host.devices["acme/shop/web-1"].up
        await until(lambda: reconciler._published == reconciler.status)
        found = await status(store)
        assert found is not None
        assert (found.applied_revision, found.exceptions) == (revision, ())
        assert (found.api, bool(found.updated)) == ("unix:///x", True)


async def test_a_burst_is_few_cycles_and_few_status_writes(store: Store) -> None:
    await put(store, *ZONE)
    host = FakeHost()
    async with running(store, host) as reconciler:
        await asyncio.wait_for(reconciler.ready.wait(), 5)
        before = (await store.list("/")).revision
        for number in range(20):
            revision = await put(store, web(f"web-{number}"))
        await until(lambda: reconciler.status.applied_revision >= revision)
        await until(lambda: reconciler._published == reconciler.status)
        writes = (await store.list("/")).revision - before - 20
        assert 1 <= writes <= 20
        assert len(host.devices) == 20


async def test_an_unknown_node_waits_and_says_so(store: Store) -> None:
    host = FakeHost()
    async with running(store, host) as reconciler:
        await until(lambda: "no node n1" in reconciler.reason)
        assert host.calls == 0
        assert await status(store) is None
        await put(store, *ZONE)
        await asyncio.wait_for(reconciler.ready.wait(), 5)
        assert reconciler.reason == ""


async def test_a_failing_machine_is_reported_retried_and_recovers(store: Store) -> None:
    await put(store, *ZONE, web("web-1"))
    host = FakeHost(full="plum_host")
    async with running(store, host) as reconciler:
        await until(lambda: reconciler.status.exceptions)
        (exception,) = reconciler.status.exceptions
        assert (exception.path, exception.state) == ("n1", State.ERROR)
        assert "plum_host is full" in exception.reason
        assert not reconciler.ready.is_set()
        host.full = ""
        await asyncio.wait_for(reconciler.ready.wait(), 5)
        assert reconciler.status.exceptions == ()


async def test_a_device_that_comes_later_is_found_by_its_event(store: Store) -> None:
    await put(store, *ZONE, web("web-1", attach={"kind": "tap", "device": "tap7"}))
    host = FakeHost()
    pace = replace(PACE, hurry=0.02, retry_first=0.2, retry_max=60)
    async with running(store, host, pace) as reconciler:
        await until(lambda: reconciler.status.exceptions)
        assert reconciler.status.exceptions[0].state is State.PENDING
        await asyncio.sleep(0.5)  # the pause between tries has grown
        host.taps["tap7"] = 77
        reconciler.device_event(urgent=False)
        await until(lambda: not reconciler.status.exceptions, 1)
        assert host.devices["acme/shop/web-1"].up


async def test_what_somebody_changed_is_repaired_and_told(store: Store) -> None:
    await put(store, *ZONE, web("web-1"))
    host = FakeHost()
    async with running(store, host) as reconciler:
        await asyncio.wait_for(reconciler.ready.wait(), 5)
        rows = {t: dict(r) for t, r in host.tables.items()}
        host.tables["plum_host"].clear()
        await until(lambda: reconciler.repairs, 2)
        await until(lambda: host.tables == rows, 2)
        assert "plum_host" in reconciler.repairs[0].what


async def test_a_store_that_fails_changes_nothing_and_is_followed_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, *ZONE, web("web-1"))
    host = FakeHost()
    broken = True
    real = store.list

    async def failing(prefix: str) -> object:
        if broken:
            raise StoreError("the disk is gone")
        return await real(prefix)

    monkeypatch.setattr(store, "list", failing)
    async with running(store, host) as reconciler:
        await until(lambda: "disk is gone" in reconciler.reason)
        assert host.calls == 0
        broken = False
        await asyncio.wait_for(reconciler.ready.wait(), 5)
        assert host.devices["acme/shop/web-1"].up


async def test_a_revision_nobody_confirms_is_reverted(store: Store) -> None:
    await put(store, *ZONE)
    host = FakeHost()
    async with running(store, host) as reconciler:
        await asyncio.wait_for(reconciler.ready.wait(), 5)
        await put(store, web("web-1"), confirm_s=1)
        await until(lambda: host.devices)
        await until(lambda: not host.devices, 6)


async def test_a_revert_that_cannot_be_holds_up_no_other(store: Store) -> None:
    await put(store, *ZONE)
    host = FakeHost()
    async with running(store, host) as reconciler:
        await asyncio.wait_for(reconciler.ready.wait(), 5)
        # Its tenant has a user by then, and so cannot go.
        await put(store, {"kind": "tenant", "name": "kept"}, confirm_s=1)
        await create_user(store, "ann", AccessRole.TENANT_OPERATOR, "kept", "", 0)
        await put(store, web("web-1"), confirm_s=1)
        await until(lambda: host.devices)
        await until(lambda: not host.devices, 6)
    assert await store.get("/plum/tenant/kept")


async def test_flows_of_a_removed_endpoint_are_purged(store: Store) -> None:
    await put(store, *ZONE, web("web-1"))
    host = FakeHost()
    async with running(store, host) as reconciler:
        await asyncio.wait_for(reconciler.ready.wait(), 5)
        (slot,) = reconciler.names.slots
        ref = Ref.parse(Kind.ENDPOINT, "acme/shop/web-1")
        await delete(store, [ref], actor="test")
        await until(lambda: slot in host.collected)
        assert not host.devices


async def test_a_lost_device_is_made_again_at_once(store: Store) -> None:
    await put(store, *ZONE, web("web-1"))
    host = FakeHost()
    async with running(store, host, replace(PACE, verify=60, hurry=0.02)) as reconciler:
        await asyncio.wait_for(reconciler.ready.wait(), 5)
        del host.devices["acme/shop/web-1"]
        reconciler.device_event(urgent=True)
        await until(lambda: host.devices.get("acme/shop/web-1"), 1)
        assert "web-1" in reconciler.repairs[0].what


async def test_flows_are_collected_and_next_hops_refreshed(store: Store) -> None:
    await put(store, *ZONE, web("web-1"))
    host = FakeHost()
    async with running(store, host) as reconciler:
        await asyncio.wait_for(reconciler.ready.wait(), 5)
        await until(lambda: None in host.collected)
        await until(lambda: host.refreshed)
        assert [str(address) for address in host.refreshed[0].values()] == ["192.0.2.2"]


async def test_next_hops_are_asked_for_at_once_and_soon_again_until_found(store: Store) -> None:
    await put(store, *ZONE, web("web-1"))
    host = FakeHost(unresolved={1, 2})
    async with running(store, host, replace(PACE, refresh=60, retry_first=0.01)):
        await until(lambda: len(host.refreshed) >= 3, 1)
        host.unresolved.clear()
        seen = len(host.refreshed)
        await put(store, {"kind": "node", "name": "n9", "spec": {"vtep": "192.0.2.9"}})
        await until(lambda: "192.0.2.9" in map(str, host.refreshed[-1].values()), 1)
        assert len(host.refreshed) <= seen + 2


async def test_half_a_restore_is_not_looked_at(store: Store) -> None:
    await put(store, *ZONE, web("web-1"))
    _, items = await take(store, "1")
    backup = {item.key: item.value for item in items}
    await put(store, web("web-2"))
    async with running(store, FakeHost()) as node:
        await until(lambda: len(node.snapshot.endpoints) == 2)
        mark = Mark(actor="test", started="now", keys=1).model_dump_json().encode()
        domain = object_key(Ref.parse(Kind.DOMAIN, "acme/shop"))
        await store.commit([], [Put(RESTORE, mark)])
        await store.commit([], [Delete(domain)])  # as it may be in the middle of one
        await asyncio.sleep(0.3)
        assert "acme/shop" in node.snapshot.domains
        await restore(store, backup, actor="test", replace=True)
        await until(lambda: len(node.snapshot.endpoints) == 1)
        assert "acme/shop" in node.snapshot.domains
