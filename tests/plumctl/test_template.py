"""Templates: what fills the blanks, what is refused, and what is shipped."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.model.manifest import read_manifests
from plumctl.commands.template import SHIPPED
from plumctl.templating import Template, TemplateError, from_text, parse, render

SHIPPED_NAMES = {"web-application", "playground", "cluster", "voice", "provider", "consumer"}

TEXT = """
kind: template
name: lab
version: 3
description: for tests
parameters:
  hosts: {type: list, min: 1}
  count: {type: integer, default: 2, min: 1, max: 4}
  open: {type: boolean, default: true}
  net: {type: cidr, default: 10.1.0.0/24}
  mode: {type: enum, choices: [a, b], default: a}
  words: {type: string, default: hello, max: 100}
body:
  - kind: domain
    tenant: ${tenant}
    name: ${name}
    spec:
      description: "${words} of ${count}"
      bridges: [{name: net, subnets: ["${net}"]}]
  - for: i
    count: ${count}
    do:
      - kind: endpoint
        tenant: ${tenant}
        name: e-${i+1}
        spec: {domain: "${name}", bridge: net, node: "${hosts[i]}"}
"""


def lab(**given: Any) -> list[Any]:
    return render(parse(TEXT, "lab.yaml"), "acme", "shop", {"hosts": ["n1", "n2"], **given})


def refused(**given: Any) -> dict[str, str]:
    with pytest.raises(TemplateError) as caught:
        render(parse(TEXT, "lab.yaml"), "acme", "shop", given)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_blanks_are_filled_and_lists_wrap_around() -> None:
    domain, *endpoints = lab(count=3)
    assert domain["spec"]["description"] == "hello of 3"
    assert [one["name"] for one in endpoints] == ["e-1", "e-2", "e-3"]
    assert [one["spec"]["node"] for one in endpoints] == ["n1", "n2", "n1"]


def test_the_domain_remembers_what_was_given() -> None:
    origin = lab(count=1)[0]["spec"]["origin"]
    given = {"hosts": ["n1", "n2"], "count": 1}
    assert origin == {"template": "lab", "version": 3, "parameters": given}
    assert read_manifests(lab()).problems == ()


def test_everything_wrong_is_said_at_once() -> None:
    given = {"count": "many", "open": "yes", "net": "10.1.0.1/24", "mode": "c", "extra": 1}
    problems = refused(**given)
    assert problems.keys() == {"hosts", *given}
    assert problems["hosts"] == "is missing (list)"
    assert problems["count"] == "is 'many', not an integer"
    assert problems["mode"] == "is 'c', not one of a, b"
    assert problems["extra"] == "is no parameter of lab"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"count": 5}, "at most 4"),
        ({"count": True}, "not an integer"),
        ({"hosts": []}, "at least 1"),
        ({"hosts": ["n1", 2]}, "[1] is 2, not a string"),
        ({"hosts": "n1"}, "not a list"),
    ],
)
def test_bounds_and_types_are_kept(given: dict[str, Any], words: str) -> None:
    (message,) = refused(**{"hosts": ["n1"], **given}).values()
    assert words in message


def test_a_value_never_becomes_structure() -> None:
    """Nor is a placeholder in a value filled again."""
    evil = 'x", subnets: []}]\nkind: node\n- ${tenant}'
    domain = lab(words=evil)[0]
    assert domain["spec"]["description"] == f"{evil} of 2"
    assert domain["kind"] == "domain"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("${hosts[i]}", "${host[i]}", "nothing known"),
        ("${hosts[i]}", "${hosts+1}", "needs an integer"),
        ("${i+1}", "${__class__}", "nothing known"),
        ("name: ${name}", "name: other", "exactly one domain"),
        ("kind: endpoint", "kind: node", "a template makes"),
        (
            "tenant: ${tenant}\n        name: e",
            "tenant: other\n        name: e",
            "a template makes",
        ),
        ("count: ${count}", "count: 20000", "more than 10000 rounds"),
    ],
)
def test_a_wrong_body_is_refused(old: str, new: str, words: str) -> None:
    assert old in TEXT
    with pytest.raises(TemplateError) as caught:
        render(parse(TEXT.replace(old, new), "x"), "acme", "shop", {"hosts": ["n1"]})
    assert any(words in problem.message for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("default: 2", "default: 9"),
        ("type: boolean", "type: bool"),
        ("version: 3", "version: 0"),
        ("choices: [a, b], ", ""),
        ("  hosts:", "  tenant:"),
        ("description: for tests", "describe: for tests"),
    ],
)
def test_a_wrong_template_is_refused(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(TemplateError):
        parse(TEXT.replace(old, new, 1), "x")


def test_values_from_a_shell_get_their_type() -> None:
    found = parse(TEXT, "x").parameters
    assert from_text(found["hosts"], "n1,n2") == ["n1", "n2"]
    assert from_text(found["count"], "3") == 3
    assert from_text(found["open"], "false") is False
    assert from_text(found["words"], "3") == "3"
    assert from_text(found["count"], "three") == "three"


def shipped() -> dict[str, Template]:
    found = (parse(path.read_text(), path.name) for path in SHIPPED.glob("*.yaml"))
    return {template.name: template for template in found}


def test_what_is_shipped_makes_good_manifests() -> None:
    assert shipped().keys() == SHIPPED_NAMES
    for template in shipped().values():
        documents = render(template, "acme", "shop", {"nodes": ["n1", "n2"]})
        assert read_manifests(documents).problems == (), template.name
        assert all(one.description for one in template.parameters.values())
