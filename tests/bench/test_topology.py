"""The contenders, for real: needs root and network namespaces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from bench import loadtool
from bench.loadtool import Ends, Held, Steady
from bench.netns import CommandFailed, existing, inside, ip, namespaces, remove_abandoned, run
from bench.topology import (
    VETH,
    Contender,
    ContenderFailed,
    bare_veth,
    bridge_vxlan_nft,
    linux_contenders,
    stateful_rules,
    up,
)

PREFIX = f"benchtest{os.getpid()}"
NEW_UDP = ["ct", "state", "new", "udp", "dport", "5201", "counter"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_SYS_ADMIN and CAP_NET_ADMIN")


def ours() -> set[str]:
    return {name for name in existing() if name.startswith(PREFIX)}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("contender", linux_contenders(), ids=lambda one: one.name)
def test_a_contender_forwards_enforces_and_leaves_nothing(
    contender: Contender, version: int
) -> None:
    with up(contender, PREFIX, version) as ends:
        sent = loadtool.udp(ends, 0.05)
        assert sent.received > 0
        assert loadtool.round_trips(ends, 0.05).failures == 0
        opened = loadtool.connections(ends, 0.05)
        assert opened.transactions > 0
        assert opened.failures == 0
        refused = loadtool.probe(ends, "tcp", 7999, seconds=0.1)
        assert refused.through is not contender.enforces
    assert not ours()


def test_a_contender_that_enforces_nothing_is_found_out() -> None:
    open_wide = replace(VETH, name="open", enforces=True)
    with (
        pytest.raises(ContenderFailed, match="tcp port 7999 is let through"),
        up(open_wide, PREFIX),
    ):
        pytest.fail("it came up")
    assert not ours()


def test_a_contender_that_forwards_nothing_is_found_out() -> None:
    @contextmanager
    def cut(prefix: str, version: int) -> Iterator[Ends]:
        with bare_veth(prefix, version) as ends:
            ip(ends.server_netns, "link set eth0 down")
            yield ends

    with (
        pytest.raises(ContenderFailed, match="tcp port 5201 is not reached"),
        up(Contender("cut", cut, False), PREFIX),
    ):
        pytest.fail("it came up")
    assert not ours()


def test_an_established_flow_does_not_walk_the_rules() -> None:
    with up(bridge_vxlan_nft(20), PREFIX) as ends:
        node = ends.client_netns.removesuffix("-c") + "-a"
        # Of some thousand packets all but the primers are of a known connection.
        inside(node, ["nft", "insert", "rule", "inet", "bench", "forward", *NEW_UDP])
        sent = loadtool.udp(ends, 0.05)
        listing = inside(node, ["nft", "list", "chain", "inet", "bench", "forward"])
    new = int(listing.split("counter packets ")[1].split()[0])
    assert sent.received > 1000
    assert 1 <= new <= 3


def test_rules_are_as_many_as_asked() -> None:
    assert stateful_rules(5).count("dport") == 5
    assert stateful_rules(1000).count("dport") == 1000


def test_namespaces_go_when_set_up_fails_half_way() -> None:
    with pytest.raises(CommandFailed, match="noSuchDevice"), namespaces(f"{PREFIX}-x"):
        ip(f"{PREFIX}-x", "link set noSuchDevice up")
    assert not ours()


def test_a_killed_run_is_cleaned_up_by_the_next_but_a_live_one_is_left_alone() -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    abandoned, live = f"bench{dead.pid}-x", f"bench{os.getpid()}-x"
    run(["ip", "netns", "add", abandoned])
    with namespaces(live):
        assert abandoned in remove_abandoned()
        assert live in existing()
    assert abandoned not in existing()


def test_steady_flow_reports_what_an_outage_lost() -> None:
    with up(VETH, PREFIX) as ends:
        with loadtool.running("steady", ends, 1, rate=1000, timeout_ms=200) as flow:
            whole = flow.result(Steady)
        with loadtool.running("steady", ends, 1, rate=1000, timeout_ms=200) as flow:
            ip(ends.client_netns, "link set eth0 down")
            ip(ends.client_netns, "link set eth0 up")
            cut = flow.result(Steady)
    assert (whole.sent, whole.lost) == (1000, 0)
    assert cut.sent == 1000
    assert cut.lost > 0
    assert cut.received + cut.lost == cut.sent
    assert 0 < cut.longest_run_lost <= cut.lost


def test_held_connections_are_whole_or_named_broken() -> None:
    with up(VETH, PREFIX) as ends:
        options = {"connections": 50, "interval_ms": 50, "timeout_ms": 300}
        with loadtool.running("hold", ends, 0.5, **options) as calm:
            whole = calm.result(Held)
        with loadtool.running("hold", ends, 1, **options) as cut_off:
            ip(ends.server_netns, "link set eth0 down")
            broken = cut_off.result(Held)
    assert (whole.opened, whole.broken) == (50, 0)
    assert whole.exchanges >= 50 * 5
    assert (broken.opened, broken.broken) == (50, 50)
