"""To another version of plumd and of the datapath and back, under traffic."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import plumctl
from bench import loadtool
from bench.loadtool import Ends, Held, Steady
from plumctl.sandbox import process
from tests.system.zone import Document, Guest, Zone, domain, endpoint, tenant, until

ROOT = Path(__file__).resolve().parents[2]
TENANT = "t-upgrade"
SHOP = f"{TENANT}/shop"
OPEN, SHUT = 5201, 5299
SEED = 20261123
Guests = dict[str, Guest]
Counts = Counter[tuple[object, ...]]


def topology() -> list[Document]:
    rules = [{"name": p, "protocol": p, "ports": [OPEN]} for p in ("tcp", "udp")]
    bridge = {"name": "web", "subnets": ["10.8.1.0/24"]}
    spec = {"default": {}, "policies": [{"name": "in", "ingress": rules}]}
    places = {"client": "n1", "near": "n1", "far": "n2"}
    return [
        tenant(TENANT),
        domain(TENANT, "shop", [bridge], **spec),
        *(
            endpoint(f"{SHOP}/{name}", "web", node, f"10.8.1.{number}")
            for number, (name, node) in enumerate(places.items(), 11)
        ),
    ]


@pytest.fixture(scope="module")
def guests(plum: Zone) -> Guests:
    plum.apply(topology())
    found = plum.guests(TENANT)
    return {name.partition("/")[2]: guest for name, guest in found.items()}


@contextmanager
def traffic(guests: Guests, seconds: float = 100) -> Iterator[None]:
    """1,000 numbered datagrams a second, and 100 connections each to a server on the
    same node and on the other; none may suffer, all the time something flows."""
    near, far = (
        Ends(guests["client"].namespace, guests[name].namespace, guests[name].ip())
        for name in ("near", "far")
    )
    hold = {"connections": 100, "port": OPEN, "timeout_ms": 5000, "interval_ms": 200}
    with ExitStack() as stack:
        running = stack.enter_context
        flow = running(
            loadtool.running("steady", far, seconds, rate=1000, port=OPEN, timeout_ms=500)
        )
        held = [running(loadtool.running("hold", ends, seconds, **hold)) for ends in (near, far)]
        yield
        assert flow._process.poll() is None, "the traffic ended too early to prove anything"
        for one in (flow, *held):
            one.end()
        steady, connections = flow.result(Steady), [one.result(Held) for one in held]
    assert (steady.lost, steady.duplicated) == (0, 0), steady
    assert [(c.opened, c.broken) for c in connections] == [(100, 0)] * 2, connections
    assert all(c.exchanges > c.opened for c in connections), connections


class Versions:
    """Starts plumd of either version in place of the one that runs."""

    def __init__(self, zone: Zone, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._zone, self._patch = zone, patch
        self._report = folder / "steps"

    def run(self, tree: Path, *nodes: str) -> None:
        """kill -9 what runs on the nodes, and wait until that version has taken over."""
        self._zone.kill(*nodes)
        with self._patch.context() as patch:
            patch.setattr(plumctl, "__file__", str(tree / "plumctl" / "__init__.py"))
            self._zone.start(*nodes)

    def steps(self, tree: Path, node: str) -> int:
        """Take over, counting the steps at which a daemon may die."""
        self._launch(tree, node, None)
        until(self._report.exists, 20)
        until(lambda: self._zone.ready(node), 20)
        return int(self._report.read_text())

    def die(self, tree: Path, node: str, step: int) -> None:
        """Begin to take over and die on the way."""
        self._launch(tree, node, step)
        until(lambda: node not in {p.node for p in process.processes(self._zone.layout)}, 30)
        assert not self._report.exists(), "it lived"

    def _launch(self, tree: Path, node: str, step: int | None) -> None:
        self._report.unlink(missing_ok=True)
        start, script = process.start, Path(__file__).with_name("dying.py")

        def instead(argv: list[str], log: Path, env: dict[str, str]) -> object:
            at = argv.index(sys.executable)
            argv = [*argv[: at + 1], str(script), *argv[argv.index("daemon") + 1 :]]
            more = {"T_UPGRADE_DIE": "" if step is None else str(step)}
            return start(argv, log, {**env, **more, "T_UPGRADE_STEPS": str(self._report)})

        if node in {p.node for p in process.processes(self._zone.layout)}:
            self._zone.kill(node)
        with self._patch.context() as patch:
            patch.setattr(plumctl, "__file__", str(tree / "plumctl" / "__init__.py"))
            patch.setattr(process, "start", instead)
            self._zone.launch(node)


@pytest.fixture
def versions(plum: Zone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Versions:
    return Versions(plum, tmp_path, monkeypatch)


def counters(zone: Zone) -> Counts:
    """Every number plumctl shows that may only grow."""
    found = zone.client().counters()
    assert not found.unreachable, found.unreachable
    numbers: Counts = Counter()
    for row in found.rules:  # one of each node
        numbers["rule", row["rule"]] += row["hits"]
    for row in found.endpoints:
        kinds = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "drop_packets")
        numbers.update({(row["path"], kind): row[kind] for kind in kinds})
    for row in found.drops:
        numbers[row["endpoint"], row["reason"]] += row["packets"]
    return numbers


def refused(guests: Guests, server: str) -> None:
    """A connection no rule allows is dropped."""
    with guests[server].listen(SHUT), pytest.raises(TimeoutError):
        guests["client"].connect(guests[server].ip(), SHUT, timeout_s=0.2)


def generations(zone: Zone, node: str) -> list[str]:
    return sorted(path.name for path in zone.layout.node_pin_dir(node).iterdir() if path.is_dir())


def grown(before: Counts, after: Counts) -> None:
    assert {key: (was, after[key]) for key, was in before.items() if after[key] < was} == {}


def test_another_version_and_back_lose_no_packet_and_no_connection(
    plum: Zone, guests: Guests, versions: Versions, older: Path
) -> None:
    refused(guests, "near")
    present = generations(plum, "n1")
    with traffic(guests):
        before = counters(plum)
        for tree in (older, ROOT):
            versions.run(tree, "n1")  # a rolling upgrade: n2 is still the other version
            versions.run(tree, "n2")
            after = counters(plum)
            grown(before, after)
            before = after
            (running,) = generations(plum, "n1")
            assert (running in present) == (tree is ROOT)
            refused(guests, "near")
    assert not plum.repairs("n1")


def test_death_at_any_step_of_an_upgrade_loses_nothing(
    plum: Zone, guests: Guests, versions: Versions, older: Path
) -> None:
    choice = random.Random(SEED)
    with traffic(guests):
        before = counters(plum)
        steps = versions.steps(older, "n1")
        for tree, successor in [(ROOT, older), (ROOT, ROOT), (older, ROOT)]:
            point = choice.randrange(steps * 9 // 10)
            print(f"dies before step {point}")
            versions.die(tree, "n1", point)
            refused(guests, "far")  # the kernel goes on meanwhile
            versions.steps(successor, "n1")
            after = counters(plum)
            grown(before, after)
            before = after
            assert len(generations(plum, "n1")) == 1
    assert not plum.repairs("n1")
