"""Manifests: every problem at once, in plain words, at its place in the file."""

from __future__ import annotations

import pytest

from daemon.model.domain import DomainSpec
from daemon.model.endpoint import EndpointSpec
from daemon.model.manifest import (
    join_parsed,
    locate,
    manifest_of,
    parse_manifests,
    read_manifests,
)
from daemon.model.object import Kind, Ref, Tenant
from daemon.model.policy import PortRange
from daemon.model.problem import Problem

B = "f.yaml: domain t/d: spec.bridges[0]"
RULE = "f.yaml: domain t/d: spec.policies[0].ingress[0]"


def domain(spec: str) -> str:
    return f"{{kind: domain, name: d, tenant: t, spec: {{{spec}}}}}"


def rule(spec: str) -> str:
    return domain(f"policies: [{{name: p, ingress: [{{name: r, {spec}}}]}}]")


def endpoint(spec: str) -> str:
    common = "domain: d, bridge: b, node: n"
    return f"{{kind: endpoint, name: e, tenant: t, spec: {{{common}, {spec}}}}}"


CASES: list[tuple[str, list[tuple[str, str]]]] = [
    # the text
    ("a: [", [("f.yaml", "line 1, column 5")]),
    ("kind: !x tenant\nname: t", [("f.yaml: tenant t: kind", "tag !x")]),
    ("&a [*a]", [("f.yaml", "an alias contains itself")]),
    ("kind: tenant\nname: t\nname: u", [("f.yaml: tenant u: name", "given twice (line 3)")]),
    ('{"kind": "tenant", "name": "t", "name": "u"}', [("f.yaml: tenant u: name", "given twice")]),
    ("kind: tenant\nname: t\n? [a]\n: b", [("f.yaml: tenant t", "line 3: a key must be text")]),
    # the envelope
    ("just text", [("f.yaml: document 1", "must be a mapping")]),
    ("- kind: tenant\n  name: t\n- 5", [("f.yaml: document 2", "must be a mapping")]),
    ("name: t", [("f.yaml: document 1: kind", "is missing")]),
    ("{kind: pod, name: t}", [("f.yaml: document 1: kind", "node, external, adminpolicy, not")]),
    ("kind: tenant", [("f.yaml: document 1: name", "is missing")]),
    ("{kind: tenant, name: 010}", [("f.yaml: document 1: name", 'put it in quotes: "10"')]),
    ("{kind: tenant, name: Acme}", [("f.yaml: document 1: name", "is no name")]),
    (f"{{kind: tenant, name: {'a' * 64}}}", [("f.yaml: document 1: name", "at most 63")]),
    ("{kind: tenant, name: t, tenant: t}", [("f.yaml: tenant t: tenant", "leave it out")]),
    ("{kind: domain, name: d}", [("f.yaml: document 1 (domain d): tenant", "is missing")]),
    ("{kind: tenant, name: t, specs: 1}", [("f.yaml: tenant t: specs", "did you mean spec?")]),
    ("{kind: tenant, name: t, spec: []}", [("f.yaml: tenant t: spec", "mapping of keys")]),
    ("{kind: node, name: n}", [("f.yaml: node n: spec.vtep", "is missing")]),
    # types are strict
    (domain("bridges: [{name: b, mtu: '1400'}]"), [(f"{B}.mtu", 'whole number, not "1400"')]),
    (domain("bridges: [{name: b, mtu: 1400.5}]"), [(f"{B}.mtu", "whole number")]),
    (domain("bridges: [{name: b, flood: yes}]"), [(f"{B}.flood", 'true or false, not "yes"')]),
    (domain("bridges: [{name: b, flood: 1}]"), [(f"{B}.flood", "true or false")]),
    (domain("bridges: {}"), [("f.yaml: domain t/d: spec.bridges", "must be a list")]),
    (domain("bridges: [{name: 5}]"), [(f"{B}.name", "must be text, not the number 5")]),
    (domain("bridges: [{name: b, mtu: 100}]"), [(f"{B}.mtu", "at least 576")]),
    (domain("bridges: [{name: b, mtu: 99999}]"), [(f"{B}.mtu", "at most 65000")]),
    (domain("bridges: [{name: b, subnet: 1}]"), [(f"{B}.subnet", "did you mean subnets?")]),
    (domain("bridges: [{name: b, zzz: 1}]"), [(f"{B}.zzz", "unknown key")]),
    (
        domain("routers: [{name: r, interfaces: [{bridge: b, addresses: []}]}]"),
        [("f.yaml: domain t/d: spec.routers[0].interfaces[0].addresses", "at least one")],
    ),
    (
        domain("groups: [{name: g, labels: {a b: c}}]"),
        [("f.yaml: domain t/d: spec.groups[0].labels.a b", "is no label")],
    ),
    # addresses
    (
        domain("bridges: [{name: b, subnets: [10.0.0.7/24]}]"),
        [(f"{B}.subnets[0]", "the network is 10.0.0.0/24")],
    ),
    (domain("bridges: [{name: b, subnets: [10.0.0]}]"), [(f"{B}.subnets[0]", "is no network")]),
    (domain("bridges: [{name: b, subnets: [167772160]}]"), [(f"{B}.subnets[0]", "must be text")]),
    (endpoint("addresses: [010.0.0.1]"), [("f.yaml: endpoint t/d/e: spec.addresses[0]", "no IP")]),
    (endpoint("mac: 03:00:00:00:00:01"), [("f.yaml: endpoint t/d/e: spec.mac", "group bit")]),
    (endpoint("mac: 12:34"), [("f.yaml: endpoint t/d/e: spec.mac", "is no MAC address")]),
    (
        domain("routers: [{name: r, interfaces: [{bridge: b, addresses: [10.0.0.1/40]}]}]"),
        [
            (
                "f.yaml: domain t/d: spec.routers[0].interfaces[0].addresses[0]",
                "no address with prefix length",
            )
        ],
    ),
    # attachment
    (
        endpoint("attach: {kind: macvlan}"),
        [("f.yaml: endpoint t/d/e: spec.attach.kind", "netns, veth or tap, not")],
    ),
    (
        endpoint("attach: {device: a-name-that-is-too-long}"),
        [("f.yaml: endpoint t/d/e: spec.attach.device", "at most 15 characters")],
    ),
    (
        endpoint("attach: {namespace: ../x}"),
        [("f.yaml: endpoint t/d/e: spec.attach.namespace", "is no namespace name")],
    ),
    # rules
    (rule("action: reject"), [(f"{RULE}.action", 'must be allow or deny, not "reject"')]),
    (rule("protocol: tpc"), [(f"{RULE}.protocol", "is no protocol")]),
    (rule("ports: [70000]"), [(f"{RULE}.ports[0]", "must be a port")]),
    (rule("ports: [http]"), [(f"{RULE}.ports[0]", "must be a port")]),
    (rule("ports: [true]"), [(f"{RULE}.ports[0]", "must be a port")]),
    (rule("ports: [80-]"), [(f"{RULE}.ports[0]", "must be a port")]),
    (rule("icmp_type: 256"), [(f"{RULE}.icmp_type", "at most 255")]),
    # all at once
    (
        domain("bridges: [{name: B, mtu: 1}, {nam: c}]") + "\n---\n{kind: tenant, name: T}",
        [
            (f"{B}.mtu", "at least 576"),
            (f"{B}.name", "is no name"),
            ("f.yaml: domain t/d: spec.bridges[1].nam", "did you mean name?"),
            ("f.yaml: domain t/d: spec.bridges[1].name", "is missing"),
            ("f.yaml: document 2: name", "is no name"),
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[case[0][:70] for case in CASES])
def test_bad_manifests_are_named_at_their_place(text: str, expected: list[tuple[str, str]]) -> None:
    parsed = parse_manifests(text, "f.yaml")
    assert [problem.path for problem in parsed.problems] == [path for path, _ in expected]
    for problem, (_, words) in zip(parsed.problems, expected, strict=True):
        assert words in problem.message
        assert "Input should" not in problem.message


def test_kinds_are_read_in_any_case_and_documents_may_be_empty() -> None:
    parsed = parse_manifests("---\n---\nkind: Tenant\nname: a\n---\nKIND: x\n")
    assert [manifest.ref for manifest in parsed.manifests] == [Ref(kind=Kind.TENANT, name="a")]
    assert next(problem.path for problem in parsed.problems) == "document 2: KIND"


def test_yaml_1_2_is_what_is_read() -> None:
    text = "kind: tenant\nname: no\nspec: {description: 12:34:56}"
    (manifest,) = parse_manifests(text).manifests
    assert manifest.document() == {
        "kind": "tenant",
        "name": "no",
        "spec": {"description": "12:34:56"},
    }


def test_json_with_tabs_is_read() -> None:
    parsed = parse_manifests('[\n\t{"kind": "tenant",\t"name": "a"}\n]')
    assert [manifest.ref.name for manifest in parsed.manifests] == ["a"]


def test_ports_and_protocols_read_as_people_write_them_and_are_written_so() -> None:
    text = rule('protocol: 6, ports: [80, "443", 8000-8080, {first: 1, last: 2}]')
    (manifest,) = parse_manifests(text).manifests
    assert isinstance(manifest.spec, DomainSpec)
    (found,) = manifest.spec.policies[0].ingress
    assert found.protocol == "6"
    assert found.ports == (
        PortRange(first=80, last=80),
        PortRange(first=443, last=443),
        PortRange(first=8000, last=8080),
        PortRange(first=1, last=2),
    )
    written = manifest.document()["spec"]["policies"][0]["ingress"][0]
    assert written["ports"] == [80, 443, "8000-8080", "1-2"]


def test_macs_are_lower_case_inside() -> None:
    (manifest,) = parse_manifests(endpoint("mac: 02:AA:00:00:00:0F")).manifests
    assert isinstance(manifest.spec, EndpointSpec)
    assert manifest.spec.mac == "02:aa:00:00:00:0f"


def test_the_same_object_in_two_files_is_a_problem_that_names_both() -> None:
    text = "{kind: tenant, name: a}"
    parsed = join_parsed([parse_manifests(text, "one.yaml"), parse_manifests(text, "two.yaml")])
    assert parsed.problems == (Problem("two.yaml: tenant a", "is given twice (first in one.yaml)"),)


def test_a_manifest_that_cannot_be_read_is_still_known_by_name() -> None:
    parsed = parse_manifests(endpoint("mac: x"))
    assert parsed.manifests == ()
    assert parsed.broken == {Ref.parse(Kind.ENDPOINT, "t/d/e")}


def test_what_is_sent_is_read_back_the_same() -> None:
    text = endpoint("addresses: [10.0.0.1, 'fd00::1'], labels: {a: b}, attach: {kind: netns}")
    (manifest,) = parse_manifests(text).manifests
    assert read_manifests([manifest.document()]).manifests == (manifest,)


def test_problems_from_the_api_get_their_file_back() -> None:
    manifests = parse_manifests("{kind: tenant, name: a}", "one.yaml").manifests
    problems = [Problem("tenant a: spec", "x"), Problem("tenant b", "y")]
    assert [problem.path for problem in locate(problems, manifests)] == [
        "one.yaml: tenant a: spec",
        "tenant b",
    ]


def test_an_object_gives_its_manifest() -> None:
    assert manifest_of(Tenant(name="a")).document() == {
        "kind": "tenant",
        "name": "a",
        "spec": {},
    }


def test_aliases_do_not_explode() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for this, last in zip("bcdefgh", "abcdefg", strict=True):
        bomb += f"{this}: &{this} [{','.join([f'*{last}'] * 10)}]\n"
    (problem,) = parse_manifests(bomb, "f.yaml").problems
    assert "too many values" in problem.message


def test_deep_nesting_is_refused_and_not_fatal() -> None:
    for text in ("[" * 100_000, "- " * 5000 + "x"):
        (problem,) = parse_manifests(text, "f.yaml").problems
        assert problem.path == "f.yaml"
