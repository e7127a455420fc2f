"""GET /v1/trial: which rule decides, from the model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import NODE, TENANT, Api

DOMAIN = {
    "kind": "domain",
    "tenant": "acme",
    "name": "shop",
    "spec": {
        "bridges": [{"name": "web", "subnets": ["10.0.0.0/24", "fd00::/64"]}],
        "policies": [
            {"name": "site", "ingress": [{"name": "https", "protocol": "tcp", "ports": [443]}]},
            {"name": "out", "egress": [{"name": "no-db", "action": "deny", "protocol": "udp"}]},
        ],
    },
}


def endpoint(number: int, node: str, *addresses: str) -> dict[str, Any]:
    spec = {"domain": "shop", "bridge": "web", "node": node, "addresses": addresses}
    return {"kind": "endpoint", "tenant": "acme", "name": f"web-{number}", "spec": spec}


async def ready(api: Api) -> None:
    other = {"kind": "node", "name": "n2", "spec": {"vtep": "192.0.2.2"}}
    one = endpoint(1, "n1", "10.0.0.11", "fd00::11")
    two = endpoint(2, "n2", "10.0.0.12", "fd00::12")
    await api.apply(NODE, other, TENANT, DOMAIN, one, two)


def query(target: str, **more: object) -> str:
    said = "".join(f"&{key}={value}" for key, value in more.items())
    return f"/v1/trial?source=acme/shop/web-1&target={target}{said}"


@pytest.mark.asyncio
async def test_each_address_with_the_rules_that_decide_and_where(api: Api) -> None:
    await ready(api)
    status, answer = await api.ask("GET", query("acme/shop/web-2", port=443))
    assert status == 200
    assert [one["target_address"] for one in answer["items"]] == ["10.0.0.12", "fd00::12"]
    for one in answer["items"]:
        assert (one["allowed"], one["receiver"]) == (True, "acme/shop/web-2")
        assert one["rules"] == [
            {"direction": "egress", "node": "n1", "name": "default"},
            {"direction": "ingress", "node": "n2", "name": "site/ingress/https"},
        ]
        assert one["stages"][-1] == {"node": "n2", "stage": "DELIVER", "detail": "ifindex 1"}


@pytest.mark.asyncio
async def test_a_refusal_names_the_rule_and_the_drop(api: Api) -> None:
    await ready(api)
    (one,) = (await api.ask("GET", query("10.0.0.12", port=53, protocol="udp")))[1]["items"]
    assert (one["allowed"], one["drop"]) == (False, "POLICY_EGRESS")
    assert one["rules"] == [{"direction": "egress", "node": "n1", "name": "out/egress/no-db"}]
    (one,) = (await api.ask("GET", query("10.0.0.12", port=80)))[1]["items"]
    assert (one["drop"], one["rules"][-1]["name"]) == ("POLICY_INGRESS", "default")


@pytest.mark.asyncio
async def test_what_cannot_be_asked_is_refused(api: Api) -> None:
    await ready(api)
    for target, expected in (
        ("acme/shop/web-9", 404),
        ("255.255.255.255", 422),
        ("ff02::1", 422),
        ("acme/shop/web-2&protocol=icmp", 422),
    ):
        status, answer = await api.ask("GET", query(target))
        assert status == expected, answer
        assert answer["error"]["hint"]
