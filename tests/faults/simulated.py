"""A correct store and careless clients, in one process and without a clock: what they
would have recorded. The checker must accept every such history."""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass, field

from tests.faults.history import Action, Cell, Heard, History, Op, Outcome, Watched

PREFIX = "/r/"
KEYS = [f"{PREFIX}{name}" for name in "abc"]


@dataclass
class Model:
    """What the store is, revision by revision."""

    revision: int = 0
    items: dict[str, Cell] = field(default_factory=dict)
    told: list[Heard] = field(default_factory=list)

    def mod(self, key: str) -> int:
        return self.items[key].mod_revision if key in self.items else 0

    def write(self, at_s: float, cell: Cell) -> int:
        if cell.token is None and cell.key not in self.items:
            return self.revision
        self.revision += 1
        self.items.pop(cell.key, None)
        if cell.token is not None:
            self.items[cell.key] = dataclasses.replace(cell, mod_revision=self.revision)
        told = dataclasses.replace(cell, mod_revision=self.revision)
        self.told.append(Heard(at_s, self.revision, (told,)))
        return self.revision

    def found(self) -> tuple[Cell, ...]:
        return tuple(sorted(self.items.values(), key=lambda cell: cell.key))


def run(choose: random.Random, clients: int, steps: int) -> History:
    """Each operation takes effect at a moment between its beginning and its end, an unknown
    one at any moment after its beginning, or never."""
    model, history = Model(), History()
    plans = []
    free = [0.0] * clients
    for number in range(steps):
        client = choose.randrange(clients)
        began = free[client] + choose.random()
        effect = began + choose.random()
        ended = effect + choose.random()
        unknown = choose.random() < 0.15
        if unknown:
            effect, ended = began + choose.expovariate(0.2), math.inf
        free[client] = began + 1 if unknown else ended
        plans.append((effect, number, client, began, ended, unknown))
    known = dict.fromkeys(KEYS, 0)  # what clients last heard: compares are guesses
    for effect, number, client, began, ended, unknown in sorted(plans):
        op = _operate(choose, model, known, effect, f"t{number}", unknown)
        if op is not None:
            process = f"p{client}"
            timed = dataclasses.replace(op, process=process, began_s=began, ended_s=ended)
            history.ops.append(timed)
    _read_all(model, history)
    history.ops.sort(key=lambda op: op.began_s)
    if choose.random() < 0.7:
        first = Heard(-1, 0, (), listed=True)
        history.watches.append(Watched("w", PREFIX, (first, *model.told)))
    return history


def _operate(
    choose: random.Random,
    model: Model,
    known: dict[str, int],
    at_s: float,
    token: str,
    unknown: bool,
) -> Op | None:
    key = choose.choice(KEYS)
    kind = choose.choice(["get", "list", "put", "put", "cas", "cas", "delete"])
    if kind in ("get", "list"):
        if unknown:
            return None
        if kind == "list":
            return Op(
                "", Action.LIST, 0, 0, Outcome.OK, model.revision, scope=PREFIX, found=model.found()
            )
        known[key] = model.mod(key)
        found = (model.items[key],) if key in model.items else ()
        return Op("", Action.GET, 0, 0, Outcome.OK, scope=key, found=found)
    compares = () if kind == "put" else ((key, known[key]),)
    if kind == "delete" and not known[key]:
        return None  # deleting what is absent takes no revision, and proves nothing
    writes = (Cell(key, None if kind == "delete" else token),)
    holds = all(model.mod(one) == revision for one, revision in compares)
    happens = holds and not (unknown and choose.random() < 0.5)
    if happens:
        model.write(at_s, writes[0])
    if unknown:
        return Op("", Action.COMMIT, 0, 0, Outcome.UNKNOWN, compares=compares, writes=writes)
    if happens:
        known[key] = model.mod(key)
    outcome = Outcome.OK if happens else Outcome.REFUSED
    return Op("", Action.COMMIT, 0, 0, outcome, model.revision, compares=compares, writes=writes)


def _read_all(model: Model, history: History) -> None:
    """As the suite does at the end: an acknowledged write nobody reads cannot be missed."""
    late = max((op.ended_s for op in history.ops if op.done), default=0.0) + 1000
    history.ops.append(
        Op(
            "end",
            Action.LIST,
            late,
            late + 1,
            Outcome.OK,
            model.revision,
            scope=PREFIX,
            found=model.found(),
        )
    )


def without_a_trace(history: History) -> History:
    """The same, but one more write was acknowledged that changed nothing."""
    last = max(history.ops, key=lambda op: op.began_s)
    extra = Op(
        "px",
        Action.COMMIT,
        last.began_s - 2,
        last.began_s - 1,
        Outcome.OK,
        last.revision + 1,
        writes=(Cell(KEYS[0], "lost"),),
    )
    return dataclasses.replace(history, ops=[*history.ops, extra])
