"""Debian 12's own kernel (6.1, the oldest we support) takes our programs and forwards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daemon.datapath.loader import shipped_objects
from tests.guest.debian import ROOT, run_debian

pytestmark = [pytest.mark.privileged, pytest.mark.guest, pytest.mark.timeout(1200)]

TIMEOUT_S = 480  # about two minutes on two idle cores


def programs_of(sources: list[Path]) -> set[str]:
    text = "\n".join(path.read_text() for path in sources)
    return set(re.findall(r'SEC\("(?!\.maps|license)[^"]+"\)\s*int (\w+)\(', text))


def test_every_object_loads_and_two_nodes_ping() -> None:
    exec_ = "python3 -m plumctl sandbox exec"
    commands = {
        "load": "python3 -m tests.guest.load_objects",
        "up": "python3 -m plumctl sandbox up --nodes 2",
        "apply": "python3 -m plumctl apply --wait -f tests/guest/two-nodes.yaml",
        "ping": f"{exec_} left -- ping -c 3 -W 5 10.72.0.12",
        "ping6": f"{exec_} left -- ping -c 3 -W 5 fd00:72::12",
        "big": f"{exec_} left -- ping -c 2 -W 5 -s 3000 10.72.0.12",
        "refused": f"{exec_} right -- ping -c 1 -W 2 10.72.0.11",
        "drops": "python3 -m plumctl drops -o name",
        "logs": "cat /run/plum/sandbox/*/plumd.log",
        "down": "python3 -m plumctl sandbox down",
    }
    report = run_debian(list(commands.values()), TIMEOUT_S)
    of = {name: report.of(command) for name, command in commands.items()}
    said = report.console

    assert of["load"].status == 0, said
    assert of["load"].output.startswith("kernel 6.1."), said
    loaded = set(re.findall(r"^\S+\.bpf\.o (\w+) loaded$", of["load"].output, re.M))
    assert loaded == programs_of(sorted((ROOT / "bpf").rglob("*.[ch]")))
    assert len(loaded) >= len(shipped_objects())
    for step in ("up", "apply", "ping", "ping6", "big", "down"):
        assert of[step].status == 0, f"{step}\n{said}"
    assert of["refused"].status == 1, said
    assert "POLICY_INGRESS" in of["drops"].output, said
