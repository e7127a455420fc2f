"""Sets of rules in tiers, of which some pass: the claims of each row.

A rule that passes claims its ports with action NONE: inside its tier it comes before
what stands below, and then it gives way to the next tier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from daemon.compiler.spans import LAST_PORT, Claim, first_match

#: Added to orders of class 0, so that every claim of a class comes before them.
BEHIND = 1 << 31
_LAST = BEHIND - 1

ByProto = Mapping[int, Sequence[Claim]]
#: Claims of one tier: for anybody, and by atom.
TierClaims = tuple[ByProto, Mapping[str, ByProto]]


def resolve(tiers: Sequence[Sequence[Claim]]) -> tuple[Claim, ...]:
    """Disjoint claims of the rules that decide; ports that every tier leaves are in none."""
    deciding: list[Claim] = []
    for claims in tiers:
        deciding += (claim for claim in first_match(claims) if claim.action)
    return first_match(deciding)


def for_anybody(tiers: Sequence[TierClaims]) -> dict[int, tuple[Claim, ...]]:
    """Row of class 0, by protocol."""
    rows = {}
    for proto in sorted({proto for anybody, _ in tiers for proto in anybody}):
        found = resolve([anybody.get(proto, ()) for anybody, _ in tiers])
        if found:
            rows[proto] = tuple(claim._replace(order=claim.order + BEHIND) for claim in found)
    return rows


def for_class(
    tiers: Sequence[TierClaims], atoms: frozenset[str], default: int
) -> dict[int, tuple[Claim, ...]]:
    """Rows of a class, by protocol: of those some rule names it for. The others have class 0's."""
    named = [[by_atom[atom] for atom in atoms if atom in by_atom] for _, by_atom in tiers]
    rows = {}
    for proto in sorted({proto for tier in named for some in tier for proto in some}):
        parts = [
            [*anybody.get(proto, ()), *(claim for some in tier for claim in some.get(proto, ()))]
            for (anybody, _), tier in zip(tiers, named, strict=True)
        ]
        rows[proto] = _complete(resolve(parts), default)
    return rows


def _complete(claims: Sequence[Claim], default: int) -> tuple[Claim, ...]:
    """With the default, rule 0, where no rule decides."""
    every = Claim(_LAST, 0, LAST_PORT, 0, default)
    return first_match([*claims, every])
