from __future__ import annotations

import asyncio
import time

import pytest

from daemon.zone.backup import restore, take
from tests.api.conftest import DOMAIN, ENDPOINT, ZONE, Api


@pytest.mark.asyncio
async def test_applied_objects_are_listed_with_what_was_allocated(api: Api) -> None:
    applied = await api.apply(*ZONE, comment="first")
    assert applied["history"] == 1
    assert [change["action"] for change in applied["changes"]] == ["created"] * 4
    status, listing = await api.ask("GET", "/v1/objects/endpoint?tenant=acme&domain=shop")
    assert status == 200
    (view,) = listing["items"]
    assert (view["tenant"], view["domain"], view["name"]) == ("acme", "shop", "web-1")
    assert view["spec"]["bridge"] == "web"
    (address,) = view["allocated"]["addresses"]
    assert address.startswith("10.0.0.")
    assert view["allocated"]["mac"]
    assert view["revision"] == applied["revision"]
    assert (await api.ask("GET", "/v1/objects/endpoint?tenant=other"))[1]["items"] == []
    assert (await api.ask("GET", "/v1/objects/domain?domain=shop"))[1]["items"]
    assert (await api.ask("GET", "/v1/objects/tenant?tenant=acme"))[1]["items"]


@pytest.mark.asyncio
async def test_an_objects_status_follows_its_nodes_report(api: Api) -> None:
    revision = (await api.apply(*ZONE))["revision"]
    target = "/v1/objects/endpoint/acme/shop/web-1"

    async def state(target: str) -> tuple[str, str]:
        status = (await api.ask("GET", target))[1]["status"]
        return status["state"], status["reason"]

    assert (await state(target))[0] == "pending"
    await api.report("n1", revision - 1)
    assert await state(target) == (
        "pending",
        f"n1: has applied revision {revision - 1}, this needs {revision}",
    )
    await api.report("n1", revision)
    assert await state(target) == ("programmed", "")
    assert await state("/v1/objects/domain/acme/shop") == ("programmed", "")
    await api.report(
        "n1",
        revision,
        {"kind": "endpoint", "path": "acme/shop/web-1", "state": "error", "reason": "no tap7"},
    )
    assert await state(target) == ("error", "n1: no tap7")
    assert (await state("/v1/objects/tenant/acme"))[0] == "programmed"
    assert (await state("/v1/objects/node/n1"))[0] == "programmed"


@pytest.mark.asyncio
async def test_unknown_objects_and_routes_have_the_error_shape(api: Api) -> None:
    for target in (
        "/v1/objects/endpoint/acme/shop/none",
        "/v1/objects/endpoint/short",
        "/v1/nothing",
        "/v1/history/99",
        "/v1/nodes/n9/counters",
        "/v1/nodes/-bad/counters",
    ):
        status, answer = await api.ask("GET", target)
        assert status == 404, target
        assert answer["error"]["message"]
        assert "problems" in answer["error"]
    status, answer = await api.ask("GET", "/v1/objects/widget")
    assert status == 422
    assert answer["error"]["problems"][0]["path"] == "path.kind"


@pytest.mark.asyncio
async def test_all_problems_come_at_once_and_nothing_is_written(api: Api) -> None:
    broken = [
        {**ENDPOINT, "spec": {"domain": "none", "bridge": "web", "node": "n7"}},
        {**DOMAIN, "spec": {"bridges": [{"name": "web", "subnets": ["10.0.0.1/24"]}]}},
    ]
    status, answer = await api.ask("POST", "/v1/apply", {"objects": broken})
    assert status == 422
    assert len(answer["error"]["problems"]) >= 2
    assert (await api.ask("GET", "/v1/history"))[1]["items"] == []


@pytest.mark.asyncio
async def test_dry_run_says_what_would_change_and_changes_nothing(api: Api) -> None:
    applied = await api.apply(*ZONE, dry_run=True)
    assert applied["history"] is None
    assert len(applied["changes"]) == 4
    assert (await api.ask("GET", "/v1/objects/tenant"))[1]["items"] == []


@pytest.mark.asyncio
async def test_delete_history_and_rollback(api: Api) -> None:
    await api.apply(*ZONE)
    status, _ = await api.ask(
        "POST", "/v1/delete", {"refs": [{"kind": "domain", "path": "acme/shop"}]}
    )
    assert status == 409
    refs = [
        {"kind": "endpoint", "path": "acme/shop/web-1"},
        {"kind": "domain", "path": "acme/shop"},
    ]
    status, deleted = await api.ask("POST", "/v1/delete", {"refs": refs})
    assert status == 200
    assert {change["action"] for change in deleted["changes"]} == {"deleted"}
    status, rolled = await api.ask("POST", "/v1/history/1/rollback", {})
    assert status == 200
    assert rolled["history"] == 3
    items = (await api.ask("GET", "/v1/history"))[1]["items"]
    assert [(item["seq"], item["verb"]) for item in items] == [
        (3, "rollback"),
        (2, "delete"),
        (1, "apply"),
    ]
    assert items[0]["of"] == 1
    assert all(item["who"] == "root" and item["revision"] for item in items)
    one = (await api.ask("GET", "/v1/history/3"))[1]
    assert any("+bridge: web" in change["diff"] for change in one["changes"])
    assert (await api.ask("GET", "/v1/objects/endpoint/acme/shop/web-1"))[0] == 200
    bad = {"refs": [{"kind": "domain", "path": "acme"}]}
    assert (await api.ask("POST", "/v1/delete", bad))[0] == 422


@pytest.mark.asyncio
async def test_confirm_keeps_a_revision_once(api: Api) -> None:
    await api.apply({"kind": "tenant", "name": "acme"}, confirm_s=60)
    (item,) = (await api.ask("GET", "/v1/history"))[1]["items"]
    assert item["confirm_by"] > item["time"]
    assert (await api.ask("POST", "/v1/history/1/confirm", {}))[0] == 200
    assert (await api.ask("POST", "/v1/history/1/confirm", {}))[0] == 404


@pytest.mark.asyncio
async def test_wait_returns_as_soon_as_the_node_reports(api: Api) -> None:
    revision = (await api.apply(*ZONE))["revision"]
    started = time.monotonic()
    waiting = asyncio.create_task(api.ask("GET", f"/v1/wait?revision={revision}&timeout_s=15"))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await api.report("n1", revision)
    status, answer = await waiting
    assert (status, answer["done"]) == (200, True)
    assert time.monotonic() - started < 5


@pytest.mark.asyncio
async def test_wait_names_what_is_missing(api: Api) -> None:
    revision = (await api.apply(*ZONE))["revision"]
    answer = (await api.ask("GET", f"/v1/wait?revision={revision}&timeout_s=0"))[1]
    assert answer["done"] is False
    assert [(item["node"], item["state"]) for item in answer["pending"]] == [("n1", "pending")]
    exception = {
        "kind": "endpoint",
        "path": "acme/shop/web-1",
        "state": "error",
        "reason": "no device tap7",
    }
    await api.report("n1", revision, exception)
    answer = (await api.ask("GET", f"/v1/wait?revision={revision}&timeout_s=15"))[1]
    assert answer["done"] is False
    assert [item["reason"] for item in answer["errors"]] == ["no device tap7"]


@pytest.mark.asyncio
async def test_wait_for_a_revision_that_changed_nothing_needs_no_new_report(api: Api) -> None:
    revision = (await api.apply(*ZONE))["revision"]
    await api.report("n1", revision)
    again = await api.apply(*ZONE)
    assert again["history"] is None
    answer = (await api.ask("GET", f"/v1/wait?revision={again['revision']}&timeout_s=0"))[1]
    assert answer["done"] is True


@pytest.mark.asyncio
async def test_wait_does_not_ask_nodes_that_are_not_concerned(api: Api) -> None:
    other = {"kind": "node", "name": "n2", "spec": {"vtep": "192.0.2.2"}}
    revision = (await api.apply(*ZONE, other))["revision"]
    await api.report("n1", revision)
    await api.report("n2", revision)
    change = {**ENDPOINT, "spec": {**ENDPOINT["spec"], "labels": {"role": "web"}}}  # type: ignore[dict-item]
    revision = (await api.apply(change))["revision"]
    await api.report("n1", revision)
    assert (await api.ask("GET", f"/v1/wait?revision={revision}&timeout_s=0"))[1]["done"] is True


@pytest.mark.asyncio
async def test_wait_for_a_restore_asks_every_node(api: Api) -> None:
    revision = (await api.apply(*ZONE))["revision"]
    await api.report("n1", revision)
    _, items = await take(api.store, "0")
    backup = {item.key: item.value for item in items}
    restored = await restore(api.store, backup, actor="test", replace=True)
    target = f"/v1/wait?revision={restored.revision}&timeout_s=0.1"
    answer = (await api.ask("GET", target))[1]
    assert [(m["node"], m["state"]) for m in answer["pending"]] == [("n1", "pending")]
    await api.report("n1", restored.revision)
    assert (await api.ask("GET", target))[1]["done"]


@pytest.mark.asyncio
async def test_status_is_this_nodes(api: Api) -> None:
    status, answer = await api.ask("GET", "/v1/status")
    assert (status, answer["node"], answer["revision"]) == (200, "n1", 3)


@pytest.mark.asyncio
async def test_malformed_bodies_are_refused(api: Api) -> None:
    for body in ({"objects": "x"}, {"objects": [], "extra": 1}, {}, []):
        status, answer = await api.ask("POST", "/v1/apply", body)
        assert status == 422
        assert answer["error"]["problems"]
