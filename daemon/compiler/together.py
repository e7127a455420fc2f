"""The tables of a node, put together from those of its domains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from daemon.compiler.domain import DomainRows
from daemon.compiler.order import APPLY_ORDER
from daemon.compiler.result import Names, Packed, Rows

K = TypeVar("K")
V = TypeVar("V")

#: Large, and keyed by the domain's own ids: what one domain gives up no other one has.
#: Rows named by content may be several domains'.
_OWN = frozenset({"plum_host", "plum_mac"})


@dataclass(frozen=True, slots=True)
class Together:
    """Tables are never changed once they are here: the next ones may share them."""

    parts: Mapping[str, DomainRows]  # by domain path
    rows: Rows
    packed: Packed


NOTHING = Together({}, {name: {} for name in APPLY_ORDER}, {name: {} for name in APPLY_ORDER})


def put_together(parts: Mapping[str, DomainRows], before: Together) -> Together:
    """The tables of these domains. What is as it was `before` is not copied again."""
    rows: Rows = {}
    packed: Packed = {}
    old = before.parts
    for name in APPLY_ORDER:
        differ = [
            path
            for path in {**old, **parts}
            if path not in old
            or path not in parts
            or old[path].packed.get(name) is not parts[path].packed.get(name)
        ]
        if not differ:
            rows[name], packed[name] = before.rows[name], before.packed[name]
            continue
        few = name in _OWN and 2 * len(differ) < len(parts)
        chosen = differ if few else None
        rows[name] = _merge(
            {path: part.rows.get(name, {}) for path, part in old.items()},
            {path: part.rows.get(name, {}) for path, part in parts.items()},
            before.rows[name],
            chosen,
        )
        packed[name] = _merge(
            {path: part.packed.get(name, {}) for path, part in old.items()},
            {path: part.packed.get(name, {}) for path, part in parts.items()},
            before.packed[name],
            chosen,
        )
    return Together(dict(parts), rows, packed)


def _merge(
    old: Mapping[str, dict[K, V]],
    new: Mapping[str, dict[K, V]],
    before: dict[K, V],
    differ: list[str] | None,
) -> dict[K, V]:
    """All of `new`; if only a few `differ`, by exchanging those in a copy of `before`."""
    if differ is None:
        some = [table for table in new.values() if table]
        if len(some) == 1:
            return some[0]
        merged: dict[K, V] = {}
        for table in some:
            merged.update(table)
        return merged
    merged = dict(before)
    for path in differ:
        for key in old.get(path, {}):
            del merged[key]
    for path in differ:
        merged.update(new.get(path, {}))
    return merged


def names_together(parts: Mapping[str, DomainRows], nodes: dict[int, str]) -> Names:
    names = Names(nodes=nodes)
    for part in parts.values():
        names.rules.update(part.names.rules)
        names.slots.update(part.names.slots)
        names.domains.update(part.names.domains)
        names.bridges.update(part.names.bridges)
        names.routers.update(part.names.routers)
    return names
