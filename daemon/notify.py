"""Telling systemd (sd_notify(3)): ready, stopping, alive."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send a state such as `READY=1`; without systemd nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(address)
            sender.send(state.encode())
        except OSError as error:  # it may be starting anew; what was not heard is said again
            log.warning("systemd not told", extra={"step": state, "error": str(error)})


def watchdog_period_s() -> float | None:
    """How often to say WATCHDOG=1: half of what systemd allows; None if it does not ask us."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None  # meant for our parent (sd_watchdog_enabled(3))
    allowed_us = int(os.environ.get("WATCHDOG_USEC", "0"))
    return allowed_us / 2_000_000 if allowed_us else None
