"""Tokens and users: what is refused, what is kept, and what a deletion leaves."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from daemon.model.user import AccessRole
from daemon.zone.errors import ZoneError
from daemon.zone.tokens import BadTokenError, create_token, user_of
from daemon.zone.users import create_user, delete_user, members, set_user
from tests.access.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


def altered(token: str) -> str:
    return token[:-1] + ("0" if token[-1] != "0" else "1")


@pytest.mark.parametrize("caller", ["root", "node", "stranger"])
@pytest.mark.parametrize(
    "spoil",
    [
        altered,
        lambda token: token.replace(token.split("_")[1], "0" * 16),
        lambda token: token[:-1],
        lambda token: "",
        lambda token: "\xff" * 40,
        lambda token: f"{token} {token}",
    ],
    ids=["wrong secret", "unknown", "short", "empty", "no text", "two"],
)
async def test_a_bad_token_is_refused_whoever_shows_it(
    world: World, caller: str, spoil: Any
) -> None:
    before = await world.state()
    body = {"objects": [{"kind": "tenant", "name": "new"}]}
    headers = bearer(spoil(world.tokens["zone-admin"]))
    answer = await world.ask(caller, "POST", "/v1/apply", body, headers)
    assert answer.status == 401
    assert answer.body["error"]["message"] == "this token is not valid"
    assert "plumctl token create" in answer.body["error"]["hint"]
    assert await world.state() == before
    (line,) = world.audited()
    assert (line["outcome"], line["user"], line["path"]) == ("refused", "", "/v1/apply")


async def test_other_schemes_and_several_headers_are_refused(world: World) -> None:
    token = world.tokens["zone-admin"]
    assert (
        await world.ask("root", "GET", "/v1/status", None, bearer(token, "Basic"))
    ).status == 401
    assert (
        await world.ask("root", "GET", "/v1/status", None, bearer(token, "bearer"))
    ).status == 200
    two = {**bearer(token), "authorization": f"Bearer {token}"}
    assert (await world.ask("stranger", "GET", "/v1/status", None, two)).status == 401


async def test_a_token_decides_alone_also_for_root(world: World) -> None:
    headers = bearer(world.tokens["viewer"])
    body = {"objects": [{"kind": "tenant", "name": "new"}]}
    assert (await world.ask("root", "POST", "/v1/apply", body, headers)).status == 403
    who = (await world.ask("root", "GET", "/v1/whoami", None, headers)).body
    assert (who["kind"], who["name"], who["role"]) == ("user", "viewer", "viewer")
    assert who["expires"]
    own = (await world.ask("root", "GET", "/v1/whoami")).body
    assert (own["kind"], own["name"], own["role"]) == ("local", "root", "zone-admin")
    node = (await world.ask("node", "GET", "/v1/whoami")).body
    assert (node["kind"], node["name"], node["role"]) == ("node", "n2", "node")


async def test_a_user_behind_a_node_has_the_users_rights_only(world: World) -> None:
    headers = {**bearer(world.tokens["viewer"]), "Plum-On-Behalf-Of": "local root"}
    body = {"objects": [{"kind": "tenant", "name": "new"}]}
    assert (await world.ask("node", "POST", "/v1/apply", body, headers)).status == 403
    (line,) = world.audited()
    assert (line["user"], line["source"]) == ("viewer", "192.0.2.2 node n2")
    assert line["on_behalf"] == ""


async def test_a_nodes_word_for_whom_it_asks_gives_no_rights(world: World) -> None:
    headers = {"Plum-On-Behalf-Of": "user zone-admin"}
    body = {"objects": [{"kind": "tenant", "name": "new"}]}
    assert (await world.ask("node", "POST", "/v1/apply", body, headers)).status == 403
    (line,) = world.audited()
    assert (line["kind"], line["user"]) == ("node", "n2")
    assert line["on_behalf"] == "user zone-admin"


async def test_a_body_that_never_ends_is_cut_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.api.access.MAX_BODY_BYTES", 10_000)
    body = {"objects": [], "comment": "x" * 20_000}
    for role in ("viewer", "zone-admin"):
        answer = await world.ask(role, "POST", "/v1/apply", body)
        assert answer.status == 413
        assert "at most 10000 bytes" in answer.body["error"]["message"]


async def test_no_secret_is_kept_anywhere(world: World) -> None:
    body = {"user": "viewer", "life_s": 600, "comment": "ci"}
    made = (await world.ask("zone-admin", "POST", "/v1/tokens", body)).body
    secret = made["secret"]
    assert (await world.ask("root", "GET", "/v1/status", None, bearer(secret))).status == 200
    assert (
        await world.ask("root", "GET", "/v1/status", None, bearer(altered(secret)))
    ).status == 401
    tail = secret.rsplit("_", 1)[1]
    assert len(tail) == 64
    kept = b"".join((await world.state()).values()).decode()
    listed = (await world.ask("root", "GET", "/v1/tokens")).text
    log = (world.folder / "audit.log").read_text()
    for place in (kept, listed, log):
        assert tail not in place
        assert made["token"]["id"] in place
    assert kept.count('"hash"') == listed.count('"id"')
    assert "hash" not in listed


async def test_tokens_expire_and_are_revoked(world: World) -> None:
    now = time.time()
    token, text = await create_token(world.store, "viewer", 60, "", now)
    user, _ = await user_of(world.store, text, now + 59)
    assert user.name == "viewer"
    with pytest.raises(BadTokenError, match="expired"):
        await user_of(world.store, text, now + 60)
    with pytest.raises(BadTokenError, match="not valid"):
        await user_of(world.store, altered(text), now + 60)
    assert (await world.ask("root", "GET", "/v1/status", None, bearer(text))).status == 200
    assert (await world.ask("root", "DELETE", f"/v1/tokens/{token.id}")).status == 200
    assert (await world.ask("root", "GET", "/v1/status", None, bearer(text))).status == 401
    for life_s in (0, 59, 367 * 86_400, float("inf")):
        with pytest.raises(ZoneError, match="lives between"):
            await create_token(world.store, "viewer", life_s, "", now)


async def test_a_later_user_of_the_name_has_none_of_the_tokens(world: World) -> None:
    now = time.time()
    await create_user(world.store, "ann", AccessRole.ZONE_ADMIN, None, "", now)
    token, text = await create_token(world.store, "ann", 600, "", now)
    kept = await world.store.get(f"/plum/token/{token.id}")
    assert kept is not None
    await delete_user(world.store, "ann")
    assert await world.store.get(kept.key) is None
    with pytest.raises(BadTokenError):
        await user_of(world.store, text, now)
    # As if it had been made while the user was deleted.
    from daemon.store.interface import Put

    await world.store.commit([], [Put(kept.key, kept.value)])
    await create_user(world.store, "ann", AccessRole.ZONE_ADMIN, None, "", now)
    with pytest.raises(BadTokenError, match="gone"):
        await user_of(world.store, text, now)


async def test_new_rights_hold_from_the_next_request_on(world: World) -> None:
    body = {"objects": [{"kind": "tenant", "name": "new"}]}
    assert (await world.ask("viewer", "POST", "/v1/apply", body)).status == 403
    await set_user(world.store, "viewer", AccessRole.ZONE_ADMIN)
    assert (await world.ask("viewer", "POST", "/v1/apply", body)).status == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "ann", "role": "tenant-operator"}, "needs a tenant"),
        ({"name": "ann", "role": "viewer", "tenant": "acme"}, "has no tenant"),
        ({"name": "ann", "role": "node"}, "a user's role is one of"),
        ({"name": "ann", "role": "tenant-operator", "tenant": "none"}, "no tenant none"),
        ({"name": "viewer", "role": "viewer"}, "a user viewer already"),
        ({"name": "../x", "role": "viewer"}, "malformed"),
        ({"name": "ann\n", "role": "viewer"}, "malformed"),
        ({"name": "ann", "role": "king"}, "malformed"),
        ({"name": "ann", "role": "viewer", "root": True}, "malformed"),
    ],
)
async def test_users_that_make_no_sense_are_refused(
    world: World, body: dict[str, Any], words: str
) -> None:
    before = await world.state()
    answer = await world.ask("root", "POST", "/v1/users", body)
    assert answer.status in (409, 422)
    assert words in answer.body["error"]["message"]
    assert await world.state() == before


async def test_a_tenant_with_users_stays(world: World) -> None:
    from daemon.model.object import Kind, Ref
    from daemon.zone.apply import delete

    for path in ("acme/shop/web-1", "acme/shop/web-2"):
        await delete(world.store, [Ref.parse(Kind.ENDPOINT, path)], actor="root")
    gone = [Ref.parse(Kind.DOMAIN, "acme/shop"), Ref.parse(Kind.TENANT, "acme")]
    for dry_run in (True, False):
        with pytest.raises(ZoneError, match="still has users acme-second and tenant-operator"):
            await delete(world.store, gone, actor="root", dry_run=dry_run)
    await set_user(world.store, "acme-second", AccessRole.VIEWER)
    await delete_user(world.store, "tenant-operator")
    assert (await members(world.store, "acme"))[0] == []
    await delete(world.store, gone, actor="root")


async def test_nobody_becomes_operator_of_a_tenant_that_goes_at_that_moment(
    world: World,
) -> None:
    from daemon.model.manifest import read_manifests
    from daemon.model.object import Kind, Ref
    from daemon.zone.apply import apply, delete

    ref = Ref.parse(Kind.TENANT, "brief")
    both = 0
    for number in range(12):
        await apply(world.store, read_manifests([{"kind": "tenant", "name": "brief"}]), actor="r")
        name = f"u{number}"
        made, gone = await asyncio.gather(
            create_user(world.store, name, AccessRole.TENANT_OPERATOR, "brief", "", 0),
            delete(world.store, [ref], actor="r"),
            return_exceptions=True,
        )
        assert isinstance(made, ZoneError) or isinstance(gone, ZoneError)
        there = await world.store.get("/plum/tenant/brief") is not None
        user = await world.store.get(f"/plum/user/{name}") is not None
        assert there or not user
        both += there and user
        if user:
            await delete_user(world.store, name)
