"""The zone a run works on: what carries the traffic, what clients change, what marks time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from daemon.model.derive import default_namespace
from tests.faults import api_client
from tests.faults.history import Action, Cell, Outcome, Recorder
from tests.faults.history import plain as plain_cells
from tests.faults.traffic import OPEN, Flow

if TYPE_CHECKING:
    from tests.faults.arena import Arena

Document = dict[str, Any]
STEADY, MARK = "steady", "mark"


def build(arena: Arena) -> list[Flow]:
    """Apply it all, wait until it is programmed, and say which flows there are."""
    client = arena.client(arena.nodes[0], 30)
    documents = [
        {"kind": "tenant", "name": arena.tenant},
        *_steady(arena.tenant, arena.nodes),
        *(api_client.domain(arena.tenant, name, "first") for name in api_client.DOMAINS),
        *mark(arena, "first"),
    ]
    record = Recorder(arena.folder / "history-topology.jsonl", "topology")
    cells = [cell_of(document) for document in documents[1:]]
    number = record.begin(Action.COMMIT, writes=plain_cells(cells))
    applied = client.apply(documents)
    record.end(number, Outcome.OK, revision=applied.revision)
    record.close()
    waited = client.wait(applied.revision, 30)
    if not waited.done:
        raise RuntimeError(f"the topology is not programmed: {waited.missing}")
    return _flows(arena.tenant, arena.nodes)


def plain(flows: Sequence[Flow]) -> bytes:
    return json.dumps([flow.plain() for flow in flows]).encode() + b"\n"


def mark(arena: Arena, token: str) -> list[Document]:
    """A change that concerns every node and disturbs nobody."""
    domain = api_client.domain(arena.tenant, MARK, token)
    endpoints = [
        api_client.endpoint(arena.tenant, MARK, f"on-{node}", token, node) for node in arena.nodes
    ]
    return [domain, *endpoints]


def cell_of(document: Document) -> Cell:
    """What a manifest writes, as the history has it."""
    spec = document["spec"]
    token = spec.get("labels", {}).get("token") or spec["description"]
    path = (document["tenant"], spec.get("domain"), document["name"])
    return Cell(api_client.key_of(document["kind"], "/".join(filter(None, path))), token)


def _steady(tenant: str, nodes: Sequence[str]) -> list[Document]:
    """A routed domain where one port is open, and one endpoint a bridge on each node."""
    allowed = [
        {"name": "tcp", "protocol": "tcp", "ports": [OPEN]},
        {"name": "udp", "protocol": "udp", "ports": [OPEN]},
        {"name": "ping", "protocol": "icmp", "icmp_type": 8},
    ]
    spec = {
        "description": "first",
        "default": {},
        "bridges": [
            {"name": name, "subnets": [f"10.90.{n}.0/24"]}
            for n, name in ((1, "left"), (2, "right"))
        ],
        "routers": [
            {
                "name": "gw",
                "interfaces": [
                    {"bridge": name, "addresses": [f"10.90.{n}.1/24"]}
                    for n, name in ((1, "left"), (2, "right"))
                ],
            }
        ],
        "policies": [{"name": "in", "ingress": allowed}],
    }
    domain = {"kind": "domain", "tenant": tenant, "name": STEADY, "spec": spec}
    endpoints = [
        {
            "kind": "endpoint",
            "tenant": tenant,
            "name": f"{bridge}-{node}",
            "spec": {
                "domain": STEADY,
                "bridge": bridge,
                "node": node,
                "addresses": [f"10.90.{n}.{index + 10}"],
                "labels": {"token": "first"},
            },
        }
        for index, node in enumerate(nodes)
        for n, bridge in ((1, "left"), (2, "right"))
    ]
    return [domain, *endpoints]


def _flows(tenant: str, nodes: Sequence[str]) -> list[Flow]:
    """Round the nodes, bridged and routed by turns, and one that stays on its node."""

    def flow(client: tuple[str, int], server: tuple[str, int]) -> Flow:
        names = [f"{bridge}-{nodes[index]}" for bridge, index in (client, server)]
        third = 1 if server[0] == "left" else 2
        return Flow(
            f"{names[0]} to {names[1]}",
            default_namespace(tenant, STEADY, names[0]),
            default_namespace(tenant, STEADY, names[1]),
            f"10.90.{third}.{server[1] + 10}",
            (nodes[client[1]], nodes[server[1]]),
        )

    around = [
        flow(("left", index), ("left" if index % 2 else "right", (index + 1) % len(nodes)))
        for index in range(len(nodes))
    ]
    return [*around, flow(("left", 0), ("right", 0))]
