"""A zone whose etcd is its own: a member on each of three nodes, certificates of the zone's CA.

systemd is stood in for by a script that runs the same settings; tests/packaging has the unit.
"""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.drivers.netns import entered
from daemon.trust.certificate import fingerprint, read_der
from plumctl.errors import PlumError
from plumctl.sandbox import fabric, process, zone
from plumctl.sandbox.layout import Layout
from tests.system.zone import tenant
from tests.trust.world import NODES, Ran, World, until

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(180)]

NAME = "t-own"
MEMBERS = tuple(f"{node}.etcd" for node in NODES)
SYSTEMCTL = """#!/bin/sh
[ "$1 $2" != "restart plum-etcd" ] || [ ! -e {folder}/broken ] || {{ echo broken >&2; exit 1; }}
cd $PLUM_STATE_DIR/etcd
if [ $1 != enable ] && [ -e pid ] && kill $(cat pid) 2>/dev/null; then
    while kill -0 $(cat pid) 2>/dev/null; do sleep 0.05; done
fi
[ $1 = restart ] || exit 0
set -a; . ./member.env
etcd >log 2>&1 </dev/null &
echo $! >pid
until grep -q "serving client traffic" log || ! kill -0 $!; do sleep 0.05; done
"""


class Machines(World):
    """`plumctl` on each has a systemctl."""

    def __init__(self, layout: Layout, underlay: fabric.Fabric, folder: Path) -> None:
        super().__init__(layout, underlay)
        self.store = ""  # plumd finds it in the trust folder
        self._path = f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin"

    def plumctl(self, node: str, *arguments: str, stdin: str = "", **more: str) -> Ran:
        mark = {process.MARK: f"{self.layout.name}/{process.member_name(node)}"}
        return super().plumctl(node, *arguments, stdin=stdin, PATH=self._path, **mark, **more)

    def members(self, node: str = "n1") -> dict[str, Any]:
        said = self.plumctl(node, "etcd", "list", "-o", "json")
        assert said.code == 0, said
        return {row["name"]: row for row in json.loads(said.out)["items"]}

    def url(self, node: str) -> str:
        return self.folder(node).read().membership.store

    def member_shows(self, node: str) -> str:
        """Fingerprint of the certificate that a node's member has in use."""
        context = ssl.create_default_context(cafile=str(self.folder("n1").ca))
        context.load_cert_chain(self.folder("n1").certificate, self.folder("n1").key)
        with entered(self.namespace("n1")):
            plain = socket.create_connection((self.address(node), 2379), 10)
        with plain, context.wrap_socket(plain, server_hostname=self.address(node)) as secured:
            shown = secured.getpeercert(binary_form=True)
        assert shown is not None
        return fingerprint(read_der(shown))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("systemd")
    (folder / "systemctl").write_text(SYSTEMCTL.format(folder=folder))
    (folder / "systemctl").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[Machines]:
    layout = Layout(NAME)
    zone.down(layout, str)
    made = Machines(layout, fabric.Fabric((*NODES, "n4"), 4, 1500), folder)
    try:
        layout.run_dir.mkdir(mode=0o750, parents=True)
        layout.store_dir.mkdir(mode=0o750, parents=True)
        fabric.ensure_bpffs()
        fabric.build(layout, made.underlay)
        yield made
    finally:
        zone.down(layout, str)
        layout.lock_file.unlink(missing_ok=True)
    assert process.processes(layout) == []


INIT = ("zone", "init", "--node", "n1", "--vtep", "192.0.2.1", "--etcd")


def test_a_zone_is_founded_on_an_etcd_that_trusts_it(world: Machines, folder: Path) -> None:
    (folder / "broken").touch()
    refused = world.plumctl("n1", *INIT)
    assert (refused.code, "journalctl -u plum-etcd" in refused.err) == (6, True), refused
    assert not world.folder("n1").exists()
    (folder / "broken").unlink()
    other = world.plumctl("n1", "zone", "init", "--node", "x", "--vtep", "192.0.2.1", "--etcd")
    assert "under another name" in other.err
    made = world.plumctl("n1", *INIT)
    assert made.code == 0, made
    assert world.url("n1") == "etcd://192.0.2.1:2379"
    world.start("n1")
    assert world.client().apply([tenant("acme")]).revision
    again = world.plumctl("n1", *INIT)
    assert "in a zone already" in again.err
    alone = world.plumctl("n1", "etcd", "remove", "n1", "--yes")
    assert (alone.code, "only member" in alone.err) == (6, True), alone
    both = world.plumctl("n1", *INIT, "--store", "etcd://192.0.2.9:2379")
    assert (both.code, "--store names one" in both.err) == (2, True)


def test_other_nodes_get_members_and_every_node_follows_them(world: Machines) -> None:
    for node in NODES[1:]:
        token = world.invite(node, "director", "edge", vtep=world.address(node))
        assert world.join(node, token).code == 0
        world.start(node)
        added = world.plumctl(node, "etcd", "add")
        assert added.code == 0, added
    assert set(world.members()) == set(NODES)
    assert sorted(row["state"] for row in world.members().values()) == [
        *("follows", "follows", "leads"),
    ]
    everyone = {f"{world.address(node)}:2379" for node in NODES}
    for node in NODES:
        until(lambda node=node: set(world.url(node)[7:].split(",")) == everyone)  # type: ignore[misc]
        assert world.url(node).startswith(f"etcd://{world.address(node)}:2379")
    again = world.plumctl("n2", "etcd", "add")
    assert (again.code, "already" in again.err) == (6, True)
    stranger = world.plumctl("n4", "etcd", "add")
    assert "in no zone" in stranger.err


def test_the_first_member_dies_and_changes_go_on(world: Machines) -> None:
    world.kill("n1.etcd")
    deadline = time.monotonic() + 20
    for node in NODES:  # each was begun with the first member alone
        while True:
            try:
                world.client(node).apply([tenant(f"by-{node}")])
                break
            except PlumError:
                assert time.monotonic() < deadline
    assert world.members("n2")["n1"]["state"] == "does not answer"


def test_a_member_shows_the_renewed_certificate_without_a_restart(world: Machines) -> None:
    before, pid = world.member_shows("n2"), world.pid("n2.etcd")
    world.client().rotate("n2")
    assert world.member_shows("n2") != before
    assert world.member_shows("n2") == fingerprint(world.folder("n2").read().certificate)
    assert world.pid("n2.etcd") == pid


def test_a_member_is_taken_out_before_its_node_and_comes_back(world: Machines) -> None:
    with pytest.raises(PlumError, match="runs a member") as caught:
        world.client("n2").remove_node("n1")
    assert "plumctl etcd remove n1" in str(caught.value.hint)
    nobody = world.plumctl("n2", "etcd", "remove", "n9", "--yes")
    assert (nobody.code, "n1, n2, n3" in nobody.err) == (4, True), nobody
    gone = world.plumctl("n2", "etcd", "remove", "n1", "--yes")
    assert gone.code == 0, gone
    assert set(world.members("n2")) == {"n2", "n3"}
    until(lambda: "192.0.2.1:" not in world.url("n1"))
    back = world.plumctl("n1", "etcd", "add")  # with what the one before left in its folder
    assert back.code == 0, back
    assert set(world.members("n3")) == set(NODES)
    assert world.client("n3").get("tenant", "by-n1")


def test_who_takes_out_its_own_member_keeps_nothing_of_it(world: Machines) -> None:
    out = world.plumctl("n3", "etcd", "remove", "n3", "--yes")
    assert out.code == 0, out
    assert not (world.state_dir("n3") / "etcd").exists()
    assert world.client("n3").get("tenant", "acme")


def test_etcd_must_be_installed(world: Machines, folder: Path) -> None:
    bare = folder / "bare"
    bare.mkdir()
    for name in ("sh", "nsenter"):
        found = shutil.which(name)
        assert found is not None
        (bare / name).symlink_to(found)
    said = World.plumctl(world, "n4", *INIT, PATH=str(bare))
    assert "apt-get install etcd-server" in said.err
