"""What source NAT costs: against plain routing of the same datapath, and against a router
that masquerades."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from bench import loadtool, plum
from bench.plan import Plan
from bench.result import Measurement, at_least, at_most
from bench.stats import interleave, ratios
from bench.topology import masquerade, up

#: Percent more per packet than the same flow routed.
COST_BAR = at_most(10)
#: Times the connections per second of a masquerading router.
RATE_BAR = at_least(2)


def run(plan: Plan) -> list[Measurement]:
    linux, nat, routed = masquerade(), plum.nat_contender(), plum.contender()
    contenders = (linux, nat, routed) if plan.with_plum else (linux,)
    with ExitStack() as stack:
        ends = {one.name: stack.enter_context(up(one, plan.prefix)) for one in contenders}
        packets = interleave(
            plan.rounds,
            {name: partial(loadtool.udp, one, plan.seconds) for name, one in ends.items()},
        )
        opened = interleave(
            plan.rounds,
            {name: partial(loadtool.connections, one, plan.seconds) for name, one in ends.items()},
        )
    pps = {name: [one.received_pps for one in of] for name, of in packets.items()}
    rate = {name: [one.per_second for one in of] for name, of in opened.items()}
    rows = [Measurement(f"{name}: packets", "pps", tuple(of)) for name, of in pps.items()]
    rows += [Measurement(f"{name}: connections", "/s", tuple(of)) for name, of in rate.items()]
    if not plan.with_plum:
        return rows
    more = tuple(100 * (share - 1) for share in ratios(pps[routed.name], pps[nat.name]))
    against = tuple(ratios(rate[nat.name], rate[linux.name]))
    return [
        Measurement("plum: a packet with source NAT, dearer than routed", "%", more, COST_BAR),
        Measurement(
            "plum: connections through source NAT against masquerade", "ratio", against, RATE_BAR
        ),
        *rows,
    ]
