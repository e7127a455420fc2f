"""What source NAT costs: against plain routing of the same datapath, and against a router
that masquerades."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from bench import loadtool, plum, programs
from bench.plan import Plan
from bench.result import Measurement, at_least, at_most
from bench.stats import interleave, median, ratios
from bench.topology import VETH, masquerade, up

#: Percent more per packet than the same flow routed.
COST_BAR = at_most(10)
#: Times the connections per second of a masquerading router.
RATE_BAR = at_least(2)


def run(plan: Plan) -> list[Measurement]:
    linux, nat, routed = masquerade(), plum.nat_contender(), plum.contender()
    contenders = (VETH, linux, nat, routed) if plan.with_plum else (VETH, linux)
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
        ours = {name: partial(_programs_ns, ends[name], plan.seconds) for name in ends}
        with programs.counted():
            times = interleave(plan.rounds, {one.name: ours[one.name] for one in contenders[2:]})
    pps = {name: [one.received_pps for one in of] for name, of in packets.items()}
    rate = {name: [one.per_second for one in of] for name, of in opened.items()}
    rows = [Measurement(f"{name}: packets", "pps", tuple(of)) for name, of in pps.items()]
    rows += [Measurement(f"{name}: connections", "/s", tuple(of)) for name, of in rate.items()]
    if not plan.with_plum:
        return rows
    rows += [
        Measurement(f"{name}: our programs, of a packet", "ns", tuple(of))
        for name, of in times.items()
    ]
    more = tuple(100 * (share - 1) for share in ratios(pps[routed.name], pps[nat.name]))
    added = median(times[nat.name]) - median(times[routed.name])
    share = 100 * added * median(pps[routed.name]) / 1e9
    against = tuple(ratios(rate[nat.name], rate[linux.name]))
    most = median(rate[VETH.name]) / median(rate[linux.name])
    return [
        Measurement(
            "plum: a packet with source NAT, dearer than routed",
            "%",
            more,
            COST_BAR,
            f"our programs take {added:.0f} ns more, which is {share:.1f} %; the rest is the "
            "gateway's device outside: a packet leaves by its queue and the server takes it "
            "from a backlog, where the routed one is handed to its endpoint at once",
        ),
        Measurement(
            "plum: connections through source NAT against masquerade",
            "ratio",
            against,
            RATE_BAR,
            f"a bare veth pair with nothing between makes {most:.2f} times the connections of "
            "the masquerading router: most of a connection is the two hosts' own work, and no "
            "datapath can reach the bar here",
        ),
        *rows,
    ]


def _programs_ns(ends: loadtool.Ends, seconds: float) -> float:
    before = programs.run_time_ns()
    got = loadtool.udp(ends, seconds)
    return (programs.run_time_ns() - before) / got.received
