"""Traffic while every plumd is killed and started again: nothing may be lost."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench import loadtool, plum
from bench.loadtool import Ends, Held, LoadFailed, Steady
from bench.plan import Plan
from bench.plum import Zone
from bench.result import Measurement, at_most
from bench.topology import OPEN_PORT

PACKETS_PER_S = 1000
CONNECTIONS = 200
#: Traffic before the kill, and after the daemons are back.
CALM_S = 1.0
#: Time for the daemons to answer again; the traffic lasts through it.
START_S = 5.0


@dataclass(frozen=True)
class Round:
    flow: Steady
    held: Held
    start_s: float  #: from the start until every daemon answered


def run(plan: Plan) -> list[Measurement]:
    with plum.two_ends(f"{plan.prefix}-restart", rules=5, version=4) as (zone, ends):
        rounds = [_round(plan, zone, ends) for _ in range(plan.rounds)]
    # Every round counts, not their middle: one lost packet is one too many.
    lost = float(sum(one.flow.lost for one in rounds))
    broken = float(sum(one.held.broken for one in rounds))
    return [
        Measurement("packets lost over kill -9 and restart", "packets", (lost,), at_most(0)),
        Measurement("connections broken by it", "connections", (broken,), at_most(0)),
        Measurement("kills", "count", (float(len(rounds)),)),
        Measurement(
            "longest gap in the flow", "ms", tuple(one.flow.longest_gap_ms for one in rounds)
        ),
        Measurement("slowest echo", "ms", tuple(one.held.slowest_ms for one in rounds)),
        Measurement("retransmits", "segments", tuple(float(r.held.retransmits) for r in rounds)),
        Measurement("daemons started and answering", "s", tuple(one.start_s for one in rounds)),
    ]


def _round(plan: Plan, zone: Zone, ends: Ends) -> Round:
    seconds = CALM_S + plan.outage_s + START_S + CALM_S
    with (
        loadtool.running("steady", ends, seconds, rate=PACKETS_PER_S, port=OPEN_PORT) as flow,
        loadtool.running("hold", ends, seconds, connections=CONNECTIONS, port=OPEN_PORT) as held,
    ):
        end = time.monotonic() + seconds
        time.sleep(CALM_S)
        for node in zone.nodes:
            node.kill()
        time.sleep(plan.outage_s)
        started = time.monotonic()
        for node in zone.nodes:
            node.start()
        start_s = time.monotonic() - started
        if time.monotonic() > end - CALM_S:
            raise LoadFailed(f"the daemons took {start_s:.1f} s to start: traffic ended before")
        result = Round(flow.result(Steady), held.result(Held), start_s)
    if result.flow.sent < seconds * PACKETS_PER_S * 0.99 or result.held.opened != CONNECTIONS:
        raise LoadFailed("the load was not what the bar asks for")
    return result
