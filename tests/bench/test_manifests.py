from __future__ import annotations

import pytest

from bench.manifests import domain, endpoint, many_endpoints
from daemon.model.domain import DomainSpec
from daemon.model.endpoint import EndpointSpec


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("rules", [2, 10, 10_000])
def test_the_domain_has_as_many_rules_as_asked_in_both_directions(rules: int, version: int) -> None:
    spec = DomainSpec.model_validate(domain(rules, version)[1]["spec"])
    (policy,) = spec.policies
    assert len(policy.ingress) == len(policy.egress) == rules
    assert len({rule.name for rule in policy.ingress}) == rules
    assert [rule.name for rule in policy.ingress[-2:]] == ["open-tcp", "open-udp"]


@pytest.mark.parametrize("version", [4, 6])
def test_an_endpoint_lies_in_its_bridges_subnet(version: int) -> None:
    attach = {"kind": "veth", "device": "ep0"}
    made = EndpointSpec.model_validate(endpoint("server", "n2", version, 2, 2, attach)["spec"])
    bridges = DomainSpec.model_validate(domain(2, version)[1]["spec"]).bridges
    (subnet,) = next(one.subnets for one in bridges if one.name == made.bridge)
    assert made.addresses[0] in subnet


def test_many_endpoints_share_no_address_mac_or_device() -> None:
    made = [
        EndpointSpec.model_validate(one["spec"])
        for one in many_endpoints(1000, "n1", first_subnet=10, prefix="many")
    ]
    assert len({one.addresses for one in made}) == 1000
    assert len({one.mac for one in made}) == 1000
    assert len({one.attach.device for one in made}) == 1000
    assert {one.bridge for one in made} == {f"net{subnet}" for subnet in range(10, 15)}
