"""A zone founded on a real etcd of three members with TLS, and joined by tokens."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from daemon.model.derive import default_namespace
from daemon.trust.certificate import fingerprint, new_key
from daemon.trust.contexts import client_context
from daemon.trust.folder import TrustFolder
from daemon.zone.keys import leader_key
from plumctl.errors import PlumError
from plumctl.run import run
from plumctl.sandbox import fabric, process
from tests.system.steady import steady
from tests.system.zone import Document, Guest, domain, endpoint, tenant
from tests.trust.world import NODES, ROOT, World, make, until

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(180)]

NAME = "t-etrust"
SHOP = f"{NAME}/shop"
ADDRESSES = {"n1": "10.7.1.11", "n2": "10.7.1.12", "n3": "10.7.1.13"}


@pytest.fixture(scope="module")
def zone() -> Iterator[World]:
    """With an endpoint on each node."""
    for world in make(NAME, "etcd"):
        bridges = [{"name": "lan", "subnets": ["10.7.1.0/24"]}]
        documents = [
            tenant(NAME),
            domain(NAME, "shop", bridges),
            *(endpoint(f"{SHOP}/on-{n}", "lan", n, address) for n, address in ADDRESSES.items()),
        ]
        waited = world.client().wait(world.client().apply(documents).revision, 30)
        assert waited.done, waited.missing
        yield world


@pytest.fixture
def newcomer(zone: World) -> Iterator[str]:
    """A machine that is in no zone, nor is it afterwards."""
    node = "n4"
    yield node
    zone.kill(node)
    shutil.rmtree(zone.folder(node).path, ignore_errors=True)
    if node in lives(zone):
        zone.client().remove_node(node)


def guest(node: str) -> Guest:
    return Guest(
        f"{SHOP}/on-{node}",
        default_namespace(NAME, "shop", f"on-{node}"),
        addresses=(ADDRESSES[node],),
    )


def read(zone: World, key: str) -> tuple[dict[str, str], int] | None:
    """Value and mod_revision, read where the members can be reached."""
    command = [sys.executable, "-m", "tests.trust.peek", zone.store, key]
    command = fabric.enter(zone.layout.namespace("n1"), command)
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    found = json.loads(said)
    return (json.loads(found[0]), found[1]) if found else None


def lives(zone: World) -> dict[str, str]:
    items = zone.client("n3").list("node").items
    return {view.name: (view.document.get("liveness") or {}).get("state", "") for view in items}


def signal_to(pid: int, number: signal.Signals) -> None:
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def ended(pid: int) -> None:
    handle = os.pidfd_open(pid)
    try:
        assert select.select([handle], [], [], 10)[0]
    finally:
        os.close(handle)


def test_who_joins_is_told_of_the_etcd_and_all_live_in_it(zone: World) -> None:
    for node in NODES:
        assert zone.folder(node).read().membership.store == zone.store
    until(lambda: lives(zone) == dict.fromkeys(NODES, "alive"), 30)
    with steady(guest("n1"), guest("n3")) as traffic:
        until(lambda: traffic.connection_echoes >= 10)
    traffic.check()


def test_what_these_tests_call_steady_notices_a_loss(zone: World) -> None:
    switch = zone.layout.fabric
    with steady(guest("n1"), guest("n3")) as traffic:
        run(*fabric.enter(switch, ["ip", "link", "set", "n3", "down"]))
        sent = traffic.sent
        until(lambda: traffic.sent > sent + 10)
        run(*fabric.enter(switch, ["ip", "link", "set", "n3", "up"]))
        echoes = traffic.connection_echoes
        until(lambda: traffic.connection_echoes > echoes)
    with pytest.raises(AssertionError, match="lost"):
        traffic.check()
    until(lambda: lives(zone) == dict.fromkeys(NODES, "alive"), 30)


def test_the_loss_of_a_member_stops_nothing(zone: World, newcomer: str) -> None:
    signal_to(pid := zone.pid("n1.etcd"), signal.SIGKILL)
    ended(pid)
    try:
        extra = endpoint(f"{SHOP}/extra", "lan", "n3")
        applied = until(lambda: _applied(zone, extra), 30)
        waited = zone.client("n2").wait(applied, 30)
        assert waited.done, waited.missing
        # Who joins now comes in as well, past the member that the URL names first.
        zone.let_in(newcomer, zone.invite(newcomer, vtep=zone.address(newcomer)))
        zone.start(newcomer)
    finally:
        zone.start_members("n1")
    zone.client().delete([("endpoint", f"{SHOP}/extra")])


def _applied(zone: World, document: Document) -> int:
    try:
        return zone.client("n2").apply([document]).revision
    except PlumError:  # an election: it may not have happened, and repeating is harmless
        return 0


def test_an_etcd_of_another_zone_is_refused_before_anything_is_touched(
    zone: World, newcomer: str, tmp_path: Path
) -> None:
    vtep = ("--node", newcomer, "--vtep", zone.address(newcomer))
    taken = zone.plumctl(newcomer, "zone", "init", *vtep, "--store", zone.store)
    assert taken.code != 0
    assert "the store is of zone" in taken.err
    assert not zone.folder(newcomer).exists()
    own = zone.plumctl(newcomer, "zone", "init", *vtep, "--store", f"sqlite://{tmp_path}/own.db")
    assert own.code == 0, own
    process.start_plumd(zone.layout, newcomer, zone.store)
    until(lambda: "the store is of zone" in zone.log(newcomer))
    until(lambda: newcomer not in {one.node for one in process.processes(zone.layout)})
    assert newcomer not in lives(zone)


def test_all_directors_lost_changes_stop_and_nothing_that_is_forwarded_is_lost(
    zone: World, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(zone.token)
    token.chmod(0o600)
    asks = {"PLUM_TOKEN_FILE": str(token)}
    with steady(guest("n1"), guest("n3")) as traffic, steady(guest("n2"), guest("n1")) as other:
        zone.kill("n1")
        zone.kill("n2")
        refused = zone.plumctl("n3", "node", "cordon", "n3", **asks)
        assert refused.code != 0
        assert "n1" in refused.err and "n2" in refused.err, refused
        assert zone.client("n3").status().ready  # who is no director goes on
        sent = traffic.sent
        until(lambda: traffic.sent > sent + 200)
        zone.start("n1", "n2")
        sent = traffic.sent
        until(lambda: traffic.sent > sent + 50)
        done = zone.plumctl("n3", "node", "cordon", "n3", **asks)
        assert done.code == 0, done
    traffic.check(200)
    other.check(200)
    zone.client().cordon("n3", cordoned=False)


def test_a_leader_that_slept_past_its_lease_leads_no_more(zone: World) -> None:
    leader = until(lambda: _leading(zone), 30)
    other = ({"n1", "n2"} - {leader}).pop()
    with steady(guest(leader), guest("n3")) as traffic:
        signal_to(pid := zone.pid(leader), signal.SIGSTOP)
        try:
            until(lambda: _leads(zone) == other, 40)
            until(lambda: lives(zone)[leader] == "suspect", 40)
        finally:
            signal_to(pid, signal.SIGCONT)
        until(lambda: lives(zone) == dict.fromkeys(NODES, "alive"), 60)
    traffic.check()
    assert _leads(zone) == other
    assert zone.pid(leader) == pid
    assert "not leading" in zone.log(leader).rpartition('"leading"')[2]


def _leading(zone: World) -> str:
    """The director whose process leads; its name may stand there from an earlier one's lease."""
    leader = _leads(zone)
    lived = zone.log(leader).rpartition('"plumd started"')[2] if leader else ""
    return leader if '"leading"' in lived.rpartition('"not leading"')[2] else ""


def _leads(zone: World) -> str:
    found = read(zone, leader_key("liveness"))
    return found[0]["node"] if found else ""


# Certificates that end


def test_an_edge_whose_certificate_ran_out_is_told_so_and_forwards(zone: World) -> None:
    with steady(guest("n1"), guest("n3")) as traffic:
        zone.kill("n3")
        trust, authority = zone.folder("n3").read(), zone.folder("n1").read().authority
        assert authority is not None
        key, now = new_key(), time.time()
        short = authority.issue(
            key.public_key(), zone.zone_id, "n3", ip_address(zone.address("n3")), now, life_s=1
        )
        zone.folder("n3").replace_certificate(key, short, trust.authorities[-1])
        until(lambda: time.time() > short.not_valid_after_utc.timestamp())
        process.start_plumd(zone.layout, "n3", zone.store)
        until(lambda: "certificate of n3 expired at" in zone.log("n3"))
        assert "plumctl node token n3 --again" in zone.log("n3")
        # Who asks it through another node is told as well; its own plumctl goes on.
        refused = zone.plumctl("n1", "--node", "n3", "status")
        assert refused.code != 0
        assert "expired" in refused.err
        assert zone.client("n3").status().ready
        joined = zone.join("n3", zone.invite("n3", again=True), "--again")
        assert joined.code == 0, joined
        zone.kill("n3")
        zone.start("n3")
        assert zone.plumctl("n1", "--node", "n3", "status").code == 0
    traffic.check(50)


# Another authority


@contextmanager
def asking(zone: World) -> Iterator[list[str]]:
    """Each node is asked by another one over TLS, without pause; what failed."""
    failed: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.05):
            for source, to in (("n1", "n3"), ("n3", "n2"), ("n2", "n1")):
                try:
                    said = zone.client(source).counters(to).unreachable.get(to)
                except PlumError as error:
                    said = error.message
                if said:
                    failed.append(f"{source} asked {to}: {said}")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield failed
    finally:
        over.set()
        thread.join()


def authorities(zone: World, node: str) -> list[str]:
    return [fingerprint(item) for item in zone.folder(node).read().authorities]


def test_the_authority_is_replaced_and_nobody_notices(
    zone: World, newcomer: str, tmp_path: Path
) -> None:
    (old,) = authorities(zone, "n3")
    shutil.copytree(zone.folder("n3").path, tmp_path / "of-before")
    invited = zone.invite(newcomer, vtep=zone.address(newcomer))
    too_late = zone.invite("n5")
    zone.kill("n3")
    begun = zone.plumctl("n2", "zone", "rotate-ca", "--timeout", "4")
    assert begun.code == 7, begun
    assert "n3" in begun.err
    assert "n3" in zone.plumctl("n1", "zone", "show").out
    assert zone.plumctl("n1", "zone", "rotate-ca", "--finish", "--yes").code == 6
    zone.start("n3")
    with asking(zone) as failed, steady(guest("n1"), guest("n3")) as traffic:
        followed = zone.plumctl("n1", "zone", "rotate-ca", "--timeout", "60")
        assert followed.code == 0, followed
        assert all(len(authorities(zone, node)) == 2 for node in NODES)
        zone.let_in(newcomer, invited)  # its token names the old one
        zone.client().remove_node(newcomer)
        shutil.rmtree(zone.folder(newcomer).path)
        finished = zone.plumctl("n2", "zone", "rotate-ca", "--finish", "--yes")
        assert finished.code == 0, finished
        (new,) = authorities(zone, "n1")
        assert new != old
        assert [authorities(zone, node) for node in NODES] == [[new]] * 3
    assert not failed, failed[:5]
    traffic.check()
    assert zone.folder("n1").read().authority and zone.folder("n2").read().authority
    with pytest.raises((ssl.SSLError, ConnectionError)):
        zone.ask(
            "n1", "GET", "/v1/status", context=client_context(TrustFolder(tmp_path / "of-before"))
        )
    assert "another authority" in zone.refused(newcomer, too_late)
    zone.let_in(newcomer, zone.invite(newcomer, vtep=zone.address(newcomer)))
