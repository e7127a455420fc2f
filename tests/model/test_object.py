"""Identity and what follows from it."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from daemon.model.base import Model
from daemon.model.derive import (
    attach_device,
    attach_namespace,
    bridge_mtu_bytes,
    default_namespace,
)
from daemon.model.domain import Bridge
from daemon.model.endpoint import EndpointSpec
from daemon.model.mac import endpoint_mac, router_mac
from daemon.model.node import NodeSpec
from daemon.model.object import Kind, Ref
from daemon.model.problem import PATTERNS


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Kind.TENANT, "acme"),
        (Kind.NODE, "n1"),
        (Kind.DOMAIN, "acme/shop"),
        (Kind.ENDPOINT, "acme/shop/web-1"),
    ],
)
def test_a_path_is_parsed_to_what_prints_it(kind: Kind, path: str) -> None:
    assert Ref.parse(kind, path).path == path
    for wrong in (f"{path}/x", f"/{path}", f"{path}/", "", "Ä", path + "\n", "a" * 64):
        with pytest.raises(ValueError, match=f"names no {kind}"):
            Ref.parse(kind, wrong)


def test_every_pattern_of_the_model_has_words() -> None:
    def patterns(node: object) -> set[str]:
        if isinstance(node, dict):
            own = {node["pattern"]} if isinstance(node.get("pattern"), str) else set()
            inner = {
                p
                for v in [*node.values(), *node.get("patternProperties", {})]
                for p in ({v} if isinstance(v, str) and v.startswith("^") else patterns(v))
            }
            return own | inner
        if isinstance(node, list):
            return {pattern for item in node for pattern in patterns(item)}
        return set()

    models: list[type[BaseModel]] = [*Model.__subclasses__()]
    found = {p for model in models for p in patterns(model.model_json_schema())}
    assert found == set(PATTERNS)


def test_macs_are_local_unicast_and_hold_the_id() -> None:
    assert endpoint_mac(0x01020304) == "02:65:01:02:03:04"
    assert router_mac(7) == "02:72:00:00:00:07"


def test_attachment_defaults() -> None:
    spec = EndpointSpec(domain="shop", bridge="web", node="n1")
    assert attach_namespace("acme", "web-1", spec) == "plum-acme-shop-web-1"
    assert default_namespace("acme", "shop", "web-1") == "plum-acme-shop-web-1"
    assert attach_device(spec) == "eth0"


def test_a_bridge_has_the_mtu_of_the_smallest_underlay() -> None:
    four = NodeSpec.model_validate({"vtep": "192.0.2.1"})
    big = NodeSpec.model_validate({"vtep": "192.0.2.2", "underlay_mtu": 9000})
    six = NodeSpec.model_validate({"vtep": "2001:db8::1"})
    assert bridge_mtu_bytes(Bridge(name="b"), [big, four]) == 1450
    assert bridge_mtu_bytes(Bridge(name="b"), [six]) == 1430
    assert bridge_mtu_bytes(Bridge(name="b", mtu=1300), [four]) == 1300
