"""The cycle on a machine in memory: order, isolation, failures, restarts, repair."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.compiler.errors import CompileError
from daemon.model.object import Kind
from daemon.model.snapshot import Snapshot
from daemon.reconcile import keeping
from daemon.reconcile.applier import Applier
from daemon.reconcile.status import State
from daemon.reconcile.tables import EP, endpoints_by_slot
from tests.reconcile.conftest import Broken, FakeHost, domain, endpoint, zone

WEB1, WEB2 = "acme/shop/web-1", "acme/shop/web-2"


def test_an_endpoint_is_made_programmed_and_only_then_opened() -> None:
    host = FakeHost()
    outcome = Applier(host, "n1").apply(zone(endpoint("web-1", 5)))
    assert outcome.exceptions == ()
    assert outcome.revision == 1
    assert host.devices[WEB1].up
    assert endpoints_by_slot(host.tables) == {5: 5}
    assert outcome.facts[5].ifindex == host.devices[WEB1].ifindex
    assert host.settled == 1


def test_nothing_is_touched_while_the_node_is_unknown() -> None:
    host = FakeHost()
    Applier(host, "n1").apply(zone(endpoint("web-1", 5)))
    before, rows = dict(host.devices), {t: dict(r) for t, r in host.tables.items()}
    outcome = Applier(host, "n1").apply(Snapshot(9))
    assert outcome.unknown
    assert (host.devices, host.tables) == (before, rows)


def test_the_same_state_again_writes_nothing() -> None:
    host = FakeHost()
    applier = Applier(host, "n1")
    applier.apply(zone(endpoint("web-1", 5)))
    written, configured = host.written, list(host.configured)
    applier.apply(zone(endpoint("web-1", 5), revision=2))
    assert host.written == written
    assert host.configured == configured


def test_a_restart_recognises_everything_and_writes_nothing() -> None:
    host = FakeHost()
    snapshot = zone(endpoint("web-1", 5), endpoint("web-2", 6))
    Applier(host, "n1").apply(snapshot)
    written, devices = host.written, dict(host.devices)
    host.forgotten.clear()
    outcome = Applier(host, "n1").apply(snapshot)
    assert host.written == written
    assert host.devices == devices
    assert host.forgotten == []
    assert outcome.freed == ()


def test_a_removed_endpoint_is_closed_deleted_and_its_flows_purged() -> None:
    host = FakeHost()
    applier = Applier(host, "n1")
    applier.apply(zone(endpoint("web-1", 5), endpoint("web-2", 6)))
    outcome = applier.apply(zone(endpoint("web-2", 6), revision=2))
    assert WEB1 not in host.devices
    assert outcome.freed == (5,)
    assert endpoints_by_slot(host.tables) == {6: 6}
    assert host.namespaces == {"plum-acme-shop-web-2"}


def test_a_removal_while_plumd_was_down_is_found() -> None:
    host = FakeHost()
    Applier(host, "n1").apply(zone(endpoint("web-1", 5), endpoint("web-2", 6)))
    outcome = Applier(host, "n1").apply(zone(endpoint("web-2", 6), revision=2))
    assert set(host.devices) == {WEB2}
    assert outcome.freed == (5,)


def test_a_slots_counters_start_at_zero_for_a_new_owner() -> None:
    host = FakeHost()
    applier = Applier(host, "n1")
    applier.apply(zone(endpoint("web-1", 5, slot=0)))
    host.forgotten.clear()
    applier.apply(zone(endpoint("web-2", 6, slot=0), revision=2))
    assert host.forgotten == [0]
    assert endpoints_by_slot(host.tables) == {0: 6}


def test_an_endpoint_made_anew_under_its_name_gets_a_new_device() -> None:
    host = FakeHost()
    applier = Applier(host, "n1")
    applier.apply(zone(endpoint("web-1", 5)))
    old = host.devices[WEB1]
    applier.apply(zone(endpoint("web-1", 7), revision=2))
    assert host.devices[WEB1].name != old.name


@pytest.mark.parametrize("change", [{"attach": {"device": "net0"}}, {"attach": {"namespace": "x"}}])
def test_another_inside_gets_a_new_device(change: dict[str, object]) -> None:
    host = FakeHost()
    applier = Applier(host, "n1")
    applier.apply(zone(endpoint("web-1", 5)))
    old = host.devices[WEB1]
    applier.apply(zone(endpoint("web-1", 5, **change), revision=2))
    assert host.devices[WEB1].ifindex != old.ifindex
    assert host.devices[WEB1].up


def test_trouble_with_one_endpoint_leaves_the_others_alone() -> None:
    host = FakeHost(refuse={WEB1: "namespace is full"})
    host.refuse_open["acme/shop/web-3"] = "no inside"
    outcome = Applier(host, "n1").apply(
        zone(endpoint("web-1", 5), endpoint("web-2", 6), endpoint("web-3", 7))
    )
    assert host.devices[WEB2].up
    assert {(e.path, e.reason) for e in outcome.exceptions} == {
        (WEB1, "namespace is full"),
        ("acme/shop/web-3", "no inside"),
    }
    assert 5 not in endpoints_by_slot(host.tables)


def test_a_tap_that_comes_later_is_pending_until_then() -> None:
    host = FakeHost()
    applier = Applier(host, "n1")
    snapshot = zone(endpoint("web-1", 5, attach={"kind": "tap", "device": "tap7"}))
    (exception,) = applier.apply(snapshot).exceptions
    assert (exception.state, exception.path) == (State.PENDING, WEB1)
    host.taps["tap7"] = 77
    assert applier.apply(snapshot).exceptions == ()
    assert host.devices[WEB1].up


def test_two_endpoints_that_claim_one_device_are_told_apart() -> None:
    attach = {"kind": "tap", "device": "tap7"}
    host = FakeHost(taps={"tap7": 77})
    outcome = Applier(host, "n1").apply(
        zone(endpoint("web-1", 5, attach=attach), endpoint("web-2", 6, attach=attach))
    )
    (exception,) = outcome.exceptions
    assert exception.path == WEB2
    assert WEB1 in exception.reason


def test_a_missing_underlay_is_the_nodes_trouble_only() -> None:
    host = FakeHost(underlay_ifindex=0)
    outcome = Applier(host, "n1").apply(zone(endpoint("web-1", 5)))
    assert [(e.kind, e.path) for e in outcome.exceptions] == [(Kind.NODE, "n1")]
    assert host.devices[WEB1].up


def refuse(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Let the compiler refuse a domain, whatever it says."""
    real = keeping.compile_node

    def compile_node(snapshot, node, devices, runtime, cache, *rest):  # type: ignore[no-untyped-def]
        bad = snapshot.domains[path].spec.description == "bad"
        if bad:
            domains = {p: d for p, d in snapshot.domains.items() if p != path}
            compiled = real(replace(snapshot, domains=domains), node, devices, runtime, None)
            compiled.errors[path] = CompileError(path, "too big", "make it smaller")
            return compiled
        return real(snapshot, node, devices, runtime, cache, *rest)

    monkeypatch.setattr(keeping, "compile_node", compile_node)


def test_a_domain_that_does_not_compile_goes_on_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, "acme/shop")
    host = FakeHost()
    applier = Applier(host, "n1")
    good, other = domain(), domain("lab", 2)
    both = (good, other)
    applier.apply(zone(endpoint("web-1", 5), endpoint("web-2", 6), domains=both))
    rows = {t: dict(r) for t, r in host.tables.items()}
    bad = domain(description="bad")
    lab = endpoint("x", 9, owner="lab")
    outcome = applier.apply(
        zone(endpoint("web-1", 5), endpoint("web-2", 6), lab, revision=2, domains=(bad, other))
    )
    for table, kept in rows.items():
        if table != "plum_flood":
            assert kept.items() <= host.tables[table].items(), table
    assert host.devices["acme/lab/x"].up
    assert {(e.kind, e.path) for e in outcome.exceptions} == {
        (Kind.DOMAIN, "acme/shop"),
        (Kind.ENDPOINT, WEB1),
        (Kind.ENDPOINT, WEB2),
    }
    # What is deleted meanwhile is gone all the same.
    applier.apply(zone(endpoint("web-2", 6), revision=3, domains=(bad, other)))
    assert endpoints_by_slot(host.tables) == {6: 6}
    # And a daemon that never saw it work opens nothing of it.
    fresh = FakeHost()
    Applier(fresh, "n1").apply(zone(endpoint("web-1", 5), domains=(bad, other)))
    assert fresh.tables[EP] == {}
    assert not fresh.devices[WEB1].up


def test_a_full_map_is_an_error_and_the_next_cycle_goes_on() -> None:
    host = FakeHost(full="plum_host")
    applier = Applier(host, "n1")
    with pytest.raises(Broken, match="plum_host is full"):
        applier.apply(zone(endpoint("web-1", 5)))
    assert host.tables[EP] == {}
    host.full = ""
    assert applier.apply(zone(endpoint("web-1", 5))).exceptions == ()
    assert host.devices[WEB1].up


STATES = [
    zone(revision=1),
    zone(endpoint("web-1", 5), revision=2),
    zone(endpoint("web-1", 5), endpoint("web-2", 6), revision=3),
    zone(endpoint("web-2", 7, slot=5), endpoint("web-3", 8, slot=6), revision=4),
    zone(endpoint("web-1", 5, attach={"device": "net0"}), revision=5),
    zone(endpoint("web-1", 5, node="n2"), endpoint("web-2", 6), revision=6),
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(STATES) - 1),  # which state comes
            st.one_of(st.none(), st.integers(1, 60)),  # the call that fails
            st.booleans(),  # and whether the daemon dies of it
        ),
        min_size=1,
        max_size=6,
    )
)
def test_failures_and_restarts_anywhere_end_in_the_desired_state(
    story: list[tuple[int, int | None, bool]],
) -> None:
    host = FakeHost()  # asserts, at every call, that nothing is open too early
    applier = Applier(host, "n1")
    for number, failure, dies in story:
        host.calls, host.fail_at = 0, failure
        try:
            applier.apply(STATES[number])
        except Broken:
            if dies:
                applier = Applier(host, "n1")
    host.fail_at = None
    last = STATES[story[-1][0]]
    applier.apply(last)
    fresh = FakeHost()
    Applier(fresh, "n1").apply(last)
    assert {p: (d.name, d.up) for p, d in host.devices.items()} == {
        p: (d.name, d.up) for p, d in fresh.devices.items()
    }
    assert endpoints_by_slot(host.tables) == endpoints_by_slot(fresh.tables)
    assert {t: len(r) for t, r in host.tables.items()} == {
        t: len(r) for t, r in fresh.tables.items()
    }
    assert host.namespaces == fresh.namespaces
    assert applier.verify() == []


def test_verification_finds_and_the_next_cycle_repairs() -> None:
    host = FakeHost()
    applier = Applier(host, "n1")
    snapshot = zone(endpoint("web-1", 5), endpoint("web-2", 6))
    applier.apply(snapshot)
    rows = {t: dict(r) for t, r in host.tables.items()}
    assert applier.verify() == []

    key = next(iter(host.tables["plum_host"]))
    host.tables["plum_host"][key] = bytes(40)
    host.tables["plum_mac"].clear()
    host.tables["plum_vtep"][b"foreign-key-here"] = b"xxxx"
    host.devices[WEB1] = replace(host.devices[WEB1], guarded=False)
    host.devices[WEB2] = replace(host.devices[WEB2], up=False)
    host.underlay_guarded = False
    wrong = applier.verify()
    assert any("plum_host: 1 rows changed" in line for line in wrong)
    assert any("plum_mac: 2 rows missing" in line for line in wrong)
    assert any("plum_vtep: 1 rows not ours" in line for line in wrong)
    assert any("filter" in line and WEB1 in line for line in wrong)
    assert any("down" in line and WEB2 in line for line in wrong)
    assert any("underlay" in line for line in wrong)
    applier.apply(snapshot)
    assert host.tables == rows
    assert all(device.up and device.guarded for device in host.devices.values())
    assert applier.verify() == []


def test_only_devices_that_were_heard_of_are_looked_at() -> None:
    host = FakeHost()
    applier = Applier(host, "n1")
    snapshot = zone(endpoint("web-1", 5), endpoint("web-2", 6))
    applier.apply(snapshot)
    index = host.devices[WEB1].ifindex
    host.devices[WEB1] = replace(host.devices[WEB1], guarded=False)
    del host.devices[WEB2]
    host.underlay_guarded = False
    assert applier.verify(devices=()) == []
    (line,) = applier.verify(devices=[index])
    assert "filter" in line and WEB1 in line
    (line,) = applier.verify(devices=[host.underlay_ifindex])
    assert "underlay" in line
    (line,) = [line for line in applier.verify() if WEB2 in line]
    assert "gone" in line
    applier.apply(snapshot)
    assert applier.verify() == []


def test_an_older_build_hands_over_between_new_rows_and_the_end_of_the_old() -> None:
    host = FakeHost()
    old = domain(policies=[{"name": "p", "ingress": [{"name": "a", "protocol": "tcp"}]}])
    Applier(host, "n1").apply(zone(endpoint("web-1", 5), domains=(old,)))
    device = host.devices[WEB1]
    host.devices[WEB1] = replace(device, outdated=True)
    host.needed = {t: dict(host.tables[t]) for t in ("plum_verdict", "plum_span")}
    assert all(host.needed.values())
    applier = Applier(host, "n1")
    applier.apply(zone(endpoint("web-1", 5)))
    assert host.switched == [device.ifindex]
    assert not host.tables["plum_verdict"]
    assert (host.settled, applier.verify()) == (2, [])


def test_a_deleted_device_is_made_again() -> None:
    host = FakeHost()
    applier = Applier(host, "n1")
    snapshot = zone(endpoint("web-1", 5))
    applier.apply(snapshot)
    del host.devices[WEB1]
    (line,) = applier.verify()
    assert WEB1 in line
    applier.apply(snapshot)
    assert host.devices[WEB1].up
    assert len(host.tables[EP]) == 1
