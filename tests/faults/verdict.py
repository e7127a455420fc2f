"""What the traffic may suffer: nothing, but for flows across a cable that was cut."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.traffic import Flow

#: Seconds after the cable is whole again until a flow across it must go on: the kernel
#: finds the neighbour again, plumd looks every three seconds, TCP waits twice as long each time.
RESUME_S = 6.0
#: An exchange this slow is noticed, on a machine of two busy cores.
NOTICED_S = 2.5


@dataclass(frozen=True, slots=True)
class Cut:
    """A node was off the underlay."""

    node: str
    began_s: float
    healed_s: float

    def hits(self, flow: Flow) -> bool:
        return self.node in flow.nodes and flow.nodes[0] != flow.nodes[1]

    def excuses(self, flow: Flow, began_s: float, ended_s: float, *, waits: bool) -> bool:
        """`waits`: it backed off while the cable was cut, and may for as long again."""
        length_s = self.healed_s - self.began_s
        until_s = self.healed_s + RESUME_S
        fits = ended_s <= until_s + length_s if waits else began_s <= until_s
        return self.hits(flow) and ended_s >= self.began_s - 0.1 and fits


def judge(
    flows: Sequence[Flow], cuts: Sequence[Cut], journal: Path
) -> tuple[list[str], Counter[str]]:
    """What nobody may suffer, in words; and how much traffic there was."""
    counts: Counter[str] = Counter()
    found: list[str] = []
    by_name = {flow.name: flow for flow in flows}
    for line in journal.read_bytes().split(b"\n")[:-1]:
        event = json.loads(line)
        if "counts" in event:
            counts += Counter(event["counts"])
        elif not _excused(by_name[event["flow"]], cuts, event):
            found.append(_told(by_name[event["flow"]], event))
    if not counts:
        found.append("the traffic ended before the run did")
    found += _silent(flows, counts)
    return found, counts


def _excused(flow: Flow, cuts: Iterable[Cut], event: dict[str, Any]) -> bool:
    what, began, ended = event["what"], event["began"], event["ended"]
    if "through" in what or what == "tcp broken":
        return False
    if what == "tcp slow" and ended - began < NOTICED_S:
        return True
    # The loss of a datagram is found late: what counts is when it was sent.
    if what.endswith("lost"):
        ended = began
    waits = what == "tcp slow"
    return any(cut.excuses(flow, began, ended, waits=waits) for cut in cuts)


def _told(flow: Flow, event: dict[str, Any]) -> str:
    took = event["ended"] - event["began"]
    why = f", {event['why']}" if "why" in event else ""
    nodes = " and ".join(sorted(set(flow.nodes)))
    return f"{flow.name} ({nodes}): {event['what']} at {event['began']:.3f} s, {took:.2f} s{why}"


def _silent(flows: Sequence[Flow], counts: Counter[str]) -> list[str]:
    wanted = ("tcp exchanges", "udp packets", "icmp packets", "allowed probes", "refused probes")
    return [f"there were no {what}: nothing is proven" for what in wanted if not counts[what]]
