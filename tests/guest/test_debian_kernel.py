"""Debian 12's own kernel (6.1, the oldest we support) takes our programs and forwards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daemon.datapath.loader import shipped_objects
from tests.guest.debian import ROOT, run_debian

pytestmark = [pytest.mark.privileged, pytest.mark.guest, pytest.mark.timeout(1200)]

TIMEOUT_S = 480  # about a minute and a half on two idle cores


def programs_of(sources: list[Path]) -> set[str]:
    text = "\n".join(path.read_text() for path in sources)
    return set(re.findall(r'SEC\("(?!\.maps|license)[^"]+"\)\s*int (\w+)\(', text))


#: Faster than `plumctl sandbox exec`: Python takes an emulated machine seconds to start.
LEFT, RIGHT = (f"nsenter --net=/run/netns/plum-lab-pair-{side}" for side in ("left", "right"))


def bulk(address: str) -> str:
    """One connection from left to right; what each side sends, the other gets.

    Only the listener half-closes: a listening nc ends at the other side's, sent or not.
    """
    return (
        "cd /run; for side in left right; do head -c 2M /dev/urandom >$side; done; "
        f"{RIGHT} timeout 60 nc -N -l {address} 9000 <right >from-left & "
        f"until {RIGHT} ss -Hltn | grep -q :9000; do kill -0 $! || exit 1; done; "
        f"{LEFT} timeout 60 nc {address} 9000 <left >from-right && wait $! && "
        "cmp left from-left && cmp right from-right && stat -c %s from-left from-right"
    )


def traffic(underlay: int) -> dict[str, str]:
    """Both families in a tunnel over this one; the comment tells the commands apart."""
    commands = {
        "ping": f"{LEFT} ping -c 3 -i 0.2 -W 5 10.72.0.12",
        "ping6": f"{LEFT} ping -c 3 -i 0.2 -W 5 fd00:72::12",
        "big ping": f"{LEFT} ping -c 2 -i 0.2 -W 5 -s 3000 10.72.0.12",
        "bulk": bulk("10.72.0.12"),
        "bulk6": bulk("fd00:72::12"),
    }
    return {
        f"{name} over IPv{underlay}": f"{command} # IPv{underlay}"
        for name, command in commands.items()
    }


def test_every_object_loads_and_two_nodes_talk() -> None:
    """Before Linux 6.3 an inner frame of the other family takes a detour (bpf/lib/encap.h)."""
    up = "python3 -m plumctl sandbox up --nodes 2"
    good = {
        "load": "python3 -m tests.guest.load_objects",
        "up": up,
        "apply": "python3 -m plumctl apply --wait -f tests/guest/two-nodes.yaml",
        "exec ping": "python3 -m plumctl sandbox exec left -- ping -c 1 -W 5 10.72.0.12",
        **traffic(4),
        "down": "python3 -m plumctl sandbox down",
        "up over IPv6": f"{up} --underlay 6 --domain tests/guest/two-nodes.yaml",
        **traffic(6),
    }
    before_down = {
        "refused": f"{RIGHT} ping -c 1 -W 2 10.72.0.11",
        "drops": "python3 -m plumctl drops -o name",
    }
    logs = {
        "logs": "cat /run/plum/sandbox/*/plumd.log",
        "complaints": "dmesg | grep -E 'BUG:|WARNING:|Call Trace|UBSAN'",
    }
    commands = {}
    for name, command in (good | logs).items():
        if name == "down":
            commands |= before_down
        commands[name] = command
    report = run_debian(list(commands.values()), TIMEOUT_S)
    of = {name: report.of(command) for name, command in commands.items()}
    said = report.console

    for step in good:
        assert of[step].status == 0, f"{step}\n{said}"
    assert of["load"].output.startswith("kernel 6.1."), said
    loaded = set(re.findall(r"^\S+\.bpf\.o (\w+) loaded$", of["load"].output, re.M))
    assert loaded == programs_of(sorted((ROOT / "bpf").rglob("*.[ch]")))
    assert len(loaded) >= len(shipped_objects())
    for step in good:
        assert "ping" not in step or " 0% packet loss" in of[step].output, said
        assert "bulk" not in step or of[step].output.split() == ["2097152"] * 2, said
    assert of["refused"].status == 1, said
    assert "POLICY_INGRESS" in of["drops"].output, said
    assert of["complaints"].status == 1, said  # grep found none
