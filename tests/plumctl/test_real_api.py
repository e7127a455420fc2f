"""plumctl against the daemon's own API, zone and store; only the kernel is left out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon.api.access import AccessControl
from daemon.api.answers import MeshPeer, NodeCounters, NodeMesh, NodeReport, PolicyLogLine
from daemon.api.app import create_app
from daemon.api.audit import Audit
from daemon.api.backend import Backend
from daemon.api.listen import Listener
from daemon.api.server import ApiServer
from daemon.store.open import open_store

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop.yaml"
NODES = "".join(
    f"---\nkind: node\nname: n{index}\nspec: {{vtep: 192.0.2.{index}}}\n" for index in (1, 2, 3)
)


@dataclass
class NodeWithoutKernel:
    name: str = "n1"

    def report(self) -> NodeReport:
        return NodeReport(
            node=self.name,
            version="0",
            revision=0,
            ready=True,
            reason="",
            exceptions=(),
            repairs=(),
        )

    def policy_log(self, after: int) -> list[PolicyLogLine]:
        return []

    def policy_log_read(self) -> int:
        return 0

    def mesh(self) -> NodeMesh:
        peer = MeshPeer(sent=60, loss_percent=0, median_ms=0.2, p99_ms=0.5, reachable=True)
        return NodeMesh(node=self.name, peers={"n2": peer})

    async def counters(self) -> NodeCounters:
        return NodeCounters(node=self.name)


async def serve(folder: Path, ready: threading.Event, stop: asyncio.Event) -> None:
    store = await open_store(f"sqlite://{folder}/zone.db")
    app = create_app(Backend(store, NodeWithoutKernel(), 0.5), "0")
    control = AccessControl(app, Audit(folder / "audit.log"))
    server = ApiServer(control, Listener(folder / "plumd.sock"))
    serving = asyncio.create_task(server.serve())
    ready.set()
    await stop.wait()
    server.stop()
    await serving
    await store.close()


@pytest.fixture(autouse=True)
def api(tmp_path: Path) -> Iterator[None]:
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(serve(tmp_path, ready, stop)), name="api"
    )
    thread.start()
    assert ready.wait(10)
    yield
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def test_a_shop_is_applied_looked_at_and_rolled_back(plumctl: Any) -> None:
    assert plumctl("apply", "-f", "-", stdin=NODES).code == 0
    assert plumctl("diff", "-f", str(SHOP)).code == 1
    applied = plumctl("apply", "-f", str(SHOP), "--comment", "the shop")
    assert applied.code == 0, applied.err
    assert plumctl("diff", "-f", str(SHOP)).code == 0
    endpoints = plumctl("get", "ep", "-o", "name").lines
    assert "acme/shop/web-1" in endpoints
    assert "No counters from n2: " in plumctl("get", "ep", "-o", "wide").err
    assert plumctl("describe", "domain", "acme/shop").out.startswith("Domain:")
    assert "the shop" in plumctl("history").out
    assert "created endpoint acme/shop/web-1" in plumctl("history", "2").out
    assert plumctl("rollback", "1").code == 0
    assert plumctl("get", "ep", "-o", "name").out == ""


def test_export_applied_to_an_empty_zone_gives_the_same(plumctl: Any) -> None:
    plumctl("apply", "-f", "-", stdin=NODES)
    plumctl("apply", "-f", str(SHOP))
    exported = plumctl("export").out
    assert plumctl("rollback", "0").code == 0
    assert plumctl("apply", "-f", "-", stdin=exported).code == 0
    assert plumctl("export").out == exported


def test_refusals_name_the_file_and_waits_name_the_node(plumctl: Any, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text("kind: domain\nname: shop\ntenant: nobody\n")
    refused = plumctl("apply", "-f", "web.yaml")
    assert refused.code == 1
    assert "web.yaml: domain nobody/shop" in refused.err
    waited = plumctl("apply", "-f", "-", "--wait", "--timeout", "0.2", stdin=NODES)
    assert waited.code == 7
    assert "n2: " in waited.err


def test_confirm_delete_and_status(plumctl: Any) -> None:
    plumctl("apply", "-f", "-", "--confirm", "60", stdin="kind: tenant\nname: acme\n")
    assert "goes back at" in plumctl("history", "1").out
    assert plumctl("confirm", "1").code == 0
    assert plumctl("confirm", "7").code == 4
    missing = plumctl("delete", "tenant", "acm")
    assert (missing.code, "did you mean acme?" in missing.err) == (4, True)
    assert plumctl("delete", "tenant", "acme").code == 0
    assert "Ready:       yes" in plumctl("status").out
    assert plumctl("rules").code == 0


def test_policy_test_names_the_deciding_rule(plumctl: Any) -> None:
    plumctl("apply", "-f", "-", stdin=NODES)
    plumctl("apply", "-f", str(SHOP))
    ask = ("policy", "test", "-d", "acme/shop", "--from", "web-1")
    allowed = plumctl(*ask, "--to", "app-1", "--port", "8080", "--no-headers")
    assert (allowed.code, "allowed" in allowed.out) == (0, True), allowed
    refused = plumctl(*ask, "--to", "db-1", "--port", "5432", "-o", "name")
    assert (refused.code, refused.out) == (1, "protect-db/ingress/only-app\n")
    assert plumctl(*ask, "--to", "db-1").code == 2
    unknown = plumctl(*ask, "--to", "acme/shop/db-9", "--port", "1")
    assert (unknown.code, "there is no endpoint" in unknown.err) == (4, True)


def test_a_zone_is_backed_up_and_restored(plumctl: Any, tmp_path: Path) -> None:
    plumctl("apply", "-f", "-", stdin=NODES)
    plumctl("apply", "-f", str(SHOP))
    file = tmp_path / "monday"
    taken = plumctl("zone", "backup", str(file))
    assert taken.code == 0, taken.err
    assert file.stat().st_mode & 0o777 == 0o600
    assert plumctl("zone", "backup", str(file)).code == 6
    exported = plumctl("export", "--allocated").out
    plumctl("delete", "-f", str(SHOP))
    assert plumctl("zone", "restore", str(file)).code == 6
    unasked = plumctl("zone", "restore", str(file), "--replace")
    assert (unasked.code, "add --yes" in unasked.err) == (2, True)
    done = plumctl("zone", "restore", str(file), "--replace", "--yes", "-o", "json")
    assert done.code == 0, done.err
    assert plumctl("export", "--allocated").out == exported
    assert len(plumctl("history", "--no-headers").lines) == 2
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    damaged = plumctl("zone", "restore", str(file), "--replace", "--yes")
    assert (damaged.code, "damaged" in damaged.err) == (1, True)
    file.write_bytes(whole)

    offline = f"sqlite://{tmp_path}/offline.db"
    assert plumctl("zone", "restore", str(file), "--store", offline).code == 0
    copied = plumctl("zone", "backup", "-", "--store", offline)
    assert copied.lines[1:-1] == whole.decode().splitlines()[1:-1]
    again = plumctl("zone", "restore", str(file), "--store", offline)
    assert (again.code, "--replace" in again.err) == (6, True)


def test_a_node_is_drained_and_removed(plumctl: Any) -> None:
    plumctl("apply", "-f", "-", stdin=NODES)
    plumctl("apply", "-f", str(SHOP))
    assert plumctl("node", "cordon", "n2").code == 0
    assert "yes" in plumctl("get", "node", "n2").lines[1].split()
    refused = plumctl("endpoint", "create", "acme/shop/late", "--bridge", "web", "--node", "n2")
    assert (refused.code, "n2 is cordoned" in refused.err) == (6, True)
    assert plumctl("node", "uncordon", "n2").code == 0

    left = plumctl("node", "drain", "n2", "--timeout", "0")
    assert left.code == 7
    here = [
        path
        for path in plumctl("get", "ep", "-o", "name").lines
        if plumctl("get", "ep", path, "-o", "jsonpath=.spec.node").out.strip() == "n2"
    ]
    assert here and all(path in left.err for path in here)
    assert "still has endpoint" in plumctl("node", "remove", "n2", "--yes").err
    unasked = plumctl("node", "drain", "n2", "--delete-endpoints")
    assert (unasked.code, "add --yes" in unasked.err) == (2, True)
    assert plumctl("node", "drain", "n2", "--delete-endpoints", "--yes").code == 0
    removed = plumctl("node", "remove", "n2", "--yes")
    assert removed.code == 0, removed.err
    assert plumctl("get", "node", "-o", "name").lines == ["n1", "n3"]
    assert plumctl("node", "drain", "n2").code == 4


def test_a_zone_moves_to_another_store(plumctl: Any, tmp_path: Path) -> None:
    plumctl("apply", "-f", "-", stdin=NODES)
    old, new = f"sqlite://{tmp_path}/zone.db", f"sqlite://{tmp_path}/new.db"
    moved = plumctl("zone", "migrate", old, new)
    assert moved.code == 0, moved.err
    refused = plumctl("apply", "-f", "-", stdin="kind: tenant\nname: late\n")
    assert (refused.code, f"has moved to {new}" in refused.err) == (6, True)
    assert plumctl("zone", "migrate", old, f"sqlite://{tmp_path}/third.db").code == 6
