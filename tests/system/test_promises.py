"""Daemons die, stores go, policies change: what flows and what does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import loadtool
from bench.loadtool import Ends, Held, Steady
from daemon.abi import Drop, DropKey, DropStat, Flow, Flow4Key, Index
from daemon.abi import Path as PathRow
from daemon.datapath.maps import Map
from plumctl.errors import PlumError
from tests.system.zone import Document, Guest, Zone, domain, echoed, endpoint, tenant, until

TENANT = "t-sys-prom"
FLOW = f"{TENANT}/flow"
OPEN, REVOKED, SHUT = 5201, 5202, 5299


def rule(name: str, port: int) -> list[Document]:
    return [
        {"name": f"{name}-{protocol}", "protocol": protocol, "ports": [port]}
        for protocol in ("tcp", "udp")
    ]


def topology(*rules: list[Document]) -> list[Document]:
    bridges = [
        {"name": name, "subnets": [f"10.7.{n}.0/24", f"fd07:{n}::/64"]}
        for n, name in enumerate(("left", "right"), 1)
    ]
    interfaces = [
        {"bridge": name, "addresses": [f"10.7.{n}.1/24", f"fd07:{n}::1/64"]}
        for n, name in enumerate(("left", "right"), 1)
    ]
    policies = [{"name": "in", "ingress": [one for pair in rules for one in pair]}]
    spec = {"default": {}, "policies": policies}
    routers = [{"name": "gw", "interfaces": interfaces}]
    return [tenant(TENANT), domain(TENANT, "flow", bridges, routers=routers, **spec)]


FULL = (rule("open", OPEN), rule("revoked", REVOKED))


@pytest.fixture(scope="module")
def ends(zone_of_three: Zone) -> Iterator[tuple[Guest, Guest]]:
    zone_of_three.apply(
        [
            *topology(*FULL),
            endpoint(f"{FLOW}/client", "left", "n1", "10.7.1.11", "fd07:1::11"),
            endpoint(f"{FLOW}/server", "right", "n2", "10.7.2.11", "fd07:2::11"),
        ]
    )
    guests = zone_of_three.guests(TENANT)
    yield guests["flow/client"], guests["flow/server"]
    zone_of_three.drop_tenant(TENANT)


@contextmanager
def traffic(client: Guest, server: Guest, seconds: float, family: int = 4) -> Iterator[None]:
    """1,000 numbered datagrams a second and 100 connections; none may suffer.

    Whoever is inside must be done before it ends.
    """
    between = Ends(client.namespace, server.namespace, server.ip(family))
    with (
        loadtool.running("steady", between, seconds, rate=1000, port=OPEN, timeout_ms=500) as flow,
        loadtool.running(
            "hold", between, seconds, connections=100, port=OPEN, timeout_ms=2000
        ) as held,
    ):
        yield
        assert flow._process.poll() is None, "the traffic ended too early to prove anything"
        steady, connections = flow.result(Steady), held.result(Held)
    assert (steady.lost, steady.duplicated) == (0, 0), steady
    assert (connections.opened, connections.broken) == (100, 0), connections


class Kernel:
    """What a node's maps hold, whether or not anybody runs there."""

    def __init__(self, zone: Zone, node: str) -> None:
        self._pins = zone.layout.node_pin_dir(node)

    def map(self, name: str) -> Map:
        return Map.pinned(self._pins / name)

    def dropped(self, reason: Drop) -> int:
        rows = self.map("plum_drop").dump()
        return sum(
            DropStat.unpack(value).packets
            for key, value in rows.items()
            if DropKey.unpack(key).reason == reason
        )

    def flows(self) -> dict[bytes, tuple[int, int]]:
        """When each flow was made, and under which epoch it was judged."""
        rows = self.map("plum_flow4").dump()
        return {
            key: (flow.created, flow.epoch)
            for key, value in rows.items()
            if OPEN in (Flow4Key.unpack(key).sport, Flow4Key.unpack(key).dport)
            and (flow := Flow.unpack(value))
        }


def refuses(client: Guest, server: Guest, kernel: Kernel) -> None:
    """A new connection that no rule allows is dropped, says the kernel itself."""
    before = kernel.dropped(Drop.POLICY_INGRESS)
    with server.listen(SHUT), pytest.raises(TimeoutError):
        client.connect(server.ip(), SHUT, timeout_s=0.2)
    assert kernel.dropped(Drop.POLICY_INGRESS) > before


def test_death_and_restart_of_every_daemon_disturb_nothing(
    plum: Zone, ends: tuple[Guest, Guest]
) -> None:
    client, server = ends
    kernels = {node: Kernel(plum, node) for node in ("n1", "n2")}
    with traffic(client, server, 6):
        flows = {node: kernel.flows() for node, kernel in kernels.items()}
        epochs = {node: kernel.map("plum_epoch").dump() for node, kernel in kernels.items()}
        hits = plum.hits(FLOW, "open-tcp"), plum.hits(FLOW, "open-udp")
        assert all(len(found) >= 2 * 101 for found in flows.values())
        plum.kill()
        echoed(client, server, REVOKED)  # a new flow that is allowed
        refuses(client, server, kernels["n2"])
        plum.start()
        for node, kernel in kernels.items():
            now = kernel.flows()
            assert {key: now.get(key) for key in flows[node]} == flows[node]
            assert kernel.map("plum_epoch").dump() == epochs[node]
        assert (plum.hits(FLOW, "open-tcp"), plum.hits(FLOW, "open-udp")) == hits
        assert not [plum.repairs(node) for node in plum.nodes if plum.repairs(node)]


@pytest.mark.parametrize("family", [4, 6])
def test_long_death_is_survived_by_asking_the_kernel_for_next_hops(
    plum: Zone, ends: tuple[Guest, Guest], family: int
) -> None:
    """Next hops that nobody refreshed for ten seconds are no more trusted."""
    client, server = ends
    with traffic(client, server, 4, family):
        plum.kill()
        for node in plum.nodes:
            table = Kernel(plum, node).map("plum_path")
            for key, value in table.dump().items():
                table.update(key, PathRow.unpack(value)._replace(refreshed=0).pack())
        echoed(client, server, REVOKED, family)
        plum.start()


def test_start_with_the_store_gone_keeps_the_last_state(
    plum: Zone, ends: tuple[Guest, Guest]
) -> None:
    """An empty store, and one that cannot be opened, are no order to delete."""
    client, server = ends
    folder = plum.layout.store_dir
    files = [path for path in folder.iterdir() if path.name.startswith("store.db")]
    kernel = Kernel(plum, "n2")
    with traffic(client, server, 9):
        plum.kill()
        for path in files:
            path.rename(path.with_name("away-" + path.name))
        try:
            plum.launch()  # makes a store of its own, which is empty
            for node in plum.nodes:
                until(lambda node=node: "has no node" in reason(plum, node), 10)
            refuses(client, server, kernel)
            plum.kill()
            for path in folder.glob("store.db*"):
                path.unlink()
            (folder / "store.db").mkdir()
            plum.launch("n1")
            until(lambda: "plumd cannot run" in plum.log("n1"), 10)
            echoed(client, server, REVOKED)
            refuses(client, server, kernel)
            (folder / "store.db").rmdir()
        finally:
            for path in files:
                os.replace(path.with_name("away-" + path.name), path)
        plum.start()
        echoed(client, server, REVOKED)
    assert plum.view(f"{FLOW}/server").state == "programmed"


def reason(zone: Zone, node: str) -> str:
    """Why the node's daemon is not ready, when it answers."""
    try:
        return zone.client(node).status().reason
    except PlumError:
        return ""


@pytest.mark.parametrize("family", [4, 6])
def test_revoked_access_dies_at_once_and_nothing_else_notices(
    plum: Zone, ends: tuple[Guest, Guest], family: int
) -> None:
    client, server = ends
    try:
        with (
            traffic(client, server, 3, family),
            server.udp(REVOKED, family) as there,
            client.udp(0, family) as here,
            server.listen(REVOKED, family) as listener,
            client.connect(server.ip(family), REVOKED) as mine,
            listener.accept()[0] as theirs,
        ):
            here.sendto(b"before", (server.ip(family), REVOKED))
            assert there.recv(10) == b"before"
            mine.sendall(b"before")
            assert theirs.recv(10) == b"before"
            plum.apply(topology(rule("open", OPEN)))
            with plum.drops("POLICY_INGRESS", server.path, 2):
                here.sendto(b"after", (server.ip(family), REVOKED))
                mine.sendall(b"after")
            for opened in (there, theirs):
                opened.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    opened.recv(10)
            plum.apply(topology(*FULL))  # given back: the connection goes on
            theirs.settimeout(5)
            assert theirs.recv(10) == b"after"
    finally:
        plum.apply(topology(*FULL))


def test_slots_of_the_dead_are_not_inherited(plum: Zone, ends: tuple[Guest, Guest]) -> None:
    """A new endpoint in an old one's slot has neither its flows nor its counters."""
    client, _ = ends
    path = f"{FLOW}/next"
    seen = []
    for _ in range(2):
        plum.apply([endpoint(path, "right", "n2", "10.7.2.77", "fd07:2::77")])
        guest = plum.guest(path)
        counters = plum.client().counters("n2").endpoints
        row = next(row for row in counters if row["path"] == path)
        assert (row["rx_packets"], row["flows"]) == (0, 0)
        echoed(client, guest, OPEN)
        seen.append(plum.view(path).allocated["slot"])
        plum.delete(("endpoint", path))
    assert seen[0] == seen[1]
    epochs = Kernel(plum, "n2").map("plum_epoch").dump()
    assert Index(seen[0]).pack() not in epochs


def test_a_restore_cuts_no_flow_and_changes_no_verdict(
    plum: Zone, ends: tuple[Guest, Guest]
) -> None:
    client, server = ends
    one = plum.client()
    backup = one.backup()
    with traffic(client, server, 8):
        later = endpoint(f"{FLOW}/later", "left", "n1", "10.7.1.99")
        plum.apply([*topology(rule("open", OPEN)), later])
        restored = one.restore(backup, replace=True, other_zone=False)
        assert restored.written and restored.deleted
        plum.wait(restored.revision)
        assert [view.name for view in one.list("endpoint", TENANT).items] == ["client", "server"]
        echoed(client, server, REVOKED)  # allowed again
