"""What plumd tells systemd, over a socket such as systemd's."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.__main__ import _watchdog
from daemon.notify import notify, watchdog_period_s


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def heard(listener: socket.socket) -> int:
    """How many messages wait to be read."""
    listener.setblocking(False)
    count = 0
    try:
        while listener.recv(100):
            count += 1
    except BlockingIOError:
        return count
    return count


def test_states_arrive_also_at_an_abstract_socket(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify("READY=1")
    assert systemd.recv(100) == b"READY=1"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0t-nodes-{os.getpid()}")
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@t-nodes-{os.getpid()}")
        notify("STOPPING=1")
        assert listener.recv(100) == b"STOPPING=1"


def test_nobody_to_tell_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")


def test_the_watchdog_is_ours_only_if_it_names_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert watchdog_period_s() is None
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert watchdog_period_s() == 15
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_period_s() == 15
    monkeypatch.setenv("WATCHDOG_PID", str(os.getppid()))
    assert watchdog_period_s() is None


async def test_pings_stop_when_the_event_loop_hangs(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    pinging = asyncio.create_task(_watchdog())
    await asyncio.sleep(0.5)
    assert heard(systemd) >= 3
    time.sleep(0.3)  # a loop that hangs
    assert heard(systemd) == 0
    await asyncio.sleep(0.2)
    assert heard(systemd) >= 1
    pinging.cancel()
