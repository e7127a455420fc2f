"""Which tests run where: privileged ones need root and say so; CI must run them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.leftovers import remove_abandoned

IN_CI = os.environ.get("CI") == "true"
CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF = 12, 21, 39

# The same cases each time where a person waits for the answer; others by hand:
# HYPOTHESIS_PROFILE=long make test
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("long", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

ran_privileged = pytest.StashKey[int]()


def missing_capability() -> str | None:
    """The first thing this process lacks for namespaces and bpf(2), or None."""
    status = Path("/proc/self/status").read_text()
    effective = int(next(line for line in status.splitlines() if "CapEff" in line).split()[1], 16)
    wanted = {"CAP_NET_ADMIN": CAP_NET_ADMIN, "CAP_SYS_ADMIN": CAP_SYS_ADMIN, "CAP_BPF": CAP_BPF}
    return next((name for name, bit in wanted.items() if not effective >> bit & 1), None)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ran_privileged] = 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "privileged" not in item.keywords:
        return
    missing = missing_capability()
    if missing is None:
        item.config.stash[ran_privileged] += 1
    elif IN_CI:
        pytest.fail(f"CI runs privileged tests, but {missing} is missing")
    else:
        pytest.skip(f"needs {missing}: run as root")


@pytest.fixture(scope="session", autouse=True)
def work_directory_is_not_littered() -> Iterator[None]:
    """Tests clean up after themselves: no namespace of theirs may stay.

    Checked in CI only: elsewhere another run may be under way. What a killed run
    left goes first.
    """
    if missing_capability() is None:
        remove_abandoned()
    yield
    if not IN_CI:
        return
    left = [p.name for p in Path("/run/netns").glob("t-*")] if Path("/run/netns").exists() else []
    assert not left, f"tests left network namespaces behind: {left}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    count = terminalreporter.config.stash[ran_privileged]
    terminalreporter.write_line(f"{count} privileged tests ran")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A whole run that exercised no kernel proves nothing: it fails."""
    whole = session.config.args == session.config.getini("testpaths")
    if IN_CI and whole and not session.config.stash[ran_privileged]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
