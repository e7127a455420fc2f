"""What an operator may not do inside the own tenant, and what stays possible."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.zone.errors import ZoneError
from daemon.zone.history import revert
from tests.access.world import SECRET, World, domain, endpoint, tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def apply(world: World, role: str, *objects: dict[str, Any], **more: Any) -> Any:
    return await world.ask(role, "POST", "/v1/apply", {"objects": list(objects), **more})


async def test_one_foreign_object_stops_all_and_each_is_named(world: World) -> None:
    before = await world.state()
    node = {"kind": "node", "name": "n3", "spec": {"vtep": "192.0.2.3"}}
    broken = {"kind": "endpoint", "tenant": "other", "name": "x", "spec": {"domain": "d", "bad": 1}}
    answer = await apply(world, "tenant-operator", domain("acme", "new"), node, broken)
    assert answer.status == 403
    paths = [problem["path"] for problem in answer.body["error"]["problems"]]
    assert paths == ["node n3", "endpoint other/d/x"]
    assert await world.state() == before


async def test_the_tenant_itself_is_the_administrators(world: World) -> None:
    changed = tenant("acme")
    changed["spec"]["description"] = "more"
    answer = await apply(world, "tenant-operator", changed, domain("acme", "new"))
    assert answer.status == 403
    assert answer.body["error"]["problems"][0]["path"] == "tenant acme"
    # A manifest as `export` gives it says the same of the tenant, and that changes nothing.
    same = await apply(world, "tenant-operator", tenant("acme"), domain("acme", "new"))
    assert same.status == 200
    refs = [{"kind": "tenant", "path": "acme"}]
    assert (await world.ask("tenant-operator", "POST", "/v1/delete", {"refs": refs})).status != 200


@pytest.mark.parametrize(
    "attach",
    [
        {"kind": "tap", "device": "tap0"},
        {"kind": "veth", "device": "eth0"},
        {"namespace": "plum-zeta-shop-db"},
        {"device": "eth7"},
    ],
)
async def test_devices_and_namespaces_of_nodes_are_the_administrators(
    world: World, attach: dict[str, str]
) -> None:
    before = await world.state()
    mine = endpoint("acme", "web-1", attach=attach)
    for dry_run in (True, False):
        answer = await apply(world, "tenant-operator", mine, dry_run=dry_run)
        assert answer.status == 403
        assert "spec.attach" in answer.body["error"]["message"]
    assert await world.state() == before
    assert (await apply(world, "zone-admin", mine)).status == 200
    labelled = endpoint("acme", "web-1", attach=attach, labels={"tier": "web"})
    assert (await apply(world, "tenant-operator", labelled)).status == 200
    moved = endpoint("acme", "web-1", attach=attach, node="n2")
    assert (await apply(world, "tenant-operator", moved)).status == 403
    free = endpoint("acme", "web-1", attach={"configure": "dhcp"})
    assert (await apply(world, "tenant-operator", free)).status == 200


async def test_a_rollback_brings_back_no_device_either(world: World) -> None:
    tap = endpoint("acme", "web-1", attach={"kind": "tap", "device": "tap0"})
    with_tap = (await apply(world, "zone-admin", tap)).body["history"]
    assert (await apply(world, "tenant-operator", endpoint("acme", "web-1"))).status == 200
    target = f"/v1/history/{with_tap}/rollback"
    assert (await world.ask("tenant-operator", "POST", target, {})).status == 403
    assert (await world.ask("zone-admin", "POST", target, {})).status == 200


async def test_a_conflict_with_another_tenant_names_nothing_of_it(world: World) -> None:
    await apply(world, "zone-admin", endpoint("zeta", f"{SECRET}-1", attach={"namespace": "ns"}))
    clash = endpoint("acme", "web-1", attach={"namespace": "ns"})
    answer = await apply(world, "zone-admin", clash)
    assert answer.status == 409
    assert "another tenant's endpoint" in answer.text
    assert SECRET not in answer.text


async def test_nodes_are_shown_without_the_underlay(world: World) -> None:
    for target in ("/v1/objects/node", "/v1/objects/node/n1"):
        answer = await world.ask("tenant-operator", "GET", target)
        assert answer.status == 200
        assert '"n1"' in answer.text
        assert "192.0.2" not in answer.text
        assert "192.0.2" in (await world.ask("viewer", "GET", target)).text


async def test_a_trial_answers_an_operator_as_it_answers_the_administrator(world: World) -> None:
    query = "source=acme/shop/web-1&target=acme/shop/web-2&protocol=tcp&port=80"
    mine = await world.ask("tenant-operator", "GET", f"/v1/trial?{query}")
    assert mine.status == 200
    assert mine.body == (await world.ask("zone-admin", "GET", f"/v1/trial?{query}")).body
    foreign = "source=acme/shop/web-1&protocol=tcp&port=80&target="
    other = await world.ask(
        "tenant-operator", "GET", f"/v1/trial?{foreign}zeta/shop-{SECRET}/{SECRET}-1"
    )
    nowhere = await world.ask("tenant-operator", "GET", f"/v1/trial?{foreign}zeta/none/none")
    assert other.status == nowhere.status == 404


async def test_a_comment_about_others_too_is_not_shown(world: World) -> None:
    mixed = (await world.ask("tenant-operator", "GET", "/v1/history/4")).body
    assert [change["path"] for change in mixed["changes"]] == ["acme/shop/web-2"]
    assert mixed["comment"] == ""


async def test_confirming_what_is_others_too_is_refused(world: World) -> None:
    changes = [domain("acme", "x"), domain("zeta", "y")]
    seq = (await apply(world, "zone-admin", *changes, confirm_s=600)).body["history"]
    answer = await world.ask("tenant-operator", "POST", f"/v1/history/{seq}/confirm", {})
    assert answer.status == 403
    assert SECRET not in answer.text
    assert (await world.ask("zone-admin", "POST", f"/v1/history/{seq}/confirm", {})).status == 200


async def test_the_history_names_the_user(world: World) -> None:
    await apply(world, "tenant-operator", domain("acme", "z"))
    newest = (await world.ask("viewer", "GET", "/v1/history?limit=1")).body["items"][0]
    assert newest["who"] == "user tenant-operator"


async def test_what_an_operator_does_not_confirm_is_undone_in_the_own_tenant_only(
    world: World,
) -> None:
    changed = endpoint("acme", "web-1", node="n2")
    seq = (await apply(world, "tenant-operator", changed, confirm_s=600)).body["history"]
    await apply(world, "zone-admin", tenant("acme", quota={"endpoints": 1}))
    await apply(world, "zone-admin", domain("zeta", "later"))
    before = await world.state()
    result = await revert(world.store, seq)
    assert result is not None
    after = await world.state()
    kinds = ("/plum/tenant/", "/plum/node/", "/plum/domain/", "/plum/endpoint/")
    undone = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
    assert {k for k in undone if k.startswith(kinds)} == {"/plum/endpoint/acme/shop/web-1"}


async def test_a_revert_that_cannot_be_touches_nobody_else(world: World) -> None:
    """An administrator's would undo the node's removal and all that came after."""
    moved = endpoint("acme", "web-1", node="n2")
    await apply(world, "zone-admin", moved)
    back = endpoint("acme", "web-1", node="n1")
    seq = (await apply(world, "tenant-operator", back, confirm_s=600)).body["history"]
    gone = {"refs": [{"kind": "node", "path": "n2"}]}
    assert (await world.ask("zone-admin", "POST", "/v1/delete", gone)).status == 200
    await apply(world, "zone-admin", domain("zeta", "later"))
    before = await world.state()
    with pytest.raises(ZoneError, match="no node n2"):
        await revert(world.store, seq)
    assert await world.state() == before
