"""plumctl's access commands as a user runs them, against the daemon's own API."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from plumctl import token_file
from plumctl.errors import PlumError
from tests.access.world import World

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def plumctl(world: World, tmp_path: Path) -> Callable[..., Done]:
    """Run plumctl; call it with `await asyncio.to_thread(...)`: the server is in this loop."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PLUM_SOCKET": str(world.folder / "local.sock"),
        "PLUM_SANDBOX": "t-none",
    }

    def run(*argv: str, **env: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "plumctl", *argv],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=tmp_path,
            env=environment | env,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


async def call(plumctl: Callable[..., Done], *argv: str, **env: str) -> Done:
    import asyncio

    return await asyncio.to_thread(plumctl, *argv, **env)


async def test_a_user_gets_a_token_uses_it_and_loses_it(
    world: World, plumctl: Callable[..., Done], tmp_path: Path
) -> None:
    made = await call(
        plumctl, "user", "create", "ann", "--role", "tenant-operator", "--tenant", "acme"
    )
    assert made.code == 0, made.err
    assert "tenant-operator" in made.out
    token = await call(plumctl, "token", "create", "ann", "--expires", "2h", "--out", "ann.token")
    assert token.code == 0, token.err
    file = tmp_path / "ann.token"
    secret = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret not in token.out + token.err
    who = await call(plumctl, "--token-file", "ann.token", "whoami")
    assert "Role:      tenant-operator" in who.out
    assert "Tenant:    acme" in who.out
    listed = await call(plumctl, "get", "tenant", "-o", "name", PLUM_TOKEN_FILE="ann.token")
    assert listed.out == "acme\n"
    refused = await call(plumctl, "user", "get", "root", PLUM_TOKEN_FILE="ann.token")
    assert refused.code == 4
    refused = await call(plumctl, "user", "delete", "ann", PLUM_TOKEN_FILE="ann.token")
    assert (refused.code, "may not delete_user" in refused.err) == (5, True)
    token_id = secret.split("_")[1]
    assert token_id in (await call(plumctl, "token", "get", "--user", "ann")).out
    assert (await call(plumctl, "token", "revoke", token_id)).code == 0
    gone = await call(plumctl, "whoami", PLUM_TOKEN_FILE="ann.token")
    assert gone.code == 5
    assert "not valid" in gone.err


async def test_without_a_file_the_secret_is_shown_once(
    world: World, plumctl: Callable[..., Done]
) -> None:
    made = await call(plumctl, "token", "create", "viewer")
    (line,) = made.out.splitlines()
    assert line.startswith("plumtok_")
    assert "not shown again" in made.err
    document = json.loads((await call(plumctl, "token", "create", "viewer", "-o", "json")).out)
    assert document["secret"].startswith("plumtok_")
    wrong = await call(plumctl, "token", "revoke", line)
    assert (wrong.code, "shell's history" in wrong.err) == (2, True)


async def test_no_file_is_left_or_overwritten_when_there_is_no_token(
    world: World, plumctl: Callable[..., Done], tmp_path: Path
) -> None:
    missing = await call(plumctl, "token", "create", "nobody", "--out", "new.token")
    assert missing.code == 4
    assert not (tmp_path / "new.token").exists()
    (tmp_path / "old.token").write_text("precious")
    tokens = len((await world.state()).keys())
    there = await call(plumctl, "token", "create", "viewer", "--out", "old.token")
    assert there.code == 1
    assert (tmp_path / "old.token").read_text() == "precious"
    assert len((await world.state()).keys()) == tokens  # nothing was made


async def test_users_are_changed_and_listed(world: World, plumctl: Callable[..., Done]) -> None:
    changed = await call(plumctl, "user", "set", "acme-second", "--role", "viewer")
    assert changed.code == 0
    shown = await call(plumctl, "user", "get", "acme-second", "-o", "json")
    assert json.loads(shown.out)["tenant"] is None
    names = (await call(plumctl, "user", "get", "-o", "name")).out.split()
    assert {"viewer", "zone-admin", "acme-second"} <= set(names)
    assert (await call(plumctl, "user", "set", "acme-second", "--role", "king")).code == 1
    assert (await call(plumctl, "user", "delete", "acme-second")).code == 0
    assert (await call(plumctl, "user", "get", "acme-second")).code == 4


async def test_a_tenants_use_is_a_column_of_the_wide_table(
    world: World, plumctl: Callable[..., Done], tmp_path: Path
) -> None:
    manifest = tmp_path / "acme.yaml"
    manifest.write_text("kind: tenant\nname: acme\nspec: {quota: {endpoints: 10}}\n")
    assert (await call(plumctl, "apply", "-f", "acme.yaml")).code == 0
    table = (await call(plumctl, "get", "tenant", "acme", "-o", "wide")).out.splitlines()
    row = dict(zip(table[0].split(), table[1].split(), strict=True))
    assert (row["ENDPOINTS"], row["DOMAINS"]) == ("2/10", "1")
    assert "endpoints:" in (await call(plumctl, "describe", "tenant", "acme")).out


async def test_an_operators_export_applied_again_changes_nothing(
    world: World, plumctl: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "op.token").write_text(world.tokens["tenant-operator"])
    (tmp_path / "op.token").chmod(0o600)
    exported = await call(plumctl, "export", PLUM_TOKEN_FILE="op.token")
    assert "zeta" not in exported.out
    (tmp_path / "zone.yaml").write_text(exported.out)
    before = await world.state()
    for verb in ("apply", "diff"):
        done = await call(plumctl, verb, "-f", "zone.yaml", PLUM_TOKEN_FILE="op.token")
        assert done.code == 0, done.err
    assert await world.state() == before


async def test_the_audit_log_is_searched_and_inert(
    world: World, plumctl: Callable[..., Done]
) -> None:
    hostile = "\x1b[31mred\x1b[0m\r\nfake row\u202e"
    body = {"objects": [], "comment": hostile, hostile: 1}
    await world.ask("root", "POST", "/v1/apply", body)
    await world.ask("root", "POST", "/v1/%1b[2Jgone%0afake", {})
    await world.ask("viewer", "DELETE", "/v1/users/viewer")
    refused = await call(plumctl, "audit", "--outcome", "refused", "--no-headers")
    (row,) = refused.out.splitlines()
    assert ("user viewer" in row, "delete_user" in row) == (True, True)
    assert refused.code == 3  # n2 runs no plumd
    assert "Nothing from n2: " in refused.err
    for more in ((), ("-o", "wide"), ("-o", "json"), ("-o", "yaml")):
        done = await call(plumctl, "audit", "--node", "n1", *more)
        assert done.code == 0, done.err
        assert "gone" in done.out
        assert all(char == "\n" or char.isprintable() for char in done.out + done.err)
        assert "\nfake" not in done.out
    limited = await call(plumctl, "audit", "--node", "n1", "--limit", "1", "-o", "json")
    assert len(json.loads(limited.out)["items"]) == 1
    assert "older ones" in limited.err
    assert (await call(plumctl, "audit", "--node", "n1", "--since", "0s")).out == ""
    assert (await call(plumctl, "audit", "--since", "yesterday")).code == 2
    assert (await call(plumctl, "audit", "--outcome", "fine")).code == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
async def test_a_token_file_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("plumtok_x")
    file.chmod(mode)
    with pytest.raises(PlumError, match="not yours alone") as refused:
        token_file.read(str(file))
    assert f"chmod 600 {file}" in refused.value.hint
    file.chmod(0o600)
    assert token_file.read(str(file)) == "plumtok_x"


async def test_what_is_no_token_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "empty").touch(0o600)
    (tmp_path / "key").write_text("-----BEGIN KEY-----\nabc\r\nX: y\n")
    (tmp_path / "key").chmod(0o600)
    if os.geteuid() == 0:
        (tmp_path / "foreign").write_text("plumtok_x")
        (tmp_path / "foreign").chmod(0o600)
        os.chown(tmp_path / "foreign", 65534, 65534)
    for name in ("pipe", "empty", "key", "missing", ".", "foreign"):
        with pytest.raises(PlumError) as refused:
            token_file.read(str(tmp_path / name))
        assert refused.value.hint


async def test_a_token_is_no_argument_of_anything() -> None:
    import typer

    from plumctl.cli import app
    from plumctl.shells.tree import verbs

    words = {word for verb in verbs() for flag in verb.flags for word in flag.words}
    words |= {word for param in typer.main.get_command(app).params for word in param.opts}
    assert "--token-file" in words
    assert not words & {"--token", "--secret", "--password"}
