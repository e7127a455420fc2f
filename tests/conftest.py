"""Privileged tests: what they need, that they really ran, and no leftovers of crashed runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.leftovers import remove_abandoned

#: Bits of CapEff, include/uapi/linux/capability.h.
CAPABILITIES = {
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_ADMIN": 21,
    "CAP_BPF": 39,
}
#: What every privileged test needs: namespaces, devices, programs.
ALWAYS = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_BPF", "/sys/fs/bpf")


def effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def missing(needs: tuple[str, ...]) -> list[str]:
    """Those that this machine lacks: capabilities, /paths or programs by name."""
    effective = effective_capabilities()
    lacking = []
    for need in needs:
        if need in CAPABILITIES:
            there = bool(effective >> CAPABILITIES[need] & 1)
        elif need.startswith("/"):
            there = Path(need).exists()
        else:
            there = shutil.which(need, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if not there:
            lacking.append(need)
    return lacking


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-privileged",
        action="store_true",
        help="fail when no privileged test ran, or one lacks what it needs",
    )


def must_run(config: pytest.Config) -> bool:
    ci = os.environ.get("CI", "").lower() in ("1", "true", "yes")
    return ci or bool(config.getoption("--require-privileged"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    marks = list(item.iter_markers("privileged"))
    if not marks:
        return
    lacking = missing((*ALWAYS, *(need for mark in marks for need in mark.args)))
    if lacking:
        reason = f"this machine lacks {', '.join(lacking)}"
        if must_run(item.config):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


RAN = pytest.StashKey[set[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RAN] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if call.when == "call" and item.get_closest_marker("privileged") and not report.skipped:
        item.config.stash[RAN].add(item.nodeid)
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if (
        exitstatus == pytest.ExitCode.OK
        and session.config.getoption("--require-privileged")
        and not session.config.getoption("collectonly")
        and not session.config.stash[RAN]
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    count = len(config.stash[RAN])
    terminalreporter.write_line(f"privileged tests that ran: {count}", red=count == 0)
    if not count and config.getoption("--require-privileged"):
        terminalreporter.write_line("FAILED: no privileged test ran", red=True)


@pytest.fixture(scope="session", autouse=True)
def no_leftovers() -> None:
    """What crashed runs left is gone before the first test."""
    if not missing(ALWAYS):
        remove_abandoned()


@pytest.fixture(scope="session")
def run_name() -> str:
    """Start of every name this run gives to kernel objects; also a sandbox's name."""
    return f"t{os.getpid()}"
