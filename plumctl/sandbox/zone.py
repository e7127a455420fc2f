"""Bring the sandbox up and down, and say how it fares."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plumctl.client import Client
from plumctl.errors import ExitCode, PlumError, Problem
from plumctl.sandbox import etcd, process, state
from plumctl.sandbox import fabric as network
from plumctl.sandbox.fabric import Fabric
from plumctl.sandbox.layout import (
    EXTERNAL,
    GATEWAYS,
    MAX_NODES,
    OUTSIDE,
    OUTSIDE_HOSTS,
    OUTSIDE_NETS,
    OUTSIDE_PREFIXES,
    Layout,
    node_names,
    vtep,
)

#: Seconds a plumd has from its start until it answers.
START_TIMEOUT_S = 60.0
_POLL_S = 0.05
_LOG_LINES = 8

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class NodeState:
    name: str
    address: str
    pid: int  # 0: no process
    state: str  # running | silent | dead
    revision: int
    exceptions: int
    socket: Path


def up(layout: Layout, wanted: Fabric, say: Say, *, keep: bool = False) -> bool:
    """Make the zone, or mend the one that is there. True when it was made anew.

    Leftovers of a run that was killed are cleared first. When it fails what was made is
    removed again, unless `keep`.
    """
    if wanted.store == "etcd":
        etcd.need_program()
    with state.locked(layout):
        there = state.read(layout)
        if there is not None and there != wanted and process.processes(layout):
            raise PlumError(
                f"a sandbox of {len(there.nodes)} nodes (IPv{there.family}, MTU "
                f"{there.mtu_bytes}, {there.store}) is up already",
                "take it down first: plumctl sandbox down",
                ExitCode.CONFLICT,
            )
        if there == wanted and _complete(layout, wanted):
            say("looking after the nodes")
            _start_missing(layout, wanted, say)
            return False
        say("clearing what is left of an earlier sandbox")
        _clear(layout)
        try:
            _build(layout, wanted, say)
        except BaseException:  # also Ctrl-C: leave nothing half-made
            if not keep:
                _clear(layout)
            raise
        return True


def down(layout: Layout, say: Say) -> bool:
    """Remove everything of the sandbox. True when there was something."""
    with state.locked(layout):
        say("stopping the nodes")
        return _clear(layout)


def states(layout: Layout) -> list[NodeState]:
    """Every node, also dead ones. Raises PlumError when there is no sandbox."""
    known = state.read(layout)
    if known is None:
        raise no_sandbox()
    pids = {item.node: item.pid for item in process.processes(layout)}
    return [
        _node_state(layout, node, str(vtep(index, known.family)), pids.get(node, 0))
        for index, node in enumerate(known.nodes, start=1)
    ]


def client(layout: Layout) -> Client:
    """A node of the sandbox that answers."""
    for path in layout.sockets():
        found = Client(str(path))
        if _answers(found):
            return found
    raise no_sandbox()


def no_sandbox() -> PlumError:
    return PlumError("no sandbox is up", "bring one up: plumctl sandbox up", ExitCode.NOT_FOUND)


def fabric_for(nodes: int, family: int, mtu_bytes: int, store: str = "sqlite") -> Fabric:
    """The checked wish. Raises PlumError."""
    if not 1 <= nodes <= MAX_NODES:
        raise PlumError(
            f"a sandbox has 1 to {MAX_NODES} nodes, not {nodes}", "use --nodes 3", ExitCode.USAGE
        )
    if family not in (4, 6):
        raise PlumError(
            f"there is no IPv{family} underlay", "use --underlay 4 or 6", ExitCode.USAGE
        )
    if not 1280 <= mtu_bytes <= 65535:
        raise PlumError(
            f"an underlay MTU is 1280 to 65535 bytes, not {mtu_bytes}",
            "use --mtu 1500",
            ExitCode.USAGE,
        )
    if store not in ("sqlite", "etcd"):
        raise PlumError(
            f"there is no store {store!r}", "use --store sqlite or etcd", ExitCode.USAGE
        )
    return Fabric(tuple(node_names(nodes)), family, mtu_bytes, store)


def _build(layout: Layout, wanted: Fabric, say: Say) -> None:
    layout.run_dir.mkdir(mode=0o750, parents=True)
    network.ensure_bpffs()
    say("laying the cables")
    network.build(layout, wanted)
    _start_missing(layout, wanted, say)
    say("telling the zone of its nodes")
    client(layout).apply(
        [
            {
                "kind": "node",
                "name": node,
                "spec": {
                    "vtep": str(vtep(index, wanted.family)),
                    "underlay_mtu": wanted.mtu_bytes,
                    "roles": ["director", "edge", "gateway"],
                },
            }
            for index, node in enumerate(wanted.nodes, start=1)
        ]
        + [external(wanted)],
        comment="sandbox up",
    )
    state.write(layout, wanted)


def external(wanted: Fabric) -> dict[str, object]:
    """The network outside: the first nodes are its gateways."""
    hosts = [str(host.ip) for host in OUTSIDE_HOSTS]
    return {
        "kind": "external",
        "name": EXTERNAL,
        "spec": {
            "description": "the sandbox's outside: plumctl sandbox outside -- COMMAND",
            "gateways": [
                {
                    "node": node,
                    "device": OUTSIDE,
                    "addresses": [f"{net[index]}/{net.prefixlen}" for net in OUTSIDE_NETS],
                }
                for index, node in enumerate(wanted.nodes[:GATEWAYS], start=1)
            ],
            "routes": [
                {"to": "0.0.0.0/0", "via": hosts[:1]},
                {"to": "::/0", "via": hosts[1:]},
            ],
            "nat": ["198.51.100.64/30", "2001:db8:51::100/126"],
            "floating": ["198.51.100.128/27", "2001:db8:51::200/120", str(OUTSIDE_PREFIXES)],
            "blocks_per_node": 2,
        },
    }


def _start_missing(layout: Layout, wanted: Fabric, say: Say) -> None:
    """Start what is not running, and wait until every node answers."""
    running = {item.node for item in process.processes(layout)}
    if wanted.store == "etcd":
        etcd.make_certificates(layout, wanted)
    for node in etcd.members(wanted):
        if process.member_name(node) not in running:
            process.start_member(layout, node, etcd.command(layout, wanted, node))
    for node in wanted.nodes:
        if node not in running:
            layout.socket(node).unlink(missing_ok=True)
            process.start_plumd(layout, node, _store(layout, wanted, node))
    deadline = time.monotonic() + START_TIMEOUT_S
    for node in wanted.nodes:
        say(f"waiting for {node}")
        _await_answer(layout, node, deadline)


def _store(layout: Layout, wanted: Fabric, node: str) -> str:
    if wanted.store == "etcd":
        return etcd.url(layout, wanted, node)
    return f"sqlite://{layout.store}"


def _await_answer(layout: Layout, node: str, deadline: float) -> None:
    one = Client(str(layout.socket(node)))
    while not _answers(one):
        alive = any(item.node == node for item in process.processes(layout))
        if not alive or time.monotonic() > deadline:
            what = "ended at once" if not alive else f"does not answer in {START_TIMEOUT_S:g} s"
            raise PlumError(
                f"plumd of {node} {what}",
                "the end of its log is above; `plumctl sandbox up --keep` leaves all of it in "
                f"{layout.log(node)}",
                problems=_log_end(layout.log(node)),
            )
        time.sleep(_POLL_S)


def _answers(one: Client) -> bool:
    try:
        one.status()
    except PlumError as error:
        if error.exit_code in (ExitCode.UNREACHABLE, ExitCode.TIMED_OUT):
            return False
        raise
    return True


def _log_end(log: Path) -> tuple[Problem, ...]:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(Problem("", line) for line in lines[-_LOG_LINES:])


def _node_state(layout: Layout, node: str, address: str, pid: int) -> NodeState:
    socket = layout.socket(node)
    if not pid:
        return NodeState(node, address, 0, "dead", 0, 0, socket)
    try:
        answer = Client(str(socket), timeout_s=2).status()
    except PlumError:
        return NodeState(node, address, pid, "silent", 0, 0, socket)
    exceptions = len(answer.exceptions)
    return NodeState(node, address, pid, "running", answer.revision, exceptions, socket)


def _complete(layout: Layout, wanted: Fabric) -> bool:
    """Whether the network of the sandbox is whole and only processes may be missing."""
    known = set(network.namespaces())
    return all(name in known for name in _own_namespaces(layout, wanted.nodes))


def _own_namespaces(layout: Layout, nodes: tuple[str, ...] | list[str]) -> list[str]:
    return [layout.fabric, layout.outside, *(layout.namespace(node) for node in nodes)]


def _clear(layout: Layout) -> bool:
    """Remove processes, namespaces, pins, sockets and the store, in that order."""
    found = process.processes(layout)
    process.stop(layout, found)
    known = set(network.namespaces())
    own = [name for name in _own_namespaces(layout, node_names(MAX_NODES)) if name in known]
    workloads = [
        name for node in node_names(MAX_NODES) for name in network.workload_namespaces(layout, node)
    ]
    network.remove([*workloads, *own])
    folders = [layout.pin_dir, layout.run_dir, layout.store_dir]
    there = [folder for folder in folders if folder.exists()]
    for folder in there:
        shutil.rmtree(folder)
    return bool(found or own or there)
