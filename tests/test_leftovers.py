from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.leftovers import abandoned, remove_abandoned


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_names_of_ended_runs_are_abandoned() -> None:
    dead, alive = ended_process(), os.getpid()
    names = [f"t-x-{dead}", f"t-x-{dead}-a", f"t-x-{alive}-a", f"plum-{dead}", "t-x", "t-1a"]
    assert abandoned(names) == names[:2]


@pytest.mark.privileged
def test_a_crashed_runs_namespace_and_its_processes_are_removed() -> None:
    name = f"t-left-{ended_process()}-a"
    subprocess.run(["ip", "netns", "add", name], check=True)
    inside = subprocess.Popen(["ip", "netns", "exec", name, "sleep", "60"])
    pins = Path("/sys/fs/bpf") / name
    pins.mkdir()
    try:
        while inside.pid not in pids(name):  # it has entered
            assert inside.poll() is None
        removed = remove_abandoned()
        assert {name, str(pins)} <= set(removed)
        assert not Path("/run/netns", name).exists()
        assert not pins.exists()
        assert inside.wait(5) == -9
    finally:
        inside.kill()
        inside.wait()


def pids(namespace: str) -> list[int]:
    listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]
