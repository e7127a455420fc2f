"""What makes a machine fit to be a node."""

from __future__ import annotations

import subprocess

import pytest

from plumctl.toolbox.host_check import QUESTIONS, Check, checks, installed_version, parse

FIT = {
    "os": "debian", "os_version": "12", "kernel": "6.1.0-28-amd64", "architecture": "amd64",
    "uid": "0", "time": "1000", "btf": "yes", "bpffs": "yes", "systemd": "yes",
    "addresses": "127.0.0.1 192.0.2.4 fd00::4", "free_mib": "5000", "installed": "",
    "running": "inactive", "zone": "", "vxlan_port": "0", "api_port": "0",
}  # fmt: skip


def problems(vtep: str = "192.0.2.4", **changed: str) -> list[Check]:
    return [check for check in checks(FIT | changed, "amd64", vtep, 1000.4) if check.problem]


def test_a_fit_machine_has_no_problem() -> None:
    assert problems() == []
    assert problems(vtep="fd00::4", os_version="13", kernel="7.0-rc1") == []


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("system", {"os_version": "11"}),
        ("system", {"os": "ubuntu", "os_version": "24.04"}),
        ("system", {"systemd": ""}),
        ("kernel", {"kernel": "5.10.0-28-amd64"}),
        ("kernel", {"kernel": "6.0.9"}),
        ("kernel", {"btf": ""}),
        ("kernel", {"bpffs": ""}),
        ("root", {"uid": "1000"}),
        ("clock", {"time": "1090"}),
        ("clock", {"time": "900"}),
        ("architecture", {"architecture": "arm64"}),
        ("disk", {"free_mib": "120"}),
        ("vtep", {"addresses": "192.0.2.40"}),
        ("port 4789/udp", {"vxlan_port": "1"}),
        ("port 4788/tcp", {"api_port": "1"}),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(name: str, changed: dict[str, str]) -> None:
    (found,) = problems(**changed)
    assert found.name == name
    assert found.hint


def test_a_running_plumd_has_the_ports_and_an_installed_one_needs_no_room() -> None:
    assert problems(running="active", vxlan_port="1", api_port="1") == []
    assert problems(installed="ii 0.1.0", free_mib="10") == []


def test_only_a_whole_installation_counts() -> None:
    assert installed_version({"installed": "ii 0.1.0"}) == "0.1.0"
    assert installed_version({"installed": "iF 0.1.0"}) is None  # half configured
    assert installed_version({"installed": "rc 0.1.0"}) is None
    assert installed_version({}) is None


def test_a_machine_that_says_nothing_is_unfit() -> None:
    assert {c.name for c in checks({}, "amd64", "192.0.2.4", 0) if c.problem} >= {"root", "system"}


def test_the_questions_are_answered_by_this_machine() -> None:
    done = subprocess.run(
        ["sh", "-c", QUESTIONS], capture_output=True, text=True, timeout=20, check=False
    )
    facts = parse(done.stdout)
    assert facts.keys() >= {"os", "kernel", "uid", "time", "addresses", "free_mib"}
    assert int(facts["vxlan_port"]) >= 0 and int(facts["free_mib"]) > 0
    assert "127.0.0.1" in facts["addresses"].split()
