"""What 10,000 policy rules cost against 10, for established and new connections."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from bench import loadtool, plum
from bench.loadtool import Ends
from bench.plan import Plan
from bench.result import Measurement, at_most
from bench.stats import interleave, ratios
from bench.topology import Contender, bridge_vxlan_nft, up

FEW, MANY = 10, 10_000
#: Percent worse with MANY than with FEW.
LOSS_BAR = at_most(5)


def run(plan: Plan) -> list[Measurement]:
    rows = _compare(plan, bridge_vxlan_nft(FEW), bridge_vxlan_nft(MANY), "nft", judged=False)
    if plan.with_plum:
        few, many = plum.contender(FEW), plum.contender(MANY)
        rows = _compare(plan, few, many, plum.NAME, judged=True) + rows
    return rows


def _compare(
    plan: Plan, few: Contender, many: Contender, name: str, *, judged: bool
) -> list[Measurement]:
    with ExitStack() as stack:
        ends = {
            count: stack.enter_context(up(one, f"{plan.prefix}-{count}"))
            for count, one in ((FEW, few), (MANY, many))
        }
        packets = _rounds(plan, ends, established=True)
        opened = _rounds(plan, ends, established=False)
    bar = LOSS_BAR if judged else None
    rows: list[Measurement] = []
    for what, unit, (base, loaded) in (
        ("established flow, packets", "pps", packets),
        ("new connections", "/s", opened),
    ):
        lost = tuple(100 * (1 - share) for share in ratios(loaded, base))
        rows += [
            Measurement(f"{name}: {what} lost, {MANY:,} rules against {FEW}", "%", lost, bar),
            Measurement(f"{name}: {what}, {FEW} rules", unit, tuple(base)),
            Measurement(f"{name}: {what}, {MANY:,} rules", unit, tuple(loaded)),
        ]
    return rows


def _rounds(
    plan: Plan, ends: dict[int, Ends], *, established: bool
) -> tuple[Sequence[float], Sequence[float]]:
    def rate(one: Ends) -> float:
        if established:
            return loadtool.udp(one, plan.seconds).received_pps
        return loadtool.connections(one, plan.seconds).per_second

    figures = interleave(
        plan.rounds, {str(count): partial(rate, one) for count, one in ends.items()}
    )
    return figures[str(FEW)], figures[str(MANY)]
