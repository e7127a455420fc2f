from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_asyncio

from daemon.api.access import AccessControl
from daemon.api.answers import (
    EndpointCounters,
    MeshPeer,
    NodeCounters,
    NodeMesh,
    NodeReport,
    PolicyLogLine,
)
from daemon.api.app import create_app
from daemon.api.audit import Audit
from daemon.api.backend import Backend
from daemon.api.listen import Listener
from daemon.api.peer import User, look_up
from daemon.api.server import ApiServer
from daemon.reconcile.status import NodeStatus, status_key
from daemon.store.interface import Put, Store
from daemon.store.open import open_store

NODE = {"kind": "node", "name": "n1", "spec": {"vtep": "192.0.2.1"}}
TENANT = {"kind": "tenant", "name": "acme"}
DOMAIN = {
    "kind": "domain",
    "tenant": "acme",
    "name": "shop",
    "spec": {"bridges": [{"name": "web", "subnets": ["10.0.0.0/24"]}]},
}
ENDPOINT = {
    "kind": "endpoint",
    "tenant": "acme",
    "name": "web-1",
    "spec": {"domain": "shop", "bridge": "web", "node": "n1"},
}
ZONE = [NODE, TENANT, DOMAIN, ENDPOINT]


@dataclass
class LocalNode:
    """A node without a kernel."""

    name: str = "n1"

    def report(self) -> NodeReport:
        return NodeReport(
            node=self.name,
            version="0",
            revision=3,
            ready=True,
            reason="",
            exceptions=(),
            repairs=(),
        )

    def mesh(self) -> NodeMesh:
        peer = MeshPeer(sent=60, loss_percent=0, median_ms=0.2, p99_ms=0.5, reachable=True)
        return NodeMesh(node=self.name, peers={"n2": peer})

    def policy_log(self, after: int) -> list[PolicyLogLine]:
        return []

    def policy_log_read(self) -> int:
        return 0

    async def counters(self) -> NodeCounters:
        row = EndpointCounters(
            path=f"acme/shop/{self.name}",
            rx_packets=1,
            rx_bytes=2,
            tx_packets=3,
            tx_bytes=4,
            drop_packets=0,
            flows=0,
        )
        return NodeCounters(node=self.name, endpoints=(row,))


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(os.fspath(self.path))


@dataclass
class Api:
    """A daemon's API on a real socket, over a real store."""

    store: Store
    socket: Path
    audit: Path
    control: AccessControl

    async def ask(self, method: str, target: str, body: object = None) -> tuple[int, Any]:
        return await asyncio.to_thread(request, self.socket, method, target, body)

    async def apply(self, *objects: object, **more: object) -> dict[str, Any]:
        status, answer = await self.ask("POST", "/v1/apply", {"objects": list(objects), **more})
        assert status == 200, answer
        return dict(answer)

    async def report(self, node: str, revision: int, *exceptions: dict[str, str]) -> None:
        """What node's plumd would write."""
        status = NodeStatus.model_validate(
            {"node": node, "applied_revision": revision, "exceptions": exceptions}
        )
        await self.store.commit([], [Put(status_key(node), status.model_dump_json().encode())])

    def users(self, user: User | None) -> None:
        """Let the user database say this of whoever asks."""
        self.control.gatekeeper.users = (lambda peer: user) if user else look_up

    def audited(self) -> list[dict[str, Any]]:
        if not self.audit.exists():
            return []
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


def request(path: Path, method: str, target: str, body: object = None) -> tuple[int, Any]:
    connection = Connection(path)
    try:
        payload = None if body is None else json.dumps(body).encode()
        connection.request(method, target, payload, {"Content-Type": "application/json"})
        response = connection.getresponse()
        raw = response.read()
        return response.status, json.loads(raw) if raw else None
    finally:
        connection.close()


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    store = await open_store(f"sqlite://{tmp_path}/zone.db")
    path = tmp_path / "run" / "plumd.sock"
    audit = tmp_path / "audit.log"
    control = AccessControl(create_app(Backend(store, LocalNode(), 0.5), "0"), Audit(audit))
    server = ApiServer(control, Listener(path))
    serving = asyncio.create_task(server.serve())
    tmp_path.parent.parent.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    tmp_path.chmod(0o755)
    path.parent.chmod(0o755)  # so that the tests' other users reach the socket at all
    path.chmod(0o666)
    if os.geteuid() != 0:  # the tests themselves are an administrator
        control.gatekeeper.users = lambda peer: User("root", frozenset({"plum-admin"}))
    try:
        yield Api(store, path, audit, control)
    finally:
        server.stop()
        await serving
        await store.close()
