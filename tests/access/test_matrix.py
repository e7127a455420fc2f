"""Every cell of the access matrix, through the real API, against hand-written promises."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI

from daemon.api.app import create_app
from daemon.api.backend import Backend
from daemon.api.matrix import PRIVILEGED, ROLES, TABLE
from tests.access.promises import (
    CHANGES,
    INVALID,
    NOTHING,
    PROMISES,
    REFUSED,
    SEES,
    TOLD,
    Outcomes,
    Request,
)
from tests.access.world import ROLES as CALLERS
from tests.access.world import SECRET, Answer, LocalNode, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


def cells() -> Iterator[Any]:
    for operation, promises in PROMISES.items():
        for number, promise in enumerate(promises):
            sides: dict[str, tuple[Request, Outcomes]] = {
                "own": (promise.own, promise.own_outcomes),
                "other": (promise.other, promise.other_outcomes),
            }
            for side, (request, outcomes) in sides.items():
                for role, outcome in zip(CALLERS, outcomes, strict=True):
                    name = f"{operation}{number or ''}-{side}-{role}-{outcome}"
                    yield pytest.param(operation, role, request, outcome, id=name)


def operations(app: FastAPI) -> set[str]:
    paths = app.openapi()["paths"].values()
    return {operation["operationId"] for methods in paths for operation in methods.values()}


@pytest.mark.parametrize(("operation", "role", "request_", "outcome"), list(cells()))
async def test_cell(
    world: World, operation: str, role: str, request_: Request, outcome: str
) -> None:
    target = request_.target.format_map(world.token_ids())  # {USER}: the id of its token
    request_ = replace(request_, target=target)
    before = await world.state()
    answer = await world.ask(role, request_.method, request_.target, request_.body)
    after = await world.state()
    if outcome == CHANGES:
        assert answer.status == 200, answer
        assert after != before
    else:
        assert after == before
    if outcome == SEES:
        assert answer.status == 200, answer
        assert request_.shows is None or request_.shows in answer.text
    elif outcome == INVALID:
        assert answer.status == 422, answer
    elif outcome == NOTHING:
        await _check_nothing(world, role, request_, answer)
    elif outcome in (TOLD, REFUSED):
        assert answer.status == 403, answer
        assert answer.body["error"]["hint"]
        assert bool(answer.body["error"]["problems"]) is (outcome == TOLD)
    if role == "tenant-operator":
        said = str(request_.body) + request_.target
        assert SECRET in said or SECRET not in answer.text
    _check_audited(world, role, operation, request_, answer)


async def _check_nothing(world: World, role: str, request: Request, answer: Answer) -> None:
    if request.absent is None:  # a list: it is there, without the other's
        assert answer.status == 200
        assert request.shows is not None
        assert request.shows not in answer.text
        return
    absent = await world.ask(role, request.method, request.absent, request.body)
    assert answer.status == absent.status == 404
    named, other = _named(request.target), _named(request.absent)
    assert named in answer.text
    assert answer.text.replace(named, "X") == absent.text.replace(other, "X")


def _named(target: str) -> str:
    """What a request asks for: only that may differ in what is said of two absent things."""
    found = re.search(
        r"/objects/[a-z]+/(.+)|/(?:history|users|tokens)/([^/]+)|source=([^&]+)", target
    )
    assert found is not None
    return next(part for part in found.groups() if part)


def _check_audited(
    world: World, role: str, operation: str, request: Request, answer: Answer
) -> None:
    lines = [line for line in world.audited() if line["path"] == request.target.split("?")[0]]
    if request.method == "GET" and answer.status < 403 and operation not in PRIVILEGED:
        assert lines == []
        return
    if request.method == "GET" and answer.status == 404:
        return
    line = lines[0]
    assert line["user"] == ("n2" if role == "node" else role)
    assert line["role"] == role
    assert line["operation"] == operation
    expected = {200: "done", 403: "refused"}.get(answer.status, "failed")
    assert line["outcome"] == expected


async def test_every_operation_has_its_row_and_its_promise_and_none_is_stale(
    world: World,
) -> None:
    app = create_app(Backend(world.store, LocalNode(), 0.5), "0")
    assert operations(app) == set(TABLE)
    assert operations(app) == set(PROMISES)
    assert set(TABLE) >= PRIVILEGED
    assert all(len(row) == len(ROLES) for row in TABLE.values())
    assert [str(role) for role in ROLES] == list(CALLERS)


async def test_a_route_that_nobody_listed_answers_nobody(world: World) -> None:
    app = world.control._app

    @app.get("/v1/forgotten", operation_id="forgotten", include_in_schema=False)
    async def forgotten() -> dict[str, str]:
        return {"said": "everything"}

    @app.get("/v1/nameless", include_in_schema=False)
    async def nameless() -> dict[str, str]:
        return {"said": "everything"}

    for role in (*CALLERS, "root"):
        for target in ("/v1/forgotten", "/v1/nameless"):
            answer = await world.ask(role, "GET", target)
            assert answer.status == 403, (role, target)
            assert "everything" not in answer.text


async def test_a_route_that_forgets_to_ask_what_may_be_seen_answers_no_operator(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLE, "careless", TABLE["list_objects"])  # type: ignore[arg-type]

    @world.control._app.get("/v1/careless", operation_id="careless", include_in_schema=False)
    async def careless() -> dict[str, str]:
        return {"said": SECRET}

    assert (await world.ask("viewer", "GET", "/v1/careless")).status == 200
    try:
        answer = await world.ask("tenant-operator", "GET", "/v1/careless")
    except Exception:
        return  # plumd broke off
    assert answer.status == 500
    assert SECRET not in answer.text


async def test_an_operators_rollback_is_of_the_own_tenant(world: World) -> None:
    before = await world.state()
    answer = await world.ask("tenant-operator", "POST", "/v1/history/1/rollback", {})
    assert answer.status == 200, answer
    after = await world.state()
    kinds = ("/plum/tenant/", "/plum/node/", "/plum/domain/", "/plum/endpoint/")
    changed = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
    objects = {key for key in changed if key.startswith(kinds)}
    assert objects
    assert all("/acme/" in key for key in objects)
    assert "/plum/tenant/acme" in after


async def test_without_a_role_nothing_answers(world: World) -> None:
    for target in ("/v1/status", "/openapi.json", "/v1/none", "/"):
        assert (await world.ask("stranger", "GET", target)).status == 401, target
    assert {line["outcome"] for line in world.audited()} == {"refused"}
    assert {line["source"] for line in world.audited()} == {"198.51.100.9"}


async def test_every_role_may_read_the_contract(world: World) -> None:
    for role in CALLERS:
        assert (await world.ask(role, "GET", "/openapi.json")).status == 200
        assert (await world.ask(role, "GET", "/v1/none")).status == 404
