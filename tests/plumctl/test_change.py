from __future__ import annotations

from pathlib import Path
from typing import Any

TENANT = "kind: tenant\nname: acme\n"
BAD = "kind: tenant\nname: Acme\nspek: {}\n"


def test_apply_reads_files_folders_and_stdin(plumctl: Any, zone: Any, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "a.yaml").write_text(TENANT)
    (folder / "b.json").write_text('{"kind": "tenant", "name": "beta"}')
    (folder / "notes.txt").write_text("no manifest")
    done = plumctl("apply", "-f", str(folder), "-f", "-", stdin="kind: tenant\nname: zeta\n")
    assert done.code == 0
    assert done.out == (
        "ACTION    KIND     PATH\n"
        "created   tenant   acme\n"
        "created   tenant   beta\n"
        "created   tenant   zeta\n"
    )
    assert done.err == "3 changed; history 1.\n"


def test_every_problem_of_every_file_is_named_and_nothing_is_sent(
    plumctl: Any, zone: Any, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(BAD)
    (tmp_path / "b.yaml").write_text("kind: [")
    done = plumctl("apply", "-f", "a.yaml", "-f", "b.yaml")
    assert done.code == 1
    assert "a.yaml: document 1: name" in done.err
    assert "spek" in done.err
    assert "b.yaml: " in done.err
    assert zone.requests == []


def test_a_refusal_names_the_file_of_each_problem(plumctl: Any, zone: Any, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TENANT)
    zone.refuse(409, "in the way", [{"path": "tenant acme: spec", "message": "is taken"}])
    done = plumctl("apply", "-f", "a.yaml")
    assert done.code == 6
    assert "a.yaml: tenant acme: spec: is taken" in done.err
    assert "Hint:" in done.err


def test_dry_run_changes_nothing(plumctl: Any, zone: Any) -> None:
    done = plumctl("apply", "-f", "-", "--dry-run", stdin=TENANT)
    assert done.err == "1 would change.\n"
    assert zone.objects == {}


def test_confirm_keeps_a_change(plumctl: Any, zone: Any) -> None:
    done = plumctl("apply", "-f", "-", "--confirm", "60", stdin=TENANT)
    assert "Goes back in 60 s unless you run: plumctl confirm 1" in done.err
    assert plumctl("confirm", "1").code == 0
    assert zone.confirmed == [1]


def test_wait_names_what_a_node_refused_at_once(plumctl: Any, zone: Any) -> None:
    zone.missing = [
        {"node": "n2", "kind": "tenant", "path": "acme", "state": "error", "reason": "map is full"}
    ]
    done = plumctl("apply", "-f", "-", "--wait", stdin=TENANT)
    assert done.code == 1
    assert "n2: tenant acme: map is full" in done.err


def test_wait_that_times_out_has_its_own_exit_code(plumctl: Any, zone: Any) -> None:
    zone.missing = [
        {"node": "n2", "kind": "tenant", "path": "acme", "state": "pending", "reason": "behind"}
    ]
    done = plumctl("apply", "-f", "-", "--wait", "--timeout", "0.2", stdin=TENANT)
    assert done.code == 7
    assert "n2: tenant acme: behind" in done.err


def test_diff_exits_0_when_same_1_when_different_2_on_error(plumctl: Any, zone: Any) -> None:
    different = plumctl("diff", "-f", "-", stdin=TENANT)
    assert different.code == 1
    assert different.lines == ["created tenant acme", "  -mtu: 1400", "  +mtu: 1500"]
    zone.put({"kind": "tenant", "name": "acme", "spec": {}})
    assert plumctl("diff", "-f", "-", stdin=TENANT).code == 0
    assert plumctl("diff", "-f", "-", stdin=BAD).code == 2
    assert plumctl("diff", "-f", "absent.yaml").code == 2


def test_delete_by_short_name_by_path_and_by_file(plumctl: Any, shop: Any) -> None:
    assert (
        plumctl("delete", "ep", "db-1").out.splitlines()[1] == "deleted   endpoint   acme/shop/db-1"
    )
    assert plumctl("endpoint", "delete", "zeta/shop/web-1").code == 0
    assert plumctl("delete", "-f", "-", stdin="kind: tenant\nname: zeta\n").code == 0
    assert ("tenant", "zeta") not in shop.objects
    assert plumctl("delete").code == 2
    missing = plumctl("delete", "ep", "acme/shop/web-2")
    assert missing.code == 4
    assert "did you mean acme/shop/web-1?" in missing.err


def test_history_and_rollback(plumctl: Any, zone: Any) -> None:
    assert plumctl("history").err == "Nothing was applied yet.\n"
    plumctl("apply", "-f", "-", "--comment", "first", stdin=TENANT)
    row = plumctl("history", "--no-headers").lines[0].split()
    assert row == ["1", "2026-11-23T07:00:00Z", "root", "apply", "1", "created", "first"]
    assert "created tenant acme\n" in plumctl("history", "1").out
    assert plumctl("history", "9").code == 4
    assert plumctl("rollback", "0").code == 0


def test_endpoint_create_sends_what_was_asked(plumctl: Any, shop: Any) -> None:
    done = plumctl(
        "endpoint",
        "create",
        "vm-1",
        "-t",
        "acme",
        "-d",
        "shop",
        "--bridge",
        "web",
        "--node",
        "n1",
        "--tap",
        "tap0",
        "--address",
        "10.0.1.9",
        "--label",
        "tier=web",
        "--dhcp",
        "--wait",
    )
    assert done.code == 0, done.err
    assert shop.objects["endpoint", "acme/shop/vm-1"]["spec"] == {
        "domain": "shop",
        "bridge": "web",
        "node": "n1",
        "addresses": ["10.0.1.9"],
        "labels": {"tier": "web"},
        "attach": {"kind": "tap", "device": "tap0", "configure": "dhcp"},
    }


def test_endpoint_create_refuses_what_it_cannot_mean(plumctl: Any, shop: Any) -> None:
    where = ("--bridge", "web", "--node", "n1")
    assert plumctl("endpoint", "create", "acme/shop/db-1", *where).code == 6
    assert plumctl("endpoint", "create", "web-9", *where).code == 2
    twice = plumctl("endpoint", "create", "acme/shop/x", *where, "--tap", "a", "--veth", "b")
    assert twice.code == 2
    assert "--netns, --tap and --veth" in twice.err
