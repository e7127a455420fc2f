"""The audit log: whole, searchable, inert, and each tenant's own part only."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.api import audit as audit_module
from daemon.api.audit import Audit, Entry
from daemon.api.audit_search import Wanted, search
from daemon.api.peer import Peer, TlsPeer
from daemon.api.principal import Origin, Principal
from daemon.model.user import AccessRole
from tests.access.world import SECRET, World, domain, endpoint

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT_PEER = Peer(7, 0, 0)


def entry(number: int = 0, **more: Any) -> Entry:
    who = Principal(Origin.LOCAL, "root", AccessRole.ZONE_ADMIN, source="uid 0 pid 7")
    given = {"objects": (f"endpoint acme/shop/e{number}",), **more}
    return Entry(who, ROOT_PEER, "POST", "/v1/apply", "apply", 200, **given)


async def lines(world: World, role: str, query: str = "") -> list[dict[str, Any]]:
    answer = await world.ask(role, "GET", f"/v1/audit?{query}")
    assert answer.status == 200, answer
    return [line for line in answer.body["items"] if line["operation"] != "zone_audit"]


async def work(world: World) -> None:
    """Something of everybody's."""

    async def put(role: str, *objects: dict[str, Any]) -> None:
        await world.ask(role, "POST", "/v1/apply", {"objects": list(objects)})

    await put("zone-admin", domain("acme", "one"), domain("zeta", "two"))
    await put("zone-admin", domain("zeta", "three"))
    await put("tenant-operator", endpoint("acme", "web-3"))
    await put("tenant-operator", endpoint("zeta", f"{SECRET}-9"))  # refused
    await put(f"{SECRET}-operator", endpoint("acme", "web-4"))  # refused
    await put(f"{SECRET}-operator", endpoint("zeta", f"{SECRET}-9"))
    await put("viewer", domain("acme", "four"))  # refused
    await put("tenant-operator", endpoint("acme", "web-5", bridge="none"))  # fails
    await world.ask("zone-admin", "POST", "/v1/users", {"name": "eve", "role": "viewer"})
    body = {"name": "ann", "role": "tenant-operator", "tenant": "acme"}
    await world.ask("zone-admin", "POST", "/v1/users", body)


async def test_every_change_and_refusal_has_its_line(world: World) -> None:
    await work(world)
    found = await lines(world, "root")
    assert [(line["user"], line["operation"], line["outcome"]) for line in found] == [
        ("zone-admin", "create_user", "done"),
        ("zone-admin", "create_user", "done"),
        ("tenant-operator", "apply", "failed"),
        ("viewer", "apply", "refused"),
        (f"{SECRET}-operator", "apply", "done"),
        (f"{SECRET}-operator", "apply", "refused"),
        ("tenant-operator", "apply", "refused"),
        ("tenant-operator", "apply", "done"),
        ("zone-admin", "apply", "done"),
        ("zone-admin", "apply", "done"),
    ]
    assert found[-1]["objects"] == ["domain acme/shop", f"domain zeta/shop-{SECRET}"]
    assert "2 changed" in found[-1]["summary"]
    assert all(line["source"] and line["token"] and line["node"] == "n1" for line in found)
    times = [line["time"] for line in found]
    assert times == sorted(times, reverse=True)


async def test_privileged_reads_leave_a_line_and_others_none(world: World) -> None:
    for target in ("/v1/audit", "/v1/users", "/v1/tokens", "/v1/users/viewer"):
        await world.ask("zone-admin", "GET", target)
    for target in ("/v1/status", "/v1/objects/tenant", "/v1/history", "/v1/counters"):
        await world.ask("zone-admin", "GET", target)
    said = [line["operation"] for line in world.audited()]
    assert said == ["zone_audit", "list_users", "list_tokens", "get_user"]


async def test_an_operator_sees_what_concerns_the_own_tenant_only(world: World) -> None:
    await work(world)
    answer = await world.ask("tenant-operator", "GET", "/v1/audit")
    # The operator's own words about somebody else are the only mention of them.
    own_words = [
        line for line in answer.body["items"] if not any(SECRET in text for text in line["objects"])
    ]
    assert SECRET not in json.dumps(own_words)
    found = [line for line in answer.body["items"] if line["operation"] != "zone_audit"]
    assert [(line["user"], line["outcome"]) for line in found] == [
        ("zone-admin", "done"),  # ann
        ("tenant-operator", "failed"),
        ("tenant-operator", "refused"),
        ("tenant-operator", "done"),
        ("zone-admin", "done"),
    ]
    mixed = found[-1]
    assert (mixed["objects"], mixed["summary"]) == (["domain acme/shop"], "")
    assert {line["source"] for line in found if line["user"] == "zone-admin"} == {""}
    assert await lines(world, "tenant-operator", "tenant=zeta") == []
    assert await lines(world, "tenant-operator", f"user={SECRET}-operator") == []


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("user=viewer", 1),
        ("tenant=acme", 6),
        ("tenant=zeta", 5),
        ("object=acme/shop", 4),
        ("object=acme/shop/web-3", 1),
        ("object=acme/shop/web", 0),
        ("object=endpoint%20acme/shop", 3),
        ("object=user%20eve", 1),
        ("outcome=refused", 3),
        ("outcome=failed", 1),
        ("outcome=refused&user=viewer", 1),
        ("user=nobody", 0),
        ("user=%22", 0),
        ("limit=3", 3),
    ],
)
async def test_a_search_finds_what_it_is_asked_for(world: World, query: str, count: int) -> None:
    await work(world)
    found = (await world.ask("root", "GET", f"/v1/audit?{query}")).body
    assert len(found["items"]) == count
    assert found["more"] is ("limit" in query)


async def test_since_is_a_moment(world: World) -> None:
    await work(world)
    later = (datetime.now(UTC) + timedelta(seconds=5)).isoformat().replace("+", "%2B")
    earlier = "2026-01-01T00:00:00Z"
    assert await lines(world, "root", f"since={later}") == []
    assert len(await lines(world, "root", f"since={earlier}")) == 10
    assert (await world.ask("root", "GET", "/v1/audit?since=yesterday")).status == 422
    assert (await world.ask("root", "GET", "/v1/audit?limit=0")).status == 422


async def test_an_unreachable_node_is_named(world: World) -> None:
    answer = (await world.ask("root", "GET", "/v1/audit")).body
    assert "n2" in answer["errors"]
    shown = (await world.ask("tenant-operator", "GET", "/v1/audit")).body
    assert shown["errors"] == {"n2": "the node did not answer"}


async def test_what_somebody_wrote_forges_no_line(world: World) -> None:
    name = 'x"}\n{"user": "root\x1b[2J'
    body = {"objects": [{"kind": "tenant", "name": name}], "comment": name}
    await world.ask("viewer", "POST", "/v1/apply", body)
    await world.ask("root", "POST", "/v1/none/%0a%1b[2J%22", {})
    raw = (world.folder / "audit.log").read_bytes()
    assert raw.count(b"\n") == 2
    assert b"\x1b" not in raw
    assert [line["user"] for line in world.audited()] == ["viewer", "root"]


async def test_a_line_is_there_before_the_answer(world: World) -> None:
    for number in range(20):
        await world.ask("root", "POST", "/v1/apply", {"objects": [domain("acme", f"d{number}")]})
        assert len(world.audited()) == number + 1


async def test_without_room_for_its_trace_nothing_is_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "MIN_FREE_BYTES", 1 << 62)
    before = await world.state()
    body = {"objects": [domain("acme", "new")]}
    answer = await world.ask("root", "POST", "/v1/apply", body)
    assert answer.status == 503
    assert "audit log" in answer.body["error"]["message"]
    assert await world.state() == before
    assert (await world.ask("root", "GET", "/v1/objects/domain")).status == 200


async def test_rotation_loses_no_line_and_reading_finds_them_all(tmp_path: Path) -> None:
    log = Audit(tmp_path / "audit.log", max_bytes=4000, kept_files=100)
    threads = [
        threading.Thread(target=lambda n=n: [log.record(entry(n * 1000 + i)) for i in range(100)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    read: list[int] = []
    while any(thread.is_alive() for thread in threads):
        found = search(log, "n1", Wanted(limit=10_000))
        names = [line.objects[0] for line in found.lines]
        assert len(names) == len(set(names))
        assert len(names) >= (read[-1] if read else 0)
        read.append(len(names))
    for thread in threads:
        thread.join()
    found = search(log, "n1", Wanted(limit=10_000))
    assert (len(found.lines), found.more, found.unreadable) == (400, False, 0)
    assert len(list(tmp_path.iterdir())) > 10
    assert all(path.stat().st_size <= 4000 for path in tmp_path.iterdir())
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o640"}


async def test_only_so_many_files_are_kept(tmp_path: Path) -> None:
    log = Audit(tmp_path / "audit.log", max_bytes=1000, kept_files=3)
    for number in range(50):
        log.record(entry(number))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "audit.log",
        "audit.log.1",
        "audit.log.2",
        "audit.log.3",
    ]
    assert search(log, "n1", Wanted()).lines[0].objects == ("endpoint acme/shop/e49",)


async def test_who_is_refused_all_the_time_does_not_fill_the_log(tmp_path: Path) -> None:
    now = 1_000_000.0
    log = Audit(tmp_path / "audit.log", lambda: now)
    stranger = Principal(Origin.USER, "", None, source="198.51.100.9")

    def refused(address: str) -> Entry:
        return Entry(stranger, TlsPeer(None, address), "GET", "/v1/status", "status", 401)

    for number in range(1000):
        log.record(refused("198.51.100.9"))
        if number % 100 == 0:
            log.record(entry(number))
    log.record(refused("198.51.100.10"))
    said = [line.summary for line in search(log, "n1", Wanted(outcome="refused")).lines]
    assert said == [""] * 21
    assert len(search(log, "n1", Wanted(outcome="done")).lines) == 10
    now += 61
    (counted, *_) = search(log, "n1", Wanted(outcome="refused")).lines
    assert counted.summary == "and 980 more of this caller since 1970-01-12T13:46:40.000+00:00"
    log.record(refused("198.51.100.9"))
    assert len(search(log, "n1", Wanted(outcome="refused")).lines) == 23
    for number in range(10_000):
        log.record(refused(f"2001:db8::{number:x}"))
    assert len(log._repeats._windows) <= 4096


async def test_torn_and_foreign_lines_are_counted_not_hidden(tmp_path: Path) -> None:
    log = Audit(tmp_path / "audit.log")
    log.record(entry(1))
    with (tmp_path / "audit.log").open("ab") as stream:
        stream.write(b'{"time": "2026-\n\xff\xfe\n[]\n')
    log.record(entry(2))
    found = search(log, "n1", Wanted())
    assert [line.objects[0][-2:] for line in found.lines] == ["e2", "e1"]
    assert found.unreadable == 3


async def test_a_log_rotated_by_somebody_else_goes_on(tmp_path: Path) -> None:
    log = Audit(tmp_path / "audit.log")
    log.record(entry(1))
    os.rename(tmp_path / "audit.log", tmp_path / "audit-old.log")
    log.record(entry(2))
    assert (tmp_path / "audit-old.log").read_text().count("\n") == 1
    assert (tmp_path / "audit.log").read_text().count("\n") == 1


async def test_the_node_asked_writes_down_for_whom(world: World, tmp_path: Path) -> None:
    from daemon.api.access import AccessControl
    from daemon.api.app import create_app
    from daemon.api.backend import Backend
    from daemon.api.listen import Listener
    from daemon.api.server import ApiServer
    from daemon.reconcile.status import NodeStatus, status_key
    from daemon.store.interface import Put
    from tests.access.world import LocalNode

    app = create_app(Backend(world.store, LocalNode("n2")), "0")
    log = tmp_path / "two.log"
    listener = Listener(tmp_path / "two.sock")
    server = ApiServer(AccessControl(app, Audit(log)), listener)
    serving = asyncio.create_task(server.serve())
    try:
        status = NodeStatus(node="n2", applied_revision=1, api=f"unix://{listener.path}")
        await world.store.commit([], [Put(status_key("n2"), status.model_dump_json().encode())])
        await world.ask("zone-admin", "POST", "/v1/apply", {"objects": [domain("acme", "new")]})
        answer = (await world.ask("zone-admin", "GET", "/v1/audit?object=acme/shop")).body
        assert answer["errors"] == {}
        (line,) = [json.loads(text) for text in log.read_text().splitlines()]
        assert line["operation"] == "node_audit"
        assert line["on_behalf"] == "user zone-admin"
        both = (await world.ask("zone-admin", "GET", "/v1/audit")).body["items"]
        assert {line["node"] for line in both} == {"n1", "n2"}
    finally:
        server.stop()
        await serving
