"""What to write so that the kernel holds what was compiled, in which order. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from daemon.abi import Ep
from daemon.compiler.order import APPLY_ORDER
from daemon.reconcile.tables import EP, Tables


@dataclass(frozen=True, slots=True)
class Write:
    """Rows to make or change."""

    table: str
    rows: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Erase:
    """Keys to take away; a row of an array becomes zeros, which counts as absent."""

    table: str
    keys: tuple[bytes, ...]


Op = Write | Erase


def plan(desired: Tables, actual: Tables) -> list[Op]:
    """Operations in the order of execution. Safe to break off after any, and to repeat.

    First the endpoints that go away are closed, so that a slot that gets a new
    owner never serves two. Then rows are made, referred-to before referring;
    then the superfluous ones go, referring before referred-to.
    """
    return [*_close(desired, actual), *_make(desired, actual), *_sweep(desired, actual)]


def _close(desired: Tables, actual: Tables) -> Iterator[Op]:
    wanted = desired.get(EP, {})
    going = tuple(
        key
        for key, value in actual.get(EP, {}).items()
        if key not in wanted or not _same_owner(wanted[key], value)
    )
    if going:
        yield Erase(EP, going)


def _same_owner(one: bytes, other: bytes) -> bool:
    first, second = Ep.unpack(one), Ep.unpack(other)
    return (first.id, first.slot) == (second.id, second.slot)


def _make(desired: Tables, actual: Tables) -> Iterator[Op]:
    for table in APPLY_ORDER:
        held = actual.get(table, {})
        rows = {
            key: value for key, value in desired.get(table, {}).items() if held.get(key) != value
        }
        if rows:
            yield Write(table, rows)


def _sweep(desired: Tables, actual: Tables) -> Iterator[Op]:
    for table in reversed(APPLY_ORDER):
        wanted = desired.get(table, {})
        gone = tuple(key for key in actual.get(table, {}) if key not in wanted)
        if not gone or table == EP:  # endpoints are closed first of all
            continue
        yield Erase(table, gone)


def perform(op: Op, tables: Tables) -> None:
    """The same operation on tables in memory, after the kernel has taken it."""
    held = tables.setdefault(op.table, {})
    match op:
        case Write():
            held.update(op.rows)
        case Erase():
            for key in op.keys:
                held.pop(key, None)


def summary(ops: list[Op]) -> dict[str, int]:
    """Rows by table, for the log."""
    counts: dict[str, int] = {}
    for op in ops:
        size = len(op.rows) if isinstance(op, Write) else len(op.keys)
        counts[op.table] = counts.get(op.table, 0) + size
    return counts
