"""Counters of other nodes: over their sockets, in time, or named as unreachable."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from daemon.api.access import AccessControl
from daemon.api.app import create_app
from daemon.api.audit import Audit
from daemon.api.backend import Backend
from daemon.api.listen import Listener
from daemon.api.server import ApiServer
from daemon.reconcile.status import NodeStatus, status_key
from daemon.store.interface import Put
from tests.api.conftest import Api, LocalNode


async def report(api: Api, node: str, url: str) -> None:
    status = NodeStatus(node=node, applied_revision=1, api=url)
    await api.store.commit([], [Put(status_key(node), status.model_dump_json().encode())])


@pytest.mark.asyncio
async def test_every_node_is_asked_and_the_unreachable_are_named(api: Api, tmp_path: Path) -> None:
    nodes = [
        {"kind": "node", "name": f"n{n}", "spec": {"vtep": f"192.0.2.{n}"}} for n in range(1, 6)
    ]
    await api.apply(*nodes)
    second = Listener(tmp_path / "two" / "plumd.sock")
    app = create_app(Backend(api.store, LocalNode("n2")), "0")
    server = ApiServer(AccessControl(app, Audit(tmp_path / "two.log")), second)
    serving = asyncio.create_task(server.serve())
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(str(tmp_path / "silent.sock"))
    silent.listen()
    try:
        await report(api, "n2", f"unix://{second.path}")
        await report(api, "n3", f"unix://{tmp_path}/gone.sock")
        await report(api, "n4", f"unix://{tmp_path}/silent.sock")
        started = time.monotonic()
        status, answer = await api.ask("GET", "/v1/counters")
        assert time.monotonic() - started < 3
        assert status == 200
        counters = answer["nodes"]
        assert counters["n1"]["endpoints"][0]["path"] == "acme/shop/n1"
        assert counters["n2"]["endpoints"][0]["path"] == "acme/shop/n2"
        assert "No such file" in counters["n3"]["error"]
        assert "no answer" in counters["n4"]["error"]
        assert "reported" in counters["n5"]["error"]
        one = (await api.ask("GET", "/v1/nodes/n2/counters"))[1]
        assert one["endpoints"][0]["rx_bytes"] == 2
    finally:
        silent.close()
        server.stop()
        await serving
