"""Promise 5: the datapath, the prediction and a brute-force oracle agree.

`test_prediction_agrees_with_the_oracle` compares the latter two; here the loaded
datapath is compared with the oracle, on the same random zones and packets.
PLUM_PROPERTY_CASES and PLUM_PROPERTY_SEED run more, or other, cases by hand.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from daemon.compiler.packet import Packet
from daemon.datapath.libbpf import mount_bpffs
from daemon.model.domain import DomainSpec, Router
from daemon.model.mac import router_mac
from daemon.model.policy import Action, PolicyDefault
from tests.bpf.conftest import compiled_object
from tests.bpf.property import World, frame_of, reply_to, source_of
from tests.oracle import Fate, Oracle
from tests.strategies import Zone, packet, zone

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(3600)]

CASES = int(os.environ.get("PLUM_PROPERTY_CASES", "10000"))
FIRST_SEED = int(os.environ.get("PLUM_PROPERTY_SEED", "0"))
PACKETS_PER_ZONE = 25
PORTS = (6, 17, 132)
ECHO = {4: 8, 6: 128}
LEAVES = {"outside", "NAT_PROTOCOL", "NAT_EXHAUSTED"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    mount_bpffs()
    pins = Path(f"/sys/fs/bpf/t-property-{os.getpid()}")
    pins.mkdir()
    made: World | None = None
    try:
        made = World(pins, compiled_object(tmp_path_factory.mktemp("bpf")))
        yield made
    finally:
        if made:
            made.close()
        shutil.rmtree(pins)


def oracles_of(given: Zone) -> dict[str, Oracle]:
    """By tenant; each has one domain."""
    return {
        domain.tenant: Oracle(given.snapshot, domain.tenant, domain.name, given.missing)
        for domain in given.snapshot.domains.values()
    }


class Case:
    """The packets of one zone, and what is known of them."""

    def __init__(self, world: World, given: Zone) -> None:
        self.world = world
        self.given = given
        self.oracles = oracles_of(given)
        self.without_policies = oracles_of(opened(given))
        self.delivered: list[tuple[str, Packet, bytes]] = []
        self.ends: set[object] = set()  # the same is no new connection twice
        self.seen: Counter[str] = Counter()
        world.program(given)
        world.forget_flows()

    def expected(self, sender: str, sent: Packet) -> set[Fate]:
        tenant = self.given.snapshot.endpoints[sender].tenant
        return set(self.oracles[tenant].fates(sender, sent))

    def agrees(self, sender: str, fate: Fate, hits: Counter[str] | None, one: Fate) -> bool:
        if one.what == "flooded":
            nodes = {self._node(path) for path, _, _ in fate.copies} or {self._node(sender)}
            return self._copies(fate, nodes) == self._copies(one, nodes)
        if fate.what != one.what:
            return False
        if hits is not None:
            ends = (one.egress, one.ingress)
            asked = Counter(rule for rule in (*ends, *one.routers) if rule is not None)
            if hits != asked:
                return False
        if fate.what != "delivered":
            return True
        return fate == one._replace(egress=None, ingress=None, routers=())

    def _node(self, path: str) -> str:
        return str(self.given.snapshot.endpoints[path].spec.node)

    def _copies(self, fate: Fate, nodes: set[str]) -> set[tuple[str, str]]:
        """Those on nodes we see: what FLOOD sends to others is out of a test run's reach."""
        return {(path, what) for path, what, _ in fate.copies if self._node(path) in nodes}

    def first(self, index: int, sender: str, sent: Packet) -> None:
        """A connection's first packet: verdict, reason, rules, rewrites."""
        frame = frame_of(sent)
        kind = sent.icmp_type if sent.protocol in (1, 58) else 0
        ports = (sent.sport, sent.dport) if sent.protocol in PORTS else (0, 0)
        ends = (frozenset(zip((sent.src, sent.dst), ports, strict=True)), sent.protocol, kind)
        if frame is None or ends in self.ends:
            return
        self.ends.add(ends)
        where = f"seed {self.given.seed}, packet {index}, from {sender}: {sent}"
        fate, arrived, hits = self.world.send(sender, frame)
        expected = self.expected(sender, sent)
        assert any(self.agrees(sender, fate, hits, e) for e in expected), (
            f"{where}\nthe datapath: {fate} {dict(hits)}\nthe oracle: {expected}"
        )
        self.seen["cases"] += 1
        self.seen[fate.what] += 1
        if fate.what == "delivered":
            self.again(where, sender, frame, fate, arrived)
            self.answer(where, sender, sent, fate, arrived)
            self.delivered.append((sender, sent, frame))

    def again(self, where: str, sender: str, frame: bytes, fate: Fate, arrived: bytes) -> None:
        """The same packet once more is the same, without asking any rule."""
        once_more = self.world.send(sender, frame)
        assert once_more == (fate, arrived, Counter()), f"{where}, again"

    def answer(self, where: str, sender: str, sent: Packet, fate: Fate, arrived: bytes) -> None:
        """A reply is delivered wherever it has a way, whatever policy says of its direction."""
        endpoints = self.given.snapshot.endpoints
        reply = reply_to(sent, arrived)
        if reply.src not in endpoints[fate.endpoint].addresses:
            return  # through an appliance: the reply is not its to send
        if sent.protocol in (1, 58) and sent.icmp_type != ECHO[sent.src.version]:
            return
        if reply.src != sent.dst:
            near = endpoints[sender].spec.bridge == endpoints[fate.endpoint].spec.bridge
            mac = sent.smac if near else self.gateway(fate.endpoint)
            if mac is None:
                return  # the backend has no way back
            reply = replace(reply, dmac=mac)
        frame = frame_of(reply, "SA", seq=5000, ack=1001 + max(0, sent.length - 40))
        assert frame is not None
        got, back, hits = self.world.send(fate.endpoint, frame)
        as_new = replace(reply, icmp_type=sent.icmp_type)
        tenant = endpoints[sender].tenant
        ways = {
            (f.what, f.endpoint) for f in self.without_policies[tenant].fates(fate.endpoint, as_new)
        }
        if ("flooded", "") in ways:
            return  # to a MAC that several use: copies make no flow, and follow none
        if LEAVES & {what for what, _ in ways}:
            return  # the sender used an address that is not routed to it: no answer to it
        if any(endpoint not in ("", sender) for _, endpoint in ways):
            return  # through an appliance, which has not seen what is answered
        assert (got.what, got.endpoint) in ways, f"{where}, reply: {got}, expected {ways}"
        assert not hits, f"{where}, reply: asked {hits}"
        if got.what == "delivered":
            address, port = source_of(back)
            assert (address, port or sent.dport) == (str(sent.dst), sent.dport), f"{where}, reply"
            self.seen["balanced"] += reply.src != sent.dst
        self.seen["answers"] += 1

    def gateway(self, path: str) -> str | None:
        """MAC of a router on the endpoint's bridge."""
        endpoint = self.given.snapshot.endpoints[path]
        domain = self.given.snapshot.domains[f"{endpoint.tenant}/d"]
        for router in domain.spec.routers:
            if any(face.bridge == endpoint.spec.bridge for face in router.interfaces):
                return router.mac or router_mac(domain.router_ids[router.name])
        return None

    def change(self) -> None:
        """Policies change: what was established follows at its next packet."""
        self.given = turned(self.given)
        self.oracles = oracles_of(self.given)
        self.world.program(self.given)
        for sender, sent, frame in self.delivered:
            where = f"seed {self.given.seed}, after the change, from {sender}: {sent}"
            fate, _, _ = self.world.send(sender, frame)
            expected = self.expected(sender, sent)
            assert any(self.agrees(sender, fate, None, e) for e in expected), (
                f"{where}\nthe datapath: {fate}\nthe oracle: {expected}"
            )
            self.seen["revoked" if fate.what.startswith("POLICY_") else "kept"] += 1


def with_policies(given: Zone, change: Callable[[DomainSpec], dict[str, object]]) -> Zone:
    domains = {
        path: domain.model_copy(update={"spec": domain.spec.model_copy(update=change(domain.spec))})
        for path, domain in given.snapshot.domains.items()
    }
    return replace(given, snapshot=replace(given.snapshot, domains=domains))


def turned(given: Zone) -> Zone:
    """The same zone with policies in reverse order, one default for all, and without the
    first of the administrators'."""
    admin = dict(list(given.snapshot.admin_policies.items())[1:])
    given = replace(given, snapshot=replace(given.snapshot, admin_policies=admin))
    action = (Action.ALLOW, Action.DENY)[given.seed % 2]
    default = PolicyDefault(ingress=action, egress=action)
    return with_policies(given, lambda spec: {"default": default, "policies": spec.policies[::-1]})


def opened(given: Zone) -> Zone:
    """The same zone where everybody may do everything."""

    def free_faces(spec: DomainSpec) -> tuple[Router, ...]:
        return tuple(
            router.model_copy(
                update={
                    "interfaces": tuple(
                        face.model_copy(update={"ingress": (), "egress": ()})
                        for face in router.interfaces
                    )
                }
            )
            for router in spec.routers
        )

    anything = PolicyDefault(ingress=Action.ALLOW, egress=Action.ALLOW)
    free = replace(given, snapshot=replace(given.snapshot, admin_policies={}))
    return with_policies(
        free, lambda spec: {"default": anything, "policies": (), "routers": free_faces(spec)}
    )


def test_datapath_agrees_with_the_oracle(world: World) -> None:
    seen: Counter[str] = Counter()
    seed = FIRST_SEED
    while seen["cases"] < CASES:
        case = Case(world, zone(seed))
        random = Random(seed)
        for index in range(PACKETS_PER_ZONE):
            sender = random.choice(sorted(case.given.snapshot.endpoints))
            sent = packet(random, case.given, sender)
            if sent.sport == 40000:
                sent = replace(sent, sport=40000 + index)  # a connection of its own
            case.first(index, sender, sent)
        case.change()
        seen += case.seen
        seed += 1
    print(dict(seen))
    for what in (
        "delivered",
        "answers",
        "kept",
        "revoked",
        "flooded",
        "balanced",
        "outside",
        "POLICY_INGRESS",
    ):
        assert seen[what] >= CASES // 500, f"{what} seen {seen[what]} times: {seen}"
