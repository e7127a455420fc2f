"""plumctl from elsewhere: TLS to a director, a token, and no word to anybody else."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from plumctl.door import TlsDoor
from plumctl.errors import ExitCode, PlumError
from tests.access.authority import Authority
from tests.access.world import World, _Quiet, _StrangerProtocol

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def director(
    world: World, files: tuple[Path, Path], most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> AsyncIterator[int]:
    """The zone's API over TLS on the loopback device; its port."""
    config: Any = uvicorn.Config(
        world.control,
        http=_StrangerProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        ssl_certfile=files[0],
        ssl_keyfile=files[1],
    )
    config.load()
    config.ssl.maximum_version = most
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = _Quiet(config)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started:
                await asyncio.sleep(0.005)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@pytest.fixture
def files(world: World, tmp_path: Path) -> Callable[[str], str]:
    """The token file of a user."""

    def make(user: str) -> str:
        path = tmp_path / f"{user}.token"
        path.write_text(world.tokens[user])
        path.chmod(0o600)
        return str(path)

    return make


async def plumctl(*argv: str, **env: str) -> tuple[int, str, str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PLUM_SANDBOX": "t-none", **env}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "plumctl", *argv],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment,
    )
    return done.returncode, done.stdout, done.stderr


async def test_an_operator_works_from_elsewhere(
    world: World, files: Callable[[str], str], tmp_path: Path
) -> None:
    zone = Authority(tmp_path, "zone")
    async with director(world, zone.issue("localhost")) as port:
        url = f"https://localhost:{port}"
        way = ("--server", url, "--ca", str(zone.file), "--token-file", files("tenant-operator"))
        code, out, err = await plumctl(*way, "whoami")
        assert code == 0, err
        assert "tenant-operator" in out
        assert "127.0.0.1" in out or "198.51.100.9" in out
        env = {"PLUM_SERVER": url, "PLUM_CA_FILE": str(zone.file)}
        env["PLUM_TOKEN_FILE"] = files("tenant-operator")
        assert (await plumctl("get", "ep", "-o", "name", **env))[1].split() == [
            "acme/shop/web-1",
            "acme/shop/web-2",
        ]
        code, _, err = await plumctl("delete", "tenant", "zeta", **env)
        assert (code, "not yours" in err) == (5, True)


async def test_without_token_or_authority_nothing_is_asked(
    world: World, files: Callable[[str], str], tmp_path: Path
) -> None:
    code, _, err = await plumctl("--server", "https://localhost:1", "whoami")
    assert code == 2
    assert "add --ca or PLUM_CA_FILE and --token-file or PLUM_TOKEN_FILE" in err
    token, missing = files("viewer"), str(tmp_path / "none.pem")
    way = ("--server", "https://localhost:1", "--token-file", token, "--ca", missing)
    assert (await plumctl(*way, "whoami"))[0] == 2


@pytest.mark.parametrize("wrong", ["authority", "name", "expired", "version"])
async def test_who_is_not_the_director_gets_no_token(
    world: World, files: Callable[[str], str], tmp_path: Path, wrong: str
) -> None:
    zone, other = Authority(tmp_path, "zone"), Authority(tmp_path, "other")
    served = {
        "authority": lambda: other.issue("localhost"),
        "name": lambda: zone.issue("n2"),
        "expired": lambda: zone.issue("localhost", timedelta(hours=-1)),
        "version": lambda: zone.issue("localhost"),
    }[wrong]()
    most = ssl.TLSVersion.TLSv1_2 if wrong == "version" else ssl.TLSVersion.TLSv1_3
    async with director(world, served, most) as port:
        url = f"https://localhost:{port}"
        way = ("--server", url, "--ca", str(zone.file), "--token-file", files("zone-admin"))
        code, out, err = await plumctl(*way, "user", "get")
        assert (code, out) == (3, "")
        assert "could not prove" in err
        assert "Hint: nothing was sent" in err
    assert world.audited() == []


@pytest.mark.parametrize(
    "url",
    ["http://n1:4788", "n1", "https://", "https://n1/path", "https://u:p@n1", "https://n1:x", ""],
)
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(PlumError) as refused:
        TlsDoor.parse(url, "ca.pem")
    assert refused.value.exit_code == ExitCode.USAGE
    assert "https://HOST" in refused.value.hint


async def test_the_port_has_a_default() -> None:
    assert TlsDoor.parse("https://n1", "ca.pem").address == "https://n1:4788"
    assert (
        TlsDoor.parse("https://[2001:db8::1]:99/", "ca.pem").address == "https://[2001:db8::1]:99"
    )
