"""Policies as plum_verdict and plum_span hold them.

The policy set of an endpoint and direction is the rules of every policy that
applies to it, in the order of the policies and then of their rules; the place
of a rule in it is its `order`, and the first rule that matches decides.

Rules with peers absent go to rows of class 0 ("any"), rules with peers to rows
of every class that holds one of the peers' atoms (`peers.py`). The kernel reads
the span of the packet's port in both rows, and the lower `order` decides; spans
nobody claims have the highest.

Tiers (`tiers.py`) follow one another in that order, until a rule passes: what stands
below it in its tier must then not decide, though it has the lower order. In sets with
such a rule the row of a class is complete, down to the default, and so comes before
class 0, whose orders are all higher. A list of spans is made for each (set, class,
protocol) that has a rule at all.

What a rule matches:
- protocol absent: all six of `policy_proto`. Numbers 6, 17, 132, 1 and 58 mean
  tcp, udp, sctp, icmp and icmp6; every other number is PROTO_OTHER and its
  "port" is that number.
- ports: with tcp, udp and sctp; icmp_type and icmp_code: with icmp and icmp6. A
  rule that asks for a field does not match a protocol that lacks it. A code
  without a type matches that code of every type.
- peers: an empty list, an unknown group, and a peer that names both a group and
  a CIDR or neither match nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from struct import pack
from typing import NamedTuple

from daemon.abi import PolicyAction, PolicyProto, Span, SpanKey, Verdict, VerdictKey
from daemon.compiler.errors import CompileError
from daemon.compiler.identity import content_id, text_id
from daemon.compiler.passing import for_anybody, for_class
from daemon.compiler.peers import Atoms, cidr_atom, group_atom
from daemon.compiler.result import Table
from daemon.compiler.spans import LAST_PORT, NO_ORDER, Claim, first_match
from daemon.compiler.tiers import Standing, peer_group
from daemon.compiler.wide import wide_prefix
from daemon.model.admin import AdminPeer
from daemon.model.policy import Match, Peer, PolicyDefault

#: Rows one domain may ask of plum_span and plum_verdict together.
MAX_ROWS = 500_000
#: Spans read while lists are merged: bounds time where rows stay few.
MAX_MERGED = 2_000_000

#: Connections: more than any endpoint's quota.
UNLIMITED = 0xFFFFFFFF

_BY_NUMBER = {6: "tcp", 17: "udp", 132: "sctp", 1: "icmp", 58: "icmp6"}
_PORTS = {"tcp": PolicyProto.TCP, "udp": PolicyProto.UDP, "sctp": PolicyProto.SCTP}
_ICMP = {"icmp": PolicyProto.ICMP, "icmp6": PolicyProto.ICMP6}
_ALL = tuple(int(proto) for proto in PolicyProto)

#: What a rule that passes decides here is nothing (`passing.py`).
_ACTIONS = {
    "allow": PolicyAction.ALLOW.value,
    "deny": PolicyAction.DENY.value,
    "pass": PolicyAction.NONE.value,
}

Interval = tuple[int, int]
#: Class and protocol -> list of spans and its length.
SetRows = dict[tuple[int, int], tuple[int, int]]


class ClaimList:
    """Disjoint claims, and what is worked out of them once."""

    __slots__ = ("claims", "members", "row")

    def __init__(self, claims: tuple[Claim, ...]) -> None:
        self.claims = claims
        self.members: frozenset[Claim] | None = None
        self.row: tuple[int, int] | None = None  # list id and number of spans

    def __contains__(self, claim: Claim) -> bool:
        if self.members is None:
            self.members = frozenset(self.claims)
        return claim in self.members


#: By protocol: the first match among the rules of one atom, or for anybody.
Claims = dict[int, ClaimList]


def rule_path(policy: Standing, direction: str, rule: Match) -> str:
    return f"{policy.name}/{direction}/{rule.name}"


def rule_id(domain: str, path: str) -> int:
    """Id of a rule for counters and traces: it stays when the rule's content changes."""
    return text_id("rule", (domain, path))


def icmp_intervals(rule: Match) -> list[Interval]:
    """Types and codes as intervals of type << 8 | code."""
    kind, code = rule.icmp_type, rule.icmp_code
    if kind is None and code is None:
        return [(0, LAST_PORT)]
    if code is None:
        return [(kind << 8, kind << 8 | 0xFF)] if kind is not None else []
    types = range(256) if kind is None else (kind,)
    return [(value << 8 | code, value << 8 | code) for value in types]


def intervals(rule: Match) -> dict[int, list[Interval]]:
    """Protocol of the maps -> the intervals of its "port" that the rule matches."""
    protocol = rule.protocol
    if protocol is not None and protocol.isdigit():
        number = int(protocol)
        if number not in _BY_NUMBER:
            free = not rule.ports and rule.icmp_type is None and rule.icmp_code is None
            return {int(PolicyProto.OTHER): [(number, number)]} if free else {}
        protocol = _BY_NUMBER[number]
    protos = _ALL
    if protocol is not None:
        protos = (int(_PORTS.get(protocol) or _ICMP[protocol]),)
    with_icmp = rule.icmp_type is not None or rule.icmp_code is not None
    result = {}
    for proto in protos:
        if rule.ports:
            if proto not in _PORTS.values() or with_icmp:
                continue
            result[proto] = [(p.first, p.last) for p in rule.ports if p.first <= p.last]
        elif with_icmp:
            if proto in _ICMP.values():
                result[proto] = icmp_intervals(rule)
        else:
            result[proto] = [(0, LAST_PORT)]
    return result


def peer_atom(peer: Peer | AdminPeer) -> str | None:
    group = peer_group(peer)
    if group is not None and peer.cidr is None:
        return group_atom(group)
    if peer.cidr is not None and group is None:
        return cidr_atom(wide_prefix(peer.cidr))
    return None


def log_code(rule: Match) -> int:
    """As plum_span has it: 0 off, else one in 2 ** (code - 1)."""
    return rule.log.sample.bit_length() if rule.log is not None else 0


class CompiledRule(NamedTuple):
    """A rule, its place left open: that differs by set."""

    id: int
    tier: int
    action: int
    atoms: tuple[str, ...] | None  # None: anybody
    intervals: dict[int, list[Interval]]
    log: int


class Policies:
    """Policy sets of one domain; `verdicts`, `spans` and `rules` grow with each new one."""

    def __init__(
        self,
        domain: str,
        policies: Sequence[Standing],
        classes: Mapping[int, Atoms],
        default: PolicyDefault,
        asleep: frozenset[str] = frozenset(),
    ) -> None:
        """`classes` must be complete: every class any row of the domain holds. `asleep`:
        paths of rules that do not count at the time."""
        self.verdicts: Table = {}
        self.spans: Table = {}
        self.rules: dict[int, tuple[str, str]] = {}
        self._domain = domain
        self._classes = classes
        self._asleep = asleep
        self._limits = [policy.max_connections for policy in policies]
        self._by_atom: dict[str, list[int]] = {}
        for number, atoms in classes.items():
            for atom in atoms:
                self._by_atom.setdefault(atom, []).append(number)
        self._policies = [
            (p.applies_to, {True: self._rules(p, "ingress"), False: self._rules(p, "egress")})
            for p in policies
        ]
        self._sets: dict[tuple[bool, tuple[int, ...]], int] = {}
        self._lists: dict[tuple[Claim, ...], tuple[int, int]] = {}
        self._merged = 0
        self._default = {True: _ACTIONS[default.ingress], False: _ACTIONS[default.egress]}

    def _rules(self, policy: Standing, direction: str) -> list[CompiledRule]:
        result = []
        for rule in policy.ingress if direction == "ingress" else policy.egress:
            path = rule_path(policy, direction, rule)
            number = rule_id(self._domain, path)
            self.rules[number] = (self._domain, path)
            if path in self._asleep:
                continue
            action = _ACTIONS[rule.action]
            atoms = None
            if rule.peers is not None:
                found = (peer_atom(peer) for peer in rule.peers)
                atoms = tuple(sorted({atom for atom in found if atom is not None}))
            result.append(
                CompiledRule(number, policy.tier, action, atoms, intervals(rule), log_code(rule))
            )
        return result

    def set_id(self, ingress: bool, groups: frozenset[str]) -> int:
        """Set of an endpoint that is in `groups`; its rows are made on first use.

        0 if no rule of the set can match anything: the default decides.
        """
        applying = self.applying(groups)
        key = (ingress, applying)
        if key not in self._sets:
            rules = [rule for i in applying for rule in self._policies[i][1][ingress]]
            self._sets[key] = self._compile(rules, self._default[ingress])
        return self._sets[key]

    def gate(self, one: Standing) -> tuple[int, int]:
        """Sets of a router's interface, `ingress` and `egress`."""
        ways = {True: "ingress", False: "egress"}
        found = {way: self._compile(self._rules(one, ways[way]), 0) for way in ways}
        return found[True], found[False]

    def limit(self, groups: frozenset[str]) -> int:
        """Connections that who is in `groups` may hold, as far as policies say."""
        limits = (self._limits[index] for index in self.applying(groups))
        return min((limit for limit in limits if limit is not None), default=UNLIMITED)

    def applying(self, groups: frozenset[str]) -> tuple[int, ...]:
        """Which policies apply to who is in `groups`, by their place."""
        return tuple(
            index
            for index, (applies_to, _) in enumerate(self._policies)
            if applies_to is None or applies_to in groups
        )

    def _compile(self, rules: Sequence[CompiledRule], default: int) -> int:
        if any(rule.action == PolicyAction.NONE for rule in rules):
            rows = self._passing(rules, default)
        else:
            rows = self._plain(rules)
        if not rows:
            return 0
        content = sorted((*where, *what) for where, what in rows.items())
        number = content_id("set", *(pack("<QIQI", *row) for row in content))
        for peer_class, proto, spans, count in content:
            self.verdicts[VerdictKey(number, peer_class, proto)] = Verdict(spans, count)
        return number

    def _passing(self, rules: Sequence[CompiledRule], default: int) -> SetRows:
        places = [list(group) for _, group in groupby(enumerate(rules), lambda one: one[1].tier)]
        tiers = [_raw_claims(tier) for tier in places]
        found = for_anybody(tiers)
        rows: SetRows = {(0, p): self._list(ClaimList(some)) for p, some in found.items()}
        atoms = {atom for _, by_atom in tiers for atom in by_atom}
        for number in sorted({n for atom in atoms for n in self._by_atom.get(atom, ())}):
            for proto, some in for_class(tiers, self._classes[number], default).items():
                self._merged += len(some)
                rows[number, proto] = self._list(ClaimList(some))
            self._check(len(rows))
        return rows

    def _plain(self, rules: Sequence[CompiledRule]) -> SetRows:
        anybody, by_atom = _claims(rules)
        rows: SetRows = {}
        for proto, claims in anybody.items():
            rows[0, proto] = self._list(claims)
        for number in sorted({n for atom in by_atom for n in self._by_atom.get(atom, ())}):
            atoms = self._classes[number]
            if len(atoms) > len(by_atom):
                named = [claims for atom, claims in by_atom.items() if atom in atoms]
            else:
                named = [by_atom[atom] for atom in sorted(atoms) if atom in by_atom]
            for proto, claims in self._merge(named).items():
                rows[number, proto] = self._list(claims)
            self._check(len(rows))
        return rows

    def _merge(self, named: list[Claims]) -> Claims:
        if len(named) == 1:
            return named[0]
        parts: dict[int, list[ClaimList]] = {}
        for claims in named:
            for proto, some in claims.items():
                parts.setdefault(proto, []).append(some)
        return {proto: self._merge_lists(some) for proto, some in parts.items()}

    def _merge_lists(self, parts: list[ClaimList]) -> ClaimList:
        largest = max(parts, key=lambda part: len(part.claims))
        more = [
            claim
            for part in parts
            if part is not largest
            for claim in part.claims
            if claim not in largest
        ]
        if not more:
            return largest
        self._merged += len(largest.claims) + len(more)
        return ClaimList(first_match([*largest.claims, *more]))

    def _list(self, part: ClaimList) -> tuple[int, int]:
        """Id and length of the list of spans; equal claims share one list."""
        if part.row is None:
            known = self._lists.get(part.claims)
            if known is None:
                known = self._lists[part.claims] = self._new_list(part.claims)
            part.row = known
        return part.row

    def _new_list(self, claims: tuple[Claim, ...]) -> tuple[int, int]:
        spans = []
        port = 0
        for claim in claims:
            if claim.first > port:
                spans.append(Span(0, NO_ORDER, port, PolicyAction.NONE.value, 0))
            spans.append(Span(claim.rule, claim.order, claim.first, claim.action, claim.log))
            port = claim.last + 1
        if port <= LAST_PORT:
            spans.append(Span(0, NO_ORDER, port, PolicyAction.NONE.value, 0))
        number = content_id("list", *(pack("<QIHBB", *span) for span in spans))
        for index, span in enumerate(spans):
            self.spans[SpanKey(number, index)] = span
        return number, len(spans)

    def _check(self, rows: int) -> None:
        if len(self.spans) + len(self.verdicts) + rows <= MAX_ROWS and self._merged <= MAX_MERGED:
            return
        raise CompileError(
            self._domain,
            f"its policies need more than {MAX_ROWS} rows",
            "many rules name wide CIDRs that contain the CIDRs of many other rules: give such "
            "rules no peers, put their ports in one rule, or split the domain",
        )


def _claims(rules: Sequence[CompiledRule]) -> tuple[Claims, dict[str, Claims]]:
    """Claims of rules for anybody, and of rules with peers by atom: the first match of each."""
    anybody, by_atom = _raw_claims(enumerate(rules))
    return _first(anybody), {atom: _first(claims) for atom, claims in by_atom.items()}


def _raw_claims(
    rules: Iterable[tuple[int, CompiledRule]],
) -> tuple[dict[int, list[Claim]], dict[str, dict[int, list[Claim]]]]:
    """`rules`: with their places in the set."""
    anybody: dict[int, list[Claim]] = {}
    by_atom: dict[str, dict[int, list[Claim]]] = {}
    for order, rule in rules:
        targets = [anybody]
        if rule.atoms is not None:
            targets = [by_atom.setdefault(atom, {}) for atom in rule.atoms]
        for proto, some in rule.intervals.items():
            claims = [
                Claim(order, first, last, rule.id, rule.action, rule.log) for first, last in some
            ]
            for target in targets:
                target.setdefault(proto, []).extend(claims)
    return anybody, by_atom


def _first(claims: dict[int, list[Claim]]) -> Claims:
    return {proto: ClaimList(first_match(some)) for proto, some in claims.items() if some}
