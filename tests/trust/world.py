"""A zone of real daemons in namespaces: n1 and n2 direct it, n3 does not. On SQLite or etcd.

They joined as machines do: n1 made the zone, the others came with tokens. What speaks to
them here does so from inside a node's namespace, over the underlay.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import pytest

from daemon.api.joining import join
from daemon.drivers.netns import entered
from daemon.trust.contexts import PORT
from daemon.trust.errors import TrustError
from daemon.trust.folder import TrustFolder
from daemon.trust.invitation import read_invitation
from plumctl.client import Client
from plumctl.sandbox import etcd, fabric, process, zone
from plumctl.sandbox.layout import NETNS_DIR, Layout, vtep

NAME = "t-trust"
NODES = ("n1", "n2", "n3")
ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def until(ask: Callable[[], T], timeout_s: float = 20.0) -> T:
    """The first true answer. Fails the test when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"nothing in {timeout_s} s but {answer!r}"
        time.sleep(0.02)
    return answer


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any


class World:
    def __init__(self, layout: Layout, underlay: fabric.Fabric) -> None:
        self.layout = layout
        self.underlay = underlay
        self.store = f"sqlite://{layout.store}"
        if underlay.store == "etcd":  # one certificate for all, at the same place on every node
            self.store = etcd.url(layout, underlay, "n1")
        self.token = ""  # of a zone-admin

    def address(self, node: str) -> str:
        return str(vtep(int(node[1:]), 4))

    def state_dir(self, node: str) -> Path:
        return self.layout.store_dir / node

    def folder(self, node: str) -> TrustFolder:
        return TrustFolder(self.state_dir(node) / "trust")

    def namespace(self, node: str) -> Path:
        return NETNS_DIR / self.layout.namespace(node)

    def client(self, node: str = "n1", **more: Any) -> Client:
        return Client(str(self.layout.socket(node)), **more)

    def plumctl(self, node: str, *arguments: str, stdin: str = "", **more: str) -> Ran:
        """As root on a node, with that node's daemon."""
        command = fabric.enter(
            self.layout.namespace(node), [sys.executable, "-P", "-m", "plumctl", *arguments]
        )
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "PLUM_SOCKET": str(self.layout.socket(node)),
            "PLUM_STATE_DIR": str(self.state_dir(node)),
        }
        done = subprocess.run(
            command,
            input=stdin,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def invite(self, node: str, *roles: str, **more: object) -> str:
        body = {"node": node, "roles": roles or ["edge"], **more}
        return str(self.client().invite(body)["token"])

    def join(self, node: str, token: str, *arguments: str) -> Ran:
        return self.plumctl(node, "node", "join", "-", *arguments, stdin=token)

    def let_in(self, node: str, token: str, vtep: str | None = None) -> None:
        """As `plumctl node join` does it, without the start of a process."""
        invitation, address = read_invitation(token), ip_address(vtep) if vtep else None
        with entered(self.namespace(node)):
            asyncio.run(join(self.folder(node), invitation, address, None, time.time()))

    def refused(self, node: str, token: str, vtep: str | None = None) -> str:
        """What the machine is told that wants to join."""
        with pytest.raises(TrustError) as caught:
            self.let_in(node, token, vtep)
        return f"{caught.value.message}; {caught.value.hint}"

    def start(self, *nodes: str) -> None:
        for node in nodes:
            process.start_plumd(self.layout, node, self.store)
        for node in nodes:
            until(lambda node=node: self.ready(node))  # type: ignore[misc]

    def ready(self, node: str) -> bool:
        with contextlib.suppress(Exception):
            return self.client(node).status().ready and self.listens(node)
        return False

    def listens(self, node: str) -> bool:
        try:
            self.dial(node, node).close()
        except OSError:
            return False
        return True

    def start_members(self, *nodes: str) -> None:
        """Those of the store on etcd; none on SQLite."""
        if nodes or etcd.members(self.underlay):
            etcd.make_certificates(self.layout, self.underlay)
        for node in nodes or etcd.members(self.underlay):
            process.start_member(self.layout, node, etcd.command(self.layout, self.underlay, node))

    @property
    def zone_id(self) -> str:
        return self.folder("n1").read().zone_id

    def pid(self, name: str) -> int:
        """Of a node's plumd, or of its member (`n1.etcd`)."""
        return next(one.pid for one in process.processes(self.layout) if one.node == name)

    def kill(self, node: str) -> None:
        for found in process.processes(self.layout):
            if found.node == node:
                handle = os.pidfd_open(found.pid)
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                assert select.select([handle], [], [], 5)[0]
                os.close(handle)

    def log(self, node: str) -> str:
        return self.layout.log(node).read_text(errors="replace")

    # The underlay

    def dial(self, source: str, to: str, address: str = "", port: int = PORT) -> socket.socket:
        """A TCP connection from one node to another's API."""
        with entered(self.namespace(source)):
            opened = socket.socket()
        opened.settimeout(10)
        try:
            opened.connect((address or self.address(to), port))
        except OSError:
            opened.close()
            raise
        return opened

    def ask(
        self,
        to: str,
        method: str,
        target: str,
        body: object = None,
        *,
        context: ssl.SSLContext,
        source: str = "n3",
        **headers: str,
    ) -> Answer:
        """One request over TLS. Raises OSError and ssl.SSLError."""
        plain = self.dial(source, to)
        with plain, context.wrap_socket(plain, server_hostname=to) as secured:
            connection = http.client.HTTPConnection(to, timeout=10)
            connection.sock = secured
            payload = None if body is None else json.dumps(body).encode()
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            headers = {"Content-Type": "application/json", **named}
            connection.request(method, target, payload, headers)
            answer = connection.getresponse()
            raw = answer.read()
            return Answer(answer.status, json.loads(raw) if raw else None)

    def audited(self, node: str) -> list[dict[str, Any]]:
        path = self.state_dir(node) / "audit.log"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def sockets(self, node: str) -> list[str]:
        """Local addresses of what listens on TCP in a node."""
        command = fabric.enter(self.layout.namespace(node), ["ss", "-Hltn"])
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [line.split()[3] for line in listed.splitlines()]


def make(name: str = NAME, store: str = "sqlite") -> Iterator[World]:
    """The zone, and a machine n4 beside it that is in none."""
    layout = Layout(name)
    zone.down(layout, str)
    underlay = fabric.Fabric((*NODES, "n4"), 4, 1500, store)
    world = World(layout, underlay)
    try:
        layout.run_dir.mkdir(mode=0o750, parents=True)
        layout.store_dir.mkdir(mode=0o750, parents=True)
        fabric.ensure_bpffs()
        fabric.build(layout, underlay)
        world.start_members()
        first = world.plumctl(
            "n1", "zone", "init", "--node", "n1", "--vtep", "192.0.2.1", "--store", world.store
        )
        assert first.code == 0, first
        world.start("n1")
        made = world.plumctl(
            *("n1", "node", "token", "n2", "--vtep", world.address("n2")),
            *("--role", "director", "--role", "edge"),
        )
        assert made.code == 0, made
        joined = world.join("n2", made.out)
        assert joined.code == 0, joined
        world.let_in("n3", world.invite("n3", vtep=world.address("n3")))
        world.start(*NODES[1:])
        client = world.client()
        client.create_user("boss", "zone-admin", None, "")
        world.token = client.create_token("boss", 3600, "").secret
        yield world
    finally:
        zone.down(layout, str)
        layout.lock_file.unlink(missing_ok=True)
    left = [found for found in fabric.namespaces() if f"{name}-" in found]
    assert not left, left
    assert process.processes(layout) == []
