"""Who may do what, seen from processes of other users."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon.api.listen import Listener, ListenError
from daemon.api.peer import Peer, User, look_up
from daemon.api.principal import local_role
from daemon.model.user import AccessRole
from tests.api.conftest import Api

NOBODY = 65534

AS_NOBODY = """
import http.client, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
c = http.client.HTTPConnection("localhost", timeout=20)
c.sock = socket.socket(socket.AF_UNIX)
c.sock.connect(sys.argv[1])
c.request(sys.argv[2], sys.argv[3], sys.argv[4] or None, {"Content-Type": "application/json"})
r = c.getresponse()
print(r.status, r.read().decode())
"""


async def as_nobody(api: Api, method: str, target: str, body: str = "") -> tuple[int, str]:
    arguments = [sys.executable, "-c", AS_NOBODY, str(api.socket), method, target, body]
    done = await asyncio.to_thread(
        subprocess.run, arguments, capture_output=True, text=True, timeout=30, check=True
    )
    status, _, answer = done.stdout.partition(" ")
    return int(status), answer


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        ({"plum-admin"}, AccessRole.ZONE_ADMIN),
        ({"plum-admin", "plum"}, AccessRole.ZONE_ADMIN),
        ({"plum"}, AccessRole.VIEWER),
        ({"wheel", "sudo"}, None),
        (set(), None),
    ],
)
def test_groups_decide(groups: set[str], role: AccessRole | None) -> None:
    assert local_role(frozenset(groups)) == role


def test_look_up_names_a_user_and_all_groups() -> None:
    assert look_up(Peer(1, 0, 0)).name == "root"
    assert "root" in look_up(Peer(1, 0, 0)).groups
    assert look_up(Peer(1, 4_000_000, 4_000_000)) == User("4000000", frozenset())


@pytest.mark.privileged
async def test_a_stranger_is_refused_told_the_group_and_audited(api: Api) -> None:
    status, answer = await as_nobody(api, "GET", "/v1/status")
    assert status == 403
    assert "group plum" in answer
    status, answer = await as_nobody(api, "POST", "/v1/apply", '{"objects": []}')
    assert status == 403
    assert "plum-admin" in answer
    lines = api.audited()
    assert [line["outcome"] for line in lines] == ["refused", "refused"]
    assert all(f"uid {NOBODY} pid " in line["source"] for line in lines)
    assert {line["user"] for line in lines} == {"nobody"}
    assert lines[1]["path"] == "/v1/apply"
    assert all(line["time"] for line in lines)


@pytest.mark.privileged
async def test_a_reader_reads_but_does_not_write(api: Api) -> None:
    api.users(User("nobody", frozenset({"plum"})))
    assert (await as_nobody(api, "GET", "/v1/status"))[0] == 200
    assert (await as_nobody(api, "GET", "/openapi.json"))[0] == 200
    status, _ = await as_nobody(
        api, "POST", "/v1/apply", '{"objects": [{"kind": "tenant", "name": "acme"}]}'
    )
    assert status == 403
    assert (await api.ask("GET", "/v1/objects/tenant"))[1]["items"] == []


@pytest.mark.privileged
async def test_an_administrator_writes_and_is_named(api: Api) -> None:
    api.users(User("nobody", frozenset({"plum-admin"})))
    body = '{"objects": [{"kind": "tenant", "name": "acme"}]}'
    assert (await as_nobody(api, "POST", "/v1/apply", body))[0] == 200
    history: Any = (await api.ask("GET", "/v1/history"))[1]
    assert history["items"][0]["who"] == "nobody"
    (line,) = api.audited()
    assert (line["outcome"], line["summary"]) == ("done", "revision 1: 1 created")
    assert line["objects"] == ["tenant acme"]


@pytest.mark.privileged
async def test_root_is_audited_too_and_failures_say_so(api: Api) -> None:
    await api.ask("POST", "/v1/apply", {"objects": [{"kind": "nonsense"}]})
    (line,) = api.audited()
    assert (line["kind"], line["user"]) == ("local", "root")
    assert (line["outcome"], line["status"]) == ("failed", 422)
    assert line["source"].startswith("uid 0 pid ")


def test_socket_is_closed_to_others_and_its_directory_too(tmp_path: Path) -> None:
    path = tmp_path / "run" / "plumd.sock"
    listener = Listener(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    assert path.stat().st_uid == os.geteuid()
    listener.close()
    assert not path.exists()


def test_a_dead_daemons_socket_is_replaced_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "plumd.sock"
    first = Listener(path)
    with pytest.raises(ListenError, match="another plumd"):
        Listener(path)
    assert path.exists()
    os.close(first._lock)  # as the kernel does when it dies: the file stays
    second = Listener(path)
    assert path.exists()
    second.close()
    first.socket.close()
