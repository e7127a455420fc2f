"""The mesh between VTEPs, and what is made of it: who lives, who forwards, who does not."""

from __future__ import annotations

import os
import signal

import pytest

from plumctl.run import run
from plumctl.sandbox import process
from plumctl.sandbox.layout import UPLINK
from tests.system.zone import Zone, until

#: A lease of 10 s, and 3 s to believe that it is gone.
NOTICED_S = 25.0


def lives(plum: Zone, node: str = "n1") -> dict[str, str]:
    return {
        view.name: str((view.document.get("liveness") or {}).get("state"))
        for view in plum.client(node).list("node").items
    }


def reaches(plum: Zone, source: str) -> dict[str, bool]:
    peers = plum.client(source).mesh(source)["nodes"][source]["peers"]
    return {peer: bool(state["reachable"] and state["sent"]) for peer, state in peers.items()}


@pytest.fixture
def well(plum: Zone) -> Zone:
    until(lambda: set(lives(plum).values()) == {"alive"}, NOTICED_S)
    for node in plum.nodes:
        others = {other: True for other in plum.nodes if other != node}
        until(lambda node=node, others=others: reaches(plum, node) == others, 10)  # type: ignore[misc]
    return plum


def test_a_node_without_its_plumd_answers_and_is_only_suspect(well: Zone) -> None:
    pids = {found.node: found.pid for found in process.processes(well.layout)}
    os.kill(pids["n2"], signal.SIGSTOP)
    try:
        until(lambda: lives(well)["n2"] == "suspect", NOTICED_S)
        assert reaches(well, "n1") == {"n2": True, "n3": True}
    finally:
        os.kill(pids["n2"], signal.SIGCONT)
    until(lambda: lives(well)["n2"] == "alive", NOTICED_S)


def test_a_cut_cable_is_seen_by_the_mesh_although_every_plumd_lives(well: Zone) -> None:
    namespace = well.layout.namespace("n3")
    run("nsenter", f"--net=/run/netns/{namespace}", "ip", "link", "set", UPLINK, "down")
    try:
        until(lambda: not reaches(well, "n1")["n3"], 10)
        until(lambda: lives(well)["n3"] == "suspect", NOTICED_S)
        assert reaches(well, "n1")["n2"]
    finally:
        run("nsenter", f"--net=/run/netns/{namespace}", "ip", "link", "set", UPLINK, "up")
    until(lambda: lives(well)["n3"] == "alive", NOTICED_S)
