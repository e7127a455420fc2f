"""The prediction from rows against the brute-force oracle from the model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

from daemon.abi import Drop
from daemon.compiler.node import compile_node
from daemon.compiler.packet import Outcome, Packet, Prediction
from daemon.compiler.predict import predict
from daemon.compiler.result import Compiled, Device, Rows
from daemon.model.snapshot import Snapshot
from tests.compiler.build import RUNTIME, domain, endpoint, snapshot
from tests.oracle import Fate, Oracle
from tests.strategies import Zone, packet, zone

ZONES = 1000
PACKETS_PER_ZONE = 20


def compiled_zone(given: Zone) -> dict[int, Compiled]:
    return {
        node.id: compile_node(given.snapshot, name, given.devices, RUNTIME)
        for name, node in given.snapshot.nodes.items()
    }


class Names:
    """Turns the numbers of predictions into what the oracle says."""

    def __init__(self, given: Zone, compiled: dict[int, Compiled]) -> None:
        self._rules = {k: v[1] for c in compiled.values() for k, v in c.names.rules.items()}
        nodes = given.snapshot.nodes
        self._devices = {
            (nodes[given.snapshot.endpoints[path].spec.node].id, device.ifindex): path
            for path, device in given.devices.items()
        }

    def rule(self, number: int | None) -> str | None:
        return self._rules[number] if number else (None if number is None else "")

    def fate(self, made: Prediction) -> Fate:
        egress, ingress = self.rule(made.egress_rule), self.rule(made.ingress_rule)
        routers = tuple(self._rules[rule] for rule in made.router_rules)
        if made.outcome is Outcome.DROPPED:
            return Fate(made.drop.name, egress=egress, ingress=ingress, routers=routers)
        if made.outcome is Outcome.ANSWERED:
            return Fate("answered")
        if made.outcome is Outcome.OUTSIDE:
            return Fate("outside", egress=egress, routers=routers)
        if made.outcome is Outcome.FLOODED:
            return Fate("flooded", egress=egress, copies=self.copies(made), routers=routers)
        path = self._devices[made.node, made.ifindex]
        ends = (made.smac, made.dmac, made.ttl)
        mark = made.dscp or 0
        return Fate("delivered", path, egress, ingress, *ends, routers=routers, dscp=mark)

    def copies(self, made: Prediction) -> tuple[tuple[str, str, str | None], ...]:
        """Every member's copy by endpoint, those on other nodes included."""
        result: list[tuple[str, str, str | None]] = []
        for copy in made.copies:
            if copy.outcome is Outcome.FLOODED:
                result += self.copies(copy)
                continue
            if copy.drop is Drop.NOT_HERE:  # a member's node that knows the MAC is elsewhere
                continue
            what = copy.drop.name if copy.outcome is Outcome.DROPPED else "delivered"
            path = self._devices[copy.node, copy.ifindex]
            result.append((path, what, self.rule(copy.ingress_rule)))
        return tuple(sorted(result))


def check(given: Zone, count: int) -> Counter[str]:
    """Compare `count` packets of a zone; what became of them."""
    compiled = compiled_zone(given)
    names = Names(given, compiled)
    rows = {number: c.rows for number, c in compiled.items()}
    oracles = {
        path: Oracle(given.snapshot, domain.tenant, domain.name, given.missing)
        for path, domain in given.snapshot.domains.items()
    }
    random = Random(given.seed)
    seen: Counter[str] = Counter()
    for index in range(count):
        sender = random.choice(sorted(given.snapshot.endpoints))
        sent = packet(random, given, sender)
        source = given.snapshot.endpoints[sender]
        device = given.devices.get(sender)
        node = given.snapshot.nodes[source.spec.node].id
        expected = oracles[f"{source.tenant}/d"].fates(sender, sent)
        made = set()
        for flow_hash in range(6):
            one = replace(sent, flow_hash=flow_hash)
            made.add(names.fate(predict(rows, node, device.ifindex if device else 9, one)))
            if len(expected) == 1 and flow_hash:
                break
        where = f"seed {given.seed}, packet {index}, from {sender}: {sent}"
        assert made <= expected, where
        seen.update(fate.what for fate in made)
        seen["several"] += len(made) > 1
    return seen


def rows_of(given: Snapshot, name: str) -> Rows:
    devices = {f"acme/shop/e{n}": Device(200 + n) for n in (1, 2, 3)}
    return compile_node(given, name, devices, RUNTIME).rows


def test_a_node_that_knows_better_refuses_what_another_still_sends() -> None:
    allow = domain(default={"ingress": "allow"}, bridges=[{"name": "blue"}])
    before = snapshot(allow, endpoint(1), endpoint(2, on="n2"))
    moved = snapshot(allow, endpoint(1), endpoint(2, on="n3"), endpoint(3, on="n2"))
    gone = snapshot(allow, endpoint(1))
    sent = Packet("02:65:00:00:00:01", "02:65:00:00:00:02", IPv4Address("10.0.1.11"),
                  IPv4Address("10.0.1.12"), 6)  # fmt: skip
    here = rows_of(before, "n1")
    made = [
        predict({1: here, **other}, 1, 201, sent)
        for other in (
            {2: rows_of(before, "n2")},
            {2: rows_of(moved, "n2")},
            {2: rows_of(gone, "n2")},
            {},
        )
    ]
    assert [(one.outcome, one.drop, one.node) for one in made] == [
        (Outcome.DELIVERED, Drop.NONE, 2),
        (Outcome.DROPPED, Drop.NOT_HERE, 2),
        (Outcome.DROPPED, Drop.VNI, 2),
        (Outcome.SENT, Drop.NONE, 2),
    ]


def test_prediction_agrees_with_the_oracle() -> None:
    seen: Counter[str] = Counter()
    for seed in range(ZONES):
        seen += check(zone(seed), PACKETS_PER_ZONE)
    assert seen.total() >= 10_000
    for what in (
        "delivered", "flooded", "answered", "several", "NOT_PROGRAMMED", "SOURCE_MAC",
        "SOURCE_ADDRESS", "ICMP_UNRELATED", "POLICY_EGRESS", "POLICY_INGRESS", "NO_ROUTE",
        "BLACKHOLE", "NO_HOST", "ROUTE_LOOP", "TTL", "MTU", "NO_ROUTER", "RESPONDER", "MALFORMED", "ROGUE_DHCP", "ROGUE_RA", "LINK_LOCAL", "FLOOD_OFF", "POLICY_ROUTER",
    ):  # fmt: skip
        assert seen[what] >= 5, f"{what} seen {seen[what]} times: {seen}"
