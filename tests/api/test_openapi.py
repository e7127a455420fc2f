"""The served document: complete, well-formed, and equal to what the routes say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Api

ROUTES = {
    ("GET", "/v1/objects/{kind}"),
    ("GET", "/v1/objects/{kind}/{path}"),
    ("POST", "/v1/apply"),
    ("POST", "/v1/delete"),
    ("GET", "/v1/history"),
    ("GET", "/v1/history/{seq}"),
    ("POST", "/v1/history/{seq}/rollback"),
    ("POST", "/v1/history/{seq}/confirm"),
    ("GET", "/v1/wait"),
    ("GET", "/v1/status"),
    ("GET", "/v1/trial"),
    ("GET", "/v1/policy-log"),
    ("GET", "/v1/nodes/{node}/policy-log"),
    ("GET", "/v1/zone"),
    ("POST", "/v1/joins"),
    ("POST", "/v1/nodes/{node}/rotate"),
    ("GET", "/v1/whoami"),
    ("GET", "/v1/audit"),
    ("GET", "/v1/nodes/{node}/audit"),
    ("GET", "/v1/users"),
    ("GET", "/v1/users/{name}"),
    ("POST", "/v1/users"),
    ("PATCH", "/v1/users/{name}"),
    ("DELETE", "/v1/users/{name}"),
    ("GET", "/v1/tokens"),
    ("POST", "/v1/tokens"),
    ("DELETE", "/v1/tokens/{token}"),
    ("GET", "/v1/nodes/{node}/counters"),
    ("GET", "/v1/counters"),
    ("GET", "/v1/trial"),
    ("GET", "/v1/zone"),
    ("POST", "/v1/joins"),
    ("POST", "/v1/nodes/{node}/rotate"),
    ("GET", "/v1/nodes/{node}/endpoints"),
    ("GET", "/v1/nodes/{node}/mesh"),
    ("GET", "/v1/mesh"),
    ("POST", "/v1/nodes/{node}/cordon"),
    ("POST", "/v1/nodes/{node}/uncordon"),
    ("POST", "/v1/nodes/{node}/remove"),
    ("POST", "/v1/zone/authority"),
    ("POST", "/v1/zone/backup"),
    ("POST", "/v1/zone/restore"),
}
#: Answers that are lines, not one document.
STREAMS = {"backup"}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for child in value.values():
            yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


@pytest.mark.asyncio
async def test_document_has_exactly_the_routes_of_the_contract(api: Api) -> None:
    status, document = await api.ask("GET", "/openapi.json")
    assert status == 200
    assert {(method, path) for method, path, _ in operations(document)} == ROUTES
    assert document == api.control._app.openapi()  # type: ignore[attr-defined]


@pytest.mark.asyncio
async def test_every_operation_is_described_and_typed(api: Api) -> None:
    document = (await api.ask("GET", "/openapi.json"))[1]
    assert document["openapi"].startswith("3.1")
    seen = set()
    for method, path, operation in operations(document):
        place = f"{method} {path}"
        assert operation["summary"], place
        assert operation["operationId"] not in seen, place
        seen.add(operation["operationId"])
        assert operation["tags"], place
        content = operation["responses"]["200"]["content"]
        if operation["operationId"] in STREAMS:
            assert set(content) == {"application/jsonl"}, place
        else:
            assert "$ref" in content["application/json"]["schema"], place
        for code in ("401", "403", "404", "409", "422", "503"):
            content = operation["responses"][code]["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/ErrorAnswer"}, place
        named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}, place


@pytest.mark.asyncio
async def test_every_reference_resolves(api: Api) -> None:
    document = (await api.ask("GET", "/openapi.json"))[1]
    found = set(references(document))
    assert found
    for reference in found:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node.get("type") or node.get("enum") or node.get("anyOf"), reference
