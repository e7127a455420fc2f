"""What a packet, a round trip and a connection cost across two nodes, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from bench import loadtool, plum
from bench.loadtool import Ends, RoundTrips, Udp
from bench.plan import Plan
from bench.result import Measurement, at_most
from bench.stats import interleave, median, ratios, taxes_ns
from bench.topology import VETH, bridge_vxlan_nft, linux_contenders, up

#: Nanoseconds beyond bare veth, policies and routing on.
TAX_BAR = at_most(700)
#: What the bar was set against, and what it measured where the bar was set.
REFERENCE = bridge_vxlan_nft()
REFERENCE_NS = 2240
#: The same bar on any machine.
SHARE_BAR = at_most(TAX_BAR.limit / REFERENCE_NS)


def run(plan: Plan) -> list[Measurement]:
    contenders = linux_contenders()
    if plan.with_plum:
        contenders += (plum.contender(),)
    rows: list[Measurement] = []
    for version in plan.versions:
        with ExitStack() as stack:
            ends = {
                one.name: stack.enter_context(up(one, plan.prefix, version)) for one in contenders
            }
            rows += _measure(plan, ends, "" if version == 4 else ", IPv6")
    return rows


def _measure(plan: Plan, ends: Mapping[str, Ends], suffix: str) -> list[Measurement]:
    packets = interleave(
        plan.rounds,
        {name: partial(loadtool.udp, one, plan.seconds) for name, one in ends.items()},
    )
    trips = interleave(
        plan.rounds,
        {name: partial(loadtool.round_trips, one, plan.seconds) for name, one in ends.items()},
    )
    opened = interleave(
        plan.rounds,
        {name: partial(loadtool.connections, one, plan.seconds) for name, one in ends.items()},
    )
    pps = {name: [one.received_pps for one in of] for name, of in packets.items()}
    return (
        _taxes(pps, suffix)
        + _shares("packets", "pps", pps, suffix)
        + _shares("round trips", "/s", _rates(trips), suffix)
        + _shares("connections", "/s", _rates(opened), suffix)
        + _mishaps(packets, trips, opened, suffix)
    )


def _rates(rounds: Mapping[str, Sequence[RoundTrips]]) -> dict[str, list[float]]:
    return {name: [one.per_second for one in of] for name, of in rounds.items()}


def _taxes(pps: Mapping[str, Sequence[float]], suffix: str) -> list[Measurement]:
    bare = pps[VETH.name]
    taxes = {name: taxes_ns(of, bare) for name, of in pps.items() if name != VETH.name}
    rows = [
        Measurement(
            f"{name}: cost per packet beyond bare veth{suffix}",
            "ns",
            tuple(of),
            TAX_BAR if name == plum.NAME else None,
            _pace(median(taxes[REFERENCE.name])),
        )
        for name, of in taxes.items()
    ]
    # Nanoseconds belong to one machine; this share can be compared between machines.
    return rows + [
        Measurement(
            f"{name}: that cost against {REFERENCE.name}'s{suffix}",
            "ratio",
            tuple(ratios(of, taxes[REFERENCE.name])),
            SHARE_BAR if name == plum.NAME else None,
        )
        for name, of in taxes.items()
        if name != REFERENCE.name
    ]


def _pace(reference_ns: float) -> str:
    """How this machine compares with the one the bar in nanoseconds was set on."""
    slower = reference_ns / REFERENCE_NS
    return (
        f"the bar is of a machine where {REFERENCE.name} costs {REFERENCE_NS:,} ns; here it costs "
        f"{reference_ns:,.0f} ns, {slower:.1f} times as much, and the same share of it is "
        f"{TAX_BAR.limit * slower:,.0f} ns"
    )


def _shares(
    what: str, unit: str, rates: Mapping[str, Sequence[float]], suffix: str
) -> list[Measurement]:
    """Each contender's rate, and what share of bare veth's that is."""
    bare = rates[VETH.name]
    rows = [Measurement(f"{name}: {what}{suffix}", unit, tuple(of)) for name, of in rates.items()]
    return rows + [
        Measurement(f"{name}: {what} against bare veth{suffix}", "ratio", tuple(ratios(of, bare)))
        for name, of in rates.items()
        if name != VETH.name
    ]


def _mishaps(
    packets: Mapping[str, Sequence[Udp]],
    trips: Mapping[str, Sequence[RoundTrips]],
    opened: Mapping[str, Sequence[RoundTrips]],
    suffix: str,
) -> list[Measurement]:
    """What makes a rate suspect: lost packets, failed connections, segments sent again."""
    rows: list[Measurement] = []
    for name, sent in packets.items():
        lost = tuple(float(one.sent - one.received) for one in sent)
        tcp = list(zip(trips[name], opened[name], strict=True))
        again = tuple(float(a.retransmits + b.retransmits) for a, b in tcp)
        failed = tuple(float(a.failures + b.failures) for a, b in tcp)
        rows.append(Measurement(f"{name}: packets lost{suffix}", "packets", lost))
        rows.append(Measurement(f"{name}: retransmits{suffix}", "segments", again))
        rows.append(Measurement(f"{name}: failed transactions{suffix}", "count", failed))
    return rows
