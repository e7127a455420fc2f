"""Counters of this node's kernel, under the names of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from daemon.abi import (
    DROP_SLOT_NODE,
    DROP_TEXT,
    Drop,
    DropKey,
    DropStat,
    EpStat,
    Index,
    Quota,
    RuleKey,
    RuleStat,
)
from daemon.compiler.result import Names
from daemon.compiler.tiers import Standing, concerning, everything
from daemon.model.snapshot import Snapshot

Lookup = Callable[[str, bytes], bytes | None]
Dump = Callable[[str], Mapping[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class EndpointCount:
    path: str
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    drop_packets: int
    flows: int


@dataclass(frozen=True, slots=True)
class RuleCount:
    domain: str
    policy: str | None  # None: the domain's default
    direction: str | None
    rule: str
    action: str
    hits: int


@dataclass(frozen=True, slots=True)
class DropCount:
    reason: str
    text: str
    endpoint: str | None
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Counts:
    endpoints: tuple[EndpointCount, ...]
    rules: tuple[RuleCount, ...]
    drops: tuple[DropCount, ...]


def read_counts(names: Names, snapshot: Snapshot, lookup: Lookup, dump: Dump) -> Counts:
    """Blocking: one lookup or two for each endpoint, and a dump for rules and drops."""
    drops = {DropKey.unpack(k): DropStat.unpack(v) for k, v in dump("plum_drop").items()}
    lost: dict[int, int] = {}
    for key, stat in drops.items():
        lost[key.slot] = lost.get(key.slot, 0) + stat.packets
    hits = {RuleKey.unpack(k): RuleStat.unpack(v).hits for k, v in dump("plum_rule_stat").items()}
    return Counts(
        tuple(
            _endpoint(slot, path, lost.get(slot, 0), lookup)
            for slot, path in sorted(names.slots.items(), key=lambda pair: pair[1])
        ),
        tuple(_rules(names, snapshot, hits)),
        tuple(_drops(names, drops)),
    )


def _endpoint(slot: int, path: str, lost: int, lookup: Lookup) -> EndpointCount:
    key = Index(slot).pack()
    raw, quota = lookup("plum_ep_stat", key), lookup("plum_quota", key)
    stat = EpStat.unpack(raw) if raw else EpStat(0, 0, 0, 0)
    return EndpointCount(
        path,
        stat.rx_packets,
        stat.rx_bytes,
        stat.tx_packets,
        stat.tx_bytes,
        lost,
        Quota.unpack(quota).flows if quota else 0,
    )


def _rules(names: Names, snapshot: Snapshot, hits: Mapping[RuleKey, int]) -> Iterator[RuleCount]:
    """Every rule of the domains here, also those nobody met; then defaults that were met."""
    ids = {path: number for number, path in names.domains.items()}
    actions = {
        path: _actions(everything(domain, concerning(snapshot.admin_policies.values(), path)))
        for path, domain in snapshot.domains.items()
        if path in ids
    }
    for rule, (domain, text) in sorted(names.rules.items(), key=lambda pair: pair[1]):
        policy, direction, name = text.split("/", 2)
        action = actions.get(domain, {}).get(text, "")
        count = hits.get(RuleKey(rule, ids.get(domain, 0)), 0)
        yield RuleCount(domain, policy, direction, name, action, count)
    for domain, number in sorted(ids.items()):
        if count := hits.get(RuleKey(0, number), 0):
            yield RuleCount(domain, None, None, "default", "default", count)


def _actions(policies: Iterable[Standing]) -> dict[str, str]:
    return {
        f"{policy.name}/{direction}/{rule.name}": str(rule.action)
        for policy in policies
        for direction, rules in (("ingress", policy.ingress), ("egress", policy.egress))
        for rule in rules
    }


def _drops(names: Names, drops: Mapping[DropKey, DropStat]) -> Iterator[DropCount]:
    for key, stat in sorted(drops.items()):
        if key.slot != DROP_SLOT_NODE and key.slot not in names.slots:
            continue  # of an endpoint that is gone
        known = key.reason in Drop.__members__.values()
        reason = Drop(key.reason) if known else None
        yield DropCount(
            reason.name if reason is not None else f"REASON_{key.reason}",
            DROP_TEXT.get(reason, "") if reason is not None else "",
            names.slots.get(key.slot),
            stat.packets,
            stat.bytes,
        )
