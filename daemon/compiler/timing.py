"""Rules that count at certain times only: which sleep now, and when that changes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from daemon.compiler.tiers import Standing
from daemon.model.schedule import Window, is_open, next_edge

#: Paths of rules (`policy.rule_path`) with their windows.
Timed = tuple[tuple[str, tuple[Window, ...]], ...]


def timed(policies: Iterable[Standing]) -> Timed:
    """Of the rules that have any."""
    return tuple(
        (f"{policy.name}/{direction}/{rule.name}", rule.active)
        for policy in policies
        for direction, rules in (("ingress", policy.ingress), ("egress", policy.egress))
        for rule in rules
        if rule.active
    )


def asleep(rules: Timed, moment: datetime) -> frozenset[str]:
    return frozenset(path for path, windows in rules if not is_open(windows, moment))


def first_edge(rules: Timed, moment: datetime) -> datetime | None:
    edges = (next_edge(windows, moment) for _, windows in rules)
    return min((edge for edge in edges if edge is not None), default=None)
