"""Administrators' policies: only administrators read or write them, and nobody gets round them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.access.world import DOMAIN, SECRET, World, domain

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = f"guard-{SECRET}"
POLICY = {
    "kind": "AdminPolicy",
    "name": NAME,
    "spec": {
        "description": f"because of {SECRET}",
        "ingress": [{"name": f"no-{SECRET}", "action": "deny", "protocol": "tcp", "ports": [80]}],
    },
}
OTHERS = ("viewer", "tenant-operator")
TRIAL = "/v1/trial?source=acme/shop/web-1&target=acme/shop/web-2&port=80"
RULE_OF_ALL = {"name": "all", "action": "allow"}


async def applied(world: World, *more: dict[str, Any]) -> None:
    answer = await world.ask("zone-admin", "POST", "/v1/apply", {"objects": [POLICY, *more]})
    assert answer.status == 200, answer.text


async def test_administrators_read_them(world: World) -> None:
    await applied(world)
    listed = await world.ask("zone-admin", "GET", "/v1/objects/adminpolicy")
    assert [item["name"] for item in listed.body["items"]] == [NAME]
    one = await world.ask("zone-admin", "GET", f"/v1/objects/adminpolicy/{NAME}")
    assert one.body["spec"] == POLICY["spec"]


@pytest.mark.parametrize("role", OTHERS)
async def test_others_cannot_tell_that_there_is_one(world: World, role: str) -> None:
    absent = await world.ask(role, "GET", "/v1/objects/adminpolicy/none")
    await applied(world, domain("acme", "with a policy"))
    listed = await world.ask(role, "GET", "/v1/objects/adminpolicy")
    assert listed.body["items"] == []
    one = await world.ask(role, "GET", f"/v1/objects/adminpolicy/{NAME}")
    assert one.status == absent.status == 404
    assert one.text.replace(NAME, "none") == absent.text
    for target in ("/v1/history", "/v1/history/7"):
        assert NAME not in (await world.ask(role, "GET", target)).text
    if role == "tenant-operator":
        assert NAME not in (await world.ask(role, "GET", "/v1/audit")).text


@pytest.mark.parametrize("role", OTHERS)
async def test_others_change_none(world: World, role: str) -> None:
    await applied(world)
    before = await world.state()
    weaker = {**POLICY, "spec": {}}
    apply = await world.ask(role, "POST", "/v1/apply", {"objects": [weaker]})
    refs = [{"kind": "adminpolicy", "path": NAME}]
    delete = await world.ask(role, "POST", "/v1/delete", {"refs": refs})
    back = await world.ask(role, "POST", "/v1/history/3/rollback", {})
    assert (apply.status, delete.status) == (403, 403)
    assert role == "tenant-operator" or back.status == 403
    assert {k: v for k, v in (await world.state()).items() if "/adminpolicy/" in k} == {
        k: v for k, v in before.items() if "/adminpolicy/" in k
    }


async def test_a_trial_says_that_it_was_an_administrator_and_no_more(world: World) -> None:
    spec = domain("acme")
    spec["spec"]["policies"] = [{"name": "p", "ingress": [RULE_OF_ALL]}]
    await applied(world, spec)
    seen = {}
    for role in (*OTHERS, "zone-admin"):
        answer = await world.ask(role, "GET", TRIAL)
        (trial,) = answer.body["items"]
        assert (trial["allowed"], trial["drop"]) == (False, "POLICY_INGRESS")
        assert trial["reason"] == "refused by an administrator's policy"
        seen[role] = trial["rules"][-1]["name"]
        assert role == "zone-admin" or SECRET not in answer.text
    assert seen["zone-admin"] == f"admin:{NAME}/ingress/no-{SECRET}"
    assert seen["viewer"] == seen["tenant-operator"] == "an administrator's policy"


async def test_everything_wrong_is_said_at_once(world: World) -> None:
    rules = [
        {"name": "a", "action": "pass", "peers": [{}, {"labels": {}}], "ports": [80]},
        {"name": "a", "action": "deny", "peers": [{"cidr": "10.0.0.0/8", "labels": {"a": "b"}}]},
    ]
    chosen = {"tenants": ["acme", "acme"], "domains": [f"acme/{DOMAIN['acme']}"]}
    wrong = {"tier": "baseline", "applies_to": chosen, "ingress": rules}
    objects = [{"kind": "AdminPolicy", "name": "w", "spec": wrong}]
    answer = await world.ask("zone-admin", "POST", "/v1/apply", {"objects": objects})
    assert answer.status == 422
    found = {
        p["path"].removeprefix("adminpolicy w: spec.") for p in answer.body["error"]["problems"]
    }
    assert found == {
        "applies_to.tenants[1]",
        "applies_to.domains[0]",
        "ingress[0].action",
        "ingress[0].peers[0]",
        "ingress[0].peers[1].labels",
        "ingress[0].ports",
        "ingress[1].name",
        "ingress[1].peers[0]",
    }
