"""Quotas: checked with the change, all at once, and by whoever comes first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from daemon.model.manifest import read_manifests
from daemon.model.tenant import Quota
from daemon.zone.apply import apply
from daemon.zone.errors import ZoneError
from plumctl.columns import QUOTA
from tests.access.world import World, domain, endpoint, tenant

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def put(world: World, *objects: dict[str, Any], **more: Any) -> Any:
    body = {"objects": list(objects), **more}
    return await world.ask("zone-admin", "POST", "/v1/apply", body)


async def limit(world: World, **quota: int) -> None:
    assert (await put(world, tenant("acme", quota=quota))).status == 200


def wide_domain(bridges: int, rules: int) -> dict[str, Any]:
    made = domain("acme")
    names = [f"b{n}" for n in range(bridges - 1)]
    made["spec"]["bridges"] += [{"name": name} for name in names]
    made["spec"]["policies"][0]["egress"] = [{"name": f"r{n}"} for n in range(rules - 1)]
    return made


async def test_everything_beyond_is_said_at_once_and_nothing_is_applied(world: World) -> None:
    await limit(world, bridges=2, rules=3, endpoints=2, flows=40_000, domains=1)
    before = await world.state()
    fine, more = endpoint("acme", "web-2", labels={"tier": "web"}), endpoint("acme", "web-3")
    for dry_run in (True, False):
        answer = await put(world, wide_domain(3, 4), fine, more, dry_run=dry_run)
        assert answer.status == 422
        problems = {p["path"]: p["message"] for p in answer.body["error"]["problems"]}
        assert problems == {
            "tenant acme: spec.quota.bridges": "at most 2; this makes 3, there are 1",
            "tenant acme: spec.quota.rules": "at most 3; this makes 4, there are 1",
            "tenant acme: spec.quota.endpoints": "at most 2; this makes 3, there are 2",
            "tenant acme: spec.quota.flows": "at most 40000; this makes 49152, there are 32768",
        }
        assert await world.state() == before
    assert (await put(world, wide_domain(2, 3), fine)).status == 200


async def test_an_operator_can_neither_exceed_nor_raise_it(world: World) -> None:
    await limit(world, endpoints=2)
    more = {"objects": [endpoint("acme", "web-3")]}
    assert (await world.ask("tenant-operator", "POST", "/v1/apply", more)).status == 422
    raised = {"objects": [tenant("acme", quota={"endpoints": 9}), endpoint("acme", "web-3")]}
    assert (await world.ask("tenant-operator", "POST", "/v1/apply", raised)).status == 403
    assert (await put(world, *raised["objects"])).status == 200


async def test_a_lowered_quota_takes_nothing_away(world: World) -> None:
    await limit(world, endpoints=0, bridges=0)
    changed = endpoint("acme", "web-1", labels={"tier": "web"})
    assert (await put(world, changed, domain("acme", "changed"))).status == 200
    assert (await put(world, endpoint("acme", "web-3"))).status == 422
    refs = [{"kind": "endpoint", "path": "acme/shop/web-1"}]
    assert (await world.ask("tenant-operator", "POST", "/v1/delete", {"refs": refs})).status == 200
    seq = (await world.ask("root", "GET", "/v1/history?limit=1")).body["items"][0]["seq"]
    back = await world.ask("tenant-operator", "POST", f"/v1/history/{seq - 1}/rollback", {})
    assert back.status == 422  # not even by a rollback
    assert "quota.endpoints" in back.text


async def test_other_tenants_quotas_are_their_own(world: World) -> None:
    await limit(world, endpoints=2)
    assert (await put(world, endpoint("zeta", "more"))).status == 200


async def test_two_at_once_do_not_both_take_the_last_place(world: World) -> None:
    await limit(world, endpoints=3)
    results = await asyncio.gather(
        *(
            apply(world.store, read_manifests([endpoint("acme", f"x{n}")]), actor="r")
            for n in range(4)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(result, ZoneError) for result in results) == 3
    found = (await world.ask("root", "GET", "/v1/objects/endpoint?tenant=acme")).body["items"]
    assert len(found) == 3


async def test_use_is_shown_beside_the_limit(world: World) -> None:
    await limit(world, endpoints=10, rules=5)
    for target in ("/v1/objects/tenant", "/v1/objects/tenant/acme"):
        answer = (await world.ask("tenant-operator", "GET", target)).body
        view = answer["items"][0] if "items" in answer else answer
        assert view["used"] == {
            "domains": 1,
            "bridges": 1,
            "routers": 0,
            "load_balancers": 0,
            "rules": 1,
            "endpoints": 2,
            "flows": 2 * 16384,
        }
    assert (await world.ask("root", "GET", "/v1/objects/domain")).body["items"][0]["used"] is None
    empty = {"kind": "tenant", "name": "empty"}
    await put(world, empty)
    view = (await world.ask("root", "GET", "/v1/objects/tenant/empty")).body
    assert set(view["used"].values()) == {0}


async def test_plumctl_names_what_a_quota_limits() -> None:
    assert tuple(Quota.model_fields) == QUOTA


@pytest.mark.parametrize("value", [-1, "many", 1.5, True])
async def test_a_limit_is_a_count(world: World, value: object) -> None:
    answer = await put(world, tenant("acme", quota={"endpoints": value}))
    assert answer.status == 422
    assert "quota.endpoints" in answer.text
    unknown = await put(world, tenant("acme", quota={"endpoint": 3}))
    assert (unknown.status, "quota.endpoint" in unknown.text) == (422, True)
