"""Administrators' policies on the wire, and the log of what they decided."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.model.manifest import parse_manifests
from tests.system.zone import Attempt, Guest, Zone, outcomes, until

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "guarded.yaml"
TENANT = "t-sys-tyrell"
LAB = f"{TENANT}/lab"
POLICY = ("adminpolicy", "house-rules")


def documents() -> list[dict[str, Any]]:
    parsed = parse_manifests(EXAMPLE.read_text(), EXAMPLE.name)
    assert not parsed.problems
    found = [manifest.document() for manifest in parsed.manifests]
    for document in found:
        if document["kind"] == POLICY[0]:
            document["spec"]["applies_to"] = {"tenants": [TENANT]}
        else:
            document["name" if document["kind"] == "tenant" else "tenant"] = TENANT
    return found


@pytest.fixture(scope="module")
def guests(zone_of_three: Zone) -> Iterator[dict[str, Guest]]:
    zone_of_three.apply(documents())
    yield {path.split("/")[1]: g for path, g in zone_of_three.guests(TENANT).items()}
    zone_of_three.delete(POLICY)
    zone_of_three.drop_tenant(TENANT)


def test_everybody_gets_what_the_head_of_the_example_says(guests: dict[str, Guest]) -> None:
    expected = {}
    for client, target in (("desk", "server"), ("scanner", "server"), ("server", "desk")):
        for port in (0, 80, 443, 8080):
            attempt = Attempt(guests[client], guests[target], port)
            allowed = port in (0, 80) or client == "scanner"
            expected[f"{client} {target} {port}"] = (allowed, attempt)
    found = outcomes([attempt for _, attempt in expected.values()])
    assert {name: found[attempt] for name, (_, attempt) in expected.items()} == {
        name: allowed for name, (allowed, _) in expected.items()
    }


def test_a_routers_interface_guards_its_bridge(plum: Zone, guests: dict[str, Guest]) -> None:
    expected = {
        ("scanner", "kiosk", 0): True,
        ("scanner", "kiosk", 443): True,
        ("scanner", "kiosk", 8080): False,
        ("desk", "kiosk", 80): True,
        ("kiosk", "desk", 80): False,
        ("kiosk", "server", 0): False,
    }
    attempts = {key: Attempt(guests[key[0]], guests[key[1]], key[2]) for key in expected}
    found = outcomes(list(attempts.values()))
    assert {key: found[attempt] for key, attempt in attempts.items()} == expected
    assert plum.dropped("POLICY_ROUTER", f"{LAB}/scanner") > 0
    assert plum.hits(LAB, "nothing-out") > 0
    answer = plum.client().trial(f"{LAB}/scanner", f"{LAB}/kiosk", "tcp", 8080)
    (one,) = answer["items"]
    assert one["drop"] == "POLICY_ROUTER"
    assert one["rules"][-1]["name"] == "router:core:dmz/ingress/no-8080"


def test_what_was_refused_is_in_the_log(plum: Zone, guests: dict[str, Guest]) -> None:
    desk, server = guests["desk"], guests["server"]
    client = plum.client("n3")
    before = client.policy_log(LAB)["read"]
    outcomes([Attempt(desk, server, 8081), Attempt(desk, server, 443)], 0.3)

    def lines() -> dict[tuple[str, int], dict[str, Any]]:
        found = client.policy_log(LAB, after=before)["items"]
        return {(line["rule"], line["target_port"]): line for line in found}

    wanted = {("admin:house-rules/ingress/rest", 8081), ("open/ingress/no-https", 443)}
    until(lambda: wanted <= lines().keys())
    line = lines()["open/ingress/no-https", 443]
    assert (line["node"], line["verdict"]) == ("n2", "refused")
    assert (line["source"], line["target"]) == (f"{LAB}/desk", f"{LAB}/server")
    assert (line["source_address"], line["protocol"]) == ("10.9.1.11", "tcp")
    only = client.policy_log(LAB, rule="no-https", after=before)["items"]
    assert {found["rule"] for found in only} == {"open/ingress/no-https"}
    assert '"rule decided"' in plum.log("n2")


def test_a_trial_knows_rule_and_hour(plum: Zone, guests: dict[str, Guest]) -> None:
    def decided(port: int, at: str | None = None) -> tuple[bool, str]:
        answer = plum.client().trial(f"{LAB}/desk", f"{LAB}/server", "tcp", port, at)
        (one,) = answer["items"]
        return one["allowed"], one["rules"][-1]["name"]

    assert decided(8080) == (False, "admin:house-rules/ingress/rest")
    assert decided(443) == (False, "open/ingress/no-https")
    assert decided(22, "2026-11-21T23:00+01:00") == (True, "open/ingress/everything")
    assert decided(22, "2026-11-23T23:00+01:00") == (False, "admin:house-rules/ingress/rest")


def test_a_connection_ends_when_an_administrator_says_so(
    plum: Zone, guests: dict[str, Guest]
) -> None:
    server = guests["server"].listen(80)
    client = guests["desk"].connect(guests["server"].ip(), 80)
    there, _ = server.accept()
    there.settimeout(5)
    client.sendall(b"one")
    assert there.recv(10) == b"one"
    policy = next(one for one in documents() if one["kind"] == POLICY[0])
    policy["spec"]["ingress"] = [{"name": "none", "action": "deny"}]
    refused = plum.dropped("POLICY_INGRESS", f"{LAB}/server")
    plum.apply([policy])
    client.sendall(b"two")
    until(lambda: plum.dropped("POLICY_INGRESS", f"{LAB}/server") > refused)
    plum.apply(documents())
    assert there.recv(10) == b"two"  # sent again, and let through again
    for one in (client, there, server):
        one.close()


def test_the_policy_is_programmed_where_its_endpoints_are(plum: Zone) -> None:
    view = plum.view(POLICY[1], POLICY[0])
    assert view.state == "programmed"
    assert set(view.document["status"]["nodes"]) == {"n1", "n2", "n3"}
