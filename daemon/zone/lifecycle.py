"""Nodes that are to be emptied, and nodes that go."""

from __future__ import annotations

from daemon.model.node import Role
from daemon.model.object import Kind, Node, Ref
from daemon.model.snapshot import Snapshot
from daemon.store.interface import Delete, Put, Store
from daemon.zone.errors import CONFLICT, NOT_FOUND, ZoneError
from daemon.zone.keys import ROOT
from daemon.zone.plan import Change, Plan, make_plan
from daemon.zone.revision import Verb
from daemon.zone.transact import Result, Work, ZoneState, transact

#: What the store keeps of a node besides its object. Without its certificate no daemon
#: lets it in any more; the others would only be wrong.
BELONGINGS = ("cert", "alive", "status", "liveness", "mesh")


async def cordon(store: Store, name: str, cordoned: bool, *, actor: str) -> Result:
    """Let no new endpoints be placed on the node, or let them again. Raises ZoneError.

    What is there stays and works. It is no part of the node's manifest: applying that
    again does not undo it.
    """

    async def prepare(state: ZoneState) -> Work:
        before = _node(state.snapshot, name)
        after = Node(name=name, spec=before.spec, id=before.id)  # unset: as if it never was
        if cordoned:
            after = after.model_copy(update={"cordoned": True})
        seq = state.counters.seq + 1
        counters = state.counters.model_copy(update={"seq": seq})
        return Work(Plan((Change(_ref(name), before, after),), counters), "")

    verb = Verb.CORDON if cordoned else Verb.UNCORDON
    return await transact(store, prepare, actor=actor, verb=verb)


async def remove(store: Store, name: str, *, actor: str) -> Result:
    """Take the node out of the zone, with all that the store keeps of it. Raises ZoneError.

    Refused while endpoints are on it, and for the last director.
    """

    async def prepare(state: ZoneState) -> Work:
        _check_not_last_director(state.snapshot, _node(state.snapshot, name))
        plan = make_plan(state.snapshot, state.counters, (), [_ref(name)])
        placed = await store.list(f"{ROOT}placement/{name}/")
        keys = [f"{ROOT}{part}/{name}" for part in BELONGINGS]
        writes: list[Put | Delete] = [Delete(key) for key in keys]
        writes += [Delete(item.key) for item in placed.items]
        return Work(plan, "", writes=tuple(writes))

    return await transact(store, prepare, actor=actor, verb=Verb.REMOVE)


def endpoints_on(snapshot: Snapshot, name: str) -> list[str]:
    """Paths of the node's endpoints. Raises ZoneError if there is no such node."""
    _node(snapshot, name)
    return sorted(path for path, item in snapshot.endpoints.items() if item.spec.node == name)


def _check_not_last_director(snapshot: Snapshot, node: Node) -> None:
    if Role.DIRECTOR not in node.spec.roles:
        return
    others = [item for item in snapshot.nodes.values() if item.name != node.name]
    if others and not any(Role.DIRECTOR in item.spec.roles for item in others):
        raise ZoneError(
            f"{node.name} is the last director: without one nobody could change the zone",
            "give another node the role director first",
            code=CONFLICT,
        )


def _node(snapshot: Snapshot, name: str) -> Node:
    node = snapshot.nodes.get(name)
    if node is None:
        raise ZoneError(
            f"there is no node {name}", "see which there are: plumctl get node", code=NOT_FOUND
        )
    return node


def _ref(name: str) -> Ref:
    return Ref(kind=Kind.NODE, name=name)
