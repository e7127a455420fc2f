"""A zone of two tenants behind a real API, asked by callers of every role.

Whatever is zeta's has SECRET in a name or a text of it, so that a leak to somebody who may
see acme only is found by looking for it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from daemon.api.access import AccessControl
from daemon.api.answers import (
    DropCounters,
    EndpointCounters,
    MeshPeer,
    NodeCounters,
    NodeMesh,
    NodeReport,
    PolicyLogLine,
    RuleCounters,
)
from daemon.api.app import create_app
from daemon.api.audit import Audit
from daemon.api.backend import Backend
from daemon.api.peer import TlsPeer
from daemon.api.repeats import Repeats
from daemon.api.server import PeerProtocol
from daemon.model.manifest import read_manifests
from daemon.model.object import Kind
from daemon.model.user import AccessRole
from daemon.reconcile.status import Exceptional, NodeStatus, Repair, State, status_key
from daemon.store.interface import Delete, Put, Store
from daemon.store.open import open_store
from daemon.zone.apply import apply
from daemon.zone.keys import history_key
from daemon.zone.tokens import create_token
from daemon.zone.users import create_user
from tests.api.conftest import Connection

SECRET = "zecret"
ROLES = ("viewer", "tenant-operator", "zone-admin", "node")

#: The names of a tenant's objects; zeta's give it away.
DOMAIN = {"acme": "shop", "zeta": f"shop-{SECRET}"}
ENDPOINTS = {"acme": ("web-1", "web-2"), "zeta": (f"{SECRET}-1", f"{SECRET}-2")}


def endpoint(tenant: str, name: str, **spec: Any) -> dict[str, Any]:
    own = {"domain": DOMAIN.get(tenant, "shop"), "bridge": "lan", "node": "n1", **spec}
    return {"kind": "endpoint", "tenant": tenant, "name": name, "spec": own}


def domain(tenant: str, description: str = "") -> dict[str, Any]:
    rule = {"name": f"rule-of-{DOMAIN[tenant]}", "peers": [{"cidr": "10.0.0.0/8"}]}
    spec = {
        "description": description or f"of {DOMAIN[tenant]}",
        "bridges": [{"name": "lan", "subnets": ["10.0.0.0/24"]}],
        "policies": [{"name": "p", "ingress": [rule]}],
    }
    return {"kind": "domain", "tenant": tenant, "name": DOMAIN[tenant], "spec": spec}


NODES = [{"kind": "node", "name": n, "spec": {"vtep": f"192.0.2.{n[1]}"}} for n in ("n1", "n2")]


def tenant(name: str, **spec: Any) -> dict[str, Any]:
    text = {"acme": "a shop", "zeta": f"a {SECRET}"}[name]
    return {"kind": "tenant", "name": name, "spec": {"description": text, **spec}}


async def fill(store: Store) -> dict[str, str]:
    """The zone's history: 1 nodes, 2 acme, 3 zeta, 4 both, 5 and 6 to be confirmed.

    Returns a token by the name of its user.
    """

    async def say(*objects: object, confirm_s: float | None = None, comment: str = "") -> int:
        parsed = read_manifests(objects)
        done = await apply(store, parsed, actor="root", confirm_s=confirm_s, comment=comment)
        return done.revision

    await say(*NODES)
    first = {name: endpoint(name, ENDPOINTS[name][0]) for name in DOMAIN}
    await say(tenant("acme"), domain("acme"), first["acme"])
    await say(tenant("zeta"), domain("zeta"), first["zeta"], comment=f"the {SECRET}")
    both = [endpoint(name, ENDPOINTS[name][1]) for name in DOMAIN]
    await say(*both, comment=f"moved from {SECRET}")
    for name in DOMAIN:
        changed = domain(name, description=f"to confirm, {DOMAIN[name]}")
        revision = await say(changed, confirm_s=3600)
    exceptions = [
        Exceptional(
            kind=Kind.ENDPOINT,
            path=f"{name}/{DOMAIN[name]}/{ENDPOINTS[name][1]}",
            state=State.PENDING,
            reason=f"waits for {ENDPOINTS[name][1]}",
        )
        for name in DOMAIN
    ]
    for node in ("n1", "n2"):
        status = NodeStatus(node=node, applied_revision=revision - 1, exceptions=tuple(exceptions))
        await store.commit([], [Put(status_key(node), status.model_dump_json().encode())])
    people = {
        "viewer": (AccessRole.VIEWER, None),
        "tenant-operator": (AccessRole.TENANT_OPERATOR, "acme"),
        "zone-admin": (AccessRole.ZONE_ADMIN, None),
        f"{SECRET}-operator": (AccessRole.TENANT_OPERATOR, "zeta"),
        "acme-second": (AccessRole.TENANT_OPERATOR, "acme"),
    }
    tokens = {}
    now = time.time()
    for name, (role, owner) in people.items():
        await create_user(store, name, role, owner, f"comment on {name}", now)
        _, tokens[name] = await create_token(store, name, 3600, f"token of {name}", now)
    return tokens


class LocalNode:
    """A node without a kernel that reports and counts of both tenants."""

    def __init__(self, name: str = "n1") -> None:
        self.name = name

    def report(self) -> NodeReport:
        return NodeReport(
            node=self.name,
            version="0",
            revision=3,
            ready=False,
            reason=f"cannot compile {DOMAIN['zeta']}",
            exceptions=tuple(
                Exceptional(
                    kind=Kind.DOMAIN,
                    path=f"{name}/{DOMAIN[name]}",
                    state=State.ERROR,
                    reason="broken",
                )
                for name in DOMAIN
            ),
            repairs=(Repair(time="now", what=f"device of {DOMAIN['zeta']}"),),
        )

    def mesh(self) -> NodeMesh:
        peer = MeshPeer(sent=60, loss_percent=0, median_ms=0.2, p99_ms=0.5, reachable=True)
        return NodeMesh(node=self.name, peers={"n2": peer})

    def policy_log(self, after: int) -> list[PolicyLogLine]:
        return [
            PolicyLogLine(
                node=self.name,
                number=number,
                time="2026-11-23T17:00:00.000+00:00",
                domain=f"{name}/{DOMAIN[name]}",
                rule=f"p/ingress/rule-of-{DOMAIN[name]}",
                verdict="refused",
                direction="ingress",
                endpoint=f"{name}/{DOMAIN[name]}/{ENDPOINTS[name][0]}",
                source=None,
                target=None,
                source_address="10.0.0.9",
                target_address="10.0.0.1",
                protocol="tcp",
                source_port=40000,
                target_port=22,
                icmp_type=None,
                icmp_code=None,
                lost=0,
            )
            for number, name in enumerate(DOMAIN, start=1)
            if number > after
        ]

    def policy_log_read(self) -> int:
        return len(DOMAIN)

    async def counters(self) -> NodeCounters:
        paths = [f"{name}/{DOMAIN[name]}/{ENDPOINTS[name][0]}" for name in DOMAIN]
        zero = dict.fromkeys(
            ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "drop_packets", "flows"), 0
        )
        return NodeCounters(
            node=self.name,
            endpoints=tuple(EndpointCounters(path=path, **zero) for path in paths),
            rules=tuple(
                RuleCounters(
                    domain=f"{name}/{DOMAIN[name]}",
                    policy="p",
                    direction="ingress",
                    rule=f"rule-of-{DOMAIN[name]}",
                    action="allow",
                    hits=1,
                )
                for name in DOMAIN
            ),
            drops=tuple(
                DropCounters(reason="POLICY", text="", endpoint=path, packets=1, bytes=2)
                for path in (*paths, None)
            ),
        )


class _NodeProtocol(PeerProtocol):
    """Connections that came with node n2's certificate."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer": TlsPeer("n2", "192.0.2.2")}


class _StrangerProtocol(PeerProtocol):
    """Connections over TLS that came without a certificate."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer": TlsPeer(None, "198.51.100.9")}


@dataclass
class Answer:
    status: int
    body: Any
    text: str = field(repr=False)


@dataclass
class World:
    """The served zone."""

    store: Store
    control: AccessControl
    tokens: dict[str, str]
    folder: Path
    start: dict[str, bytes] = field(default_factory=dict)

    async def ask(
        self,
        role: str,
        method: str,
        target: str,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """`role`: of ROLES, a user, `root` over the unix socket, or `stranger` over TLS."""
        door = {"node": "node", "stranger": "stranger"}.get(role, "local")
        sent = {"Content-Type": "application/json", **(headers or {})}
        if role in self.tokens:
            sent["Authorization"] = f"Bearer {self.tokens[role]}"
        path = self.folder / f"{door}.sock"
        return await asyncio.to_thread(_request, path, method, target, body, sent)

    async def marks(self) -> dict[str, str]:
        """What stands in braces in a promise: `{USER}`, the id of its token, and
        `{revision-4}`, the store revision of the change of both tenants."""
        marks = {name: token.split("_")[1] for name, token in self.tokens.items()}
        both = await self.store.get(history_key(4))
        assert both is not None
        return {**marks, "revision-4": str(both.mod_revision)}

    async def state(self) -> dict[str, bytes]:
        """Everything the store holds."""
        return {item.key: item.value for item in (await self.store.list("/plum/")).items}

    async def reset(self) -> None:
        """Back to how it was at the start; revisions go on."""
        now = await self.state()
        writes: list[Put | Delete] = [Delete(key) for key in now.keys() - self.start.keys()]
        writes += [Put(k, v) for k, v in self.start.items() if now.get(k) != v]
        if writes:
            await self.store.commit([], writes)
        (self.folder / "audit.log").unlink(missing_ok=True)
        self.control._audit._repeats = Repeats()

    def audited(self) -> list[dict[str, Any]]:
        path = self.folder / "audit.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _request(path: Path, method: str, target: str, body: object, headers: dict[str, str]) -> Answer:
    connection = Connection(path)
    try:
        payload = None if body is None else json.dumps(body).encode()
        connection.request(method, target, payload, headers)
        response = connection.getresponse()
        text = response.read().decode()
        is_json = response.getheader("Content-Type") == "application/json"
        return Answer(response.status, json.loads(text) if is_json else None, text)
    finally:
        connection.close()


async def template(folder: Path) -> dict[str, str]:
    """Make the zone once, to be copied by `serving`. Returns its tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    store = await open_store(f"sqlite://{folder}/zone.db")
    try:
        return await fill(store)
    finally:
        await store.close()


@asynccontextmanager
async def serving(made: Path, tokens: dict[str, str], folder: Path) -> AsyncIterator[World]:
    """A copy of the zone, served to local users, to nodes and to strangers over TLS."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
    store = await open_store(f"sqlite://{folder}/zone.db")
    app = create_app(Backend(store, LocalNode(), 0.5), "0")
    control = AccessControl(app, Audit(folder / "audit.log"))
    protocols = {"local": PeerProtocol, "node": _NodeProtocol, "stranger": _StrangerProtocol}
    world = World(store, control, tokens, folder)
    world.start = await world.state()
    servers = [_server(control, protocol) for protocol in protocols.values()]
    tasks = []
    for name, server in zip(protocols, servers, strict=True):
        listening = _listen(folder / f"{name}.sock")
        tasks.append(asyncio.create_task(server.serve(sockets=[listening])))
    try:
        while not all(server.started for server in servers):
            await asyncio.sleep(0.005)
        yield world
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
        await store.close()


def _listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen()
    return listening


class _Quiet(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ctrl-C is pytest's."""
        yield


def _server(control: AccessControl, protocol: type[PeerProtocol]) -> uvicorn.Server:
    config: Any = uvicorn.Config(
        control, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False
    )
    return _Quiet(config)
