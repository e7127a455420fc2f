"""The C load tool of `bench/load`, with its results as types.

Field names and units are those the tool prints; see `plum-load --help`.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from bench.netns import netns_path, run

SOURCE = Path(__file__).parent / "load"
BINARY = SOURCE / "build" / "plum-load"

Protocol = Literal["tcp", "udp"]


class LoadFailed(Exception):
    """The load tool could not measure."""


@dataclass(frozen=True)
class Ends:
    """Where a measurement starts and ends: what a contender offers."""

    client_netns: str
    server_netns: str
    server_address: str


@dataclass(frozen=True)
class Result:
    @classmethod
    def parse(cls, line: str) -> Self:
        found = json.loads(line)
        return cls(**{field.name: found[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Udp(Result):
    sent: int
    received: int
    sent_pps: float
    received_pps: float
    cpu_share: float  #: of one CPU, for the sender; below 0.95 somebody else ran there


@dataclass(frozen=True)
class RoundTrips(Result):
    transactions: int
    failures: int
    per_second: float
    retransmits: int


@dataclass(frozen=True)
class Steady(Result):
    sent: int
    received: int
    lost: int
    longest_run_lost: int
    duplicated: int
    reordered: int
    longest_gap_ms: float
    slowest_ms: float


@dataclass(frozen=True)
class Held(Result):
    opened: int
    broken: int
    exchanges: int
    slowest_ms: float
    retransmits: int


@dataclass(frozen=True)
class Probe(Result):
    through: bool
    tries: int
    started_ns: int  #: CLOCK_MONOTONIC, as time.monotonic_ns()
    arrived_ns: int  #: first arrival; 0 if none


AnyResult = TypeVar("AnyResult", bound=Result)


@cache
def binary() -> str:
    """Path of the tool, built or brought up to date on first use."""
    run(["make", "-s", "-C", str(SOURCE)])
    return str(BINARY)


def load_cpu() -> int:
    """The CPU measured on: the last, since the first serves most interrupts."""
    return max(os.sched_getaffinity(0))


def other_cpu() -> int:
    """A CPU beside the measured one; the same one if there is no other."""
    return min(os.sched_getaffinity(0))


def _command(measurement: str, ends: Ends, options: dict[str, object]) -> list[str]:
    command = [
        binary(),
        measurement,
        f"--address={ends.server_address}",
        f"--client-netns={netns_path(ends.client_netns)}",
        f"--server-netns={netns_path(ends.server_netns)}",
    ]
    return command + [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]


def _measure(
    kind: type[AnyResult], measurement: str, ends: Ends, seconds: float, **options: object
) -> AnyResult:
    command = _command(measurement, ends, {"seconds": seconds, **options})
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 30, check=False
    )
    if done.returncode:
        raise LoadFailed(f"{done.stderr.strip()} ({' '.join(command)})")
    return kind.parse(done.stdout.splitlines()[-1])


def udp(ends: Ends, seconds: float, *, size_bytes: int = 64, port: int = 5201) -> Udp:
    """Sender alone on the measured CPU, receiver beside it."""
    pinned = {"client_cpu": load_cpu(), "server_cpu": other_cpu()}
    return _measure(Udp, "udp", ends, seconds, size=size_bytes, port=port, **pinned)


def round_trips(ends: Ends, seconds: float, *, port: int = 5201) -> RoundTrips:
    """One byte each way on one connection, both ends on the measured CPU."""
    pinned = {"client_cpu": load_cpu(), "server_cpu": load_cpu()}
    return _measure(RoundTrips, "rr", ends, seconds, port=port, **pinned)


def connections(ends: Ends, seconds: float, *, port: int = 5201) -> RoundTrips:
    """Connect, one byte each way, close; both ends on the measured CPU."""
    pinned = {"client_cpu": load_cpu(), "server_cpu": load_cpu()}
    return _measure(RoundTrips, "crr", ends, seconds, port=port, **pinned)


def probe(ends: Ends, protocol: Protocol, port: int, seconds: float) -> Probe:
    """Whether anything gets through to a port that listens."""
    return _measure(Probe, "probe", ends, seconds, protocol=protocol, port=port, interval_ms=20)


class Running:
    """A measurement under way; `result()` waits for its end."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self._process = process
        self._seconds = seconds

    def wait_ready(self, timeout_s: float = 20) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], timeout_s)[0]:
            raise LoadFailed("the load tool did not get under way")
        if json.loads(stdout.readline() or "{}").get("event") != "ready":
            raise LoadFailed(self._words())

    def result(self, kind: type[AnyResult]) -> AnyResult:
        out, err = self._process.communicate(timeout=self._seconds + 30)
        if self._process.returncode:
            raise LoadFailed(err.strip())
        return kind.parse(out.splitlines()[-1])

    def end(self) -> None:
        """Enough: what runs for long may end now, with its result."""
        self._process.terminate()

    def _words(self) -> str:
        return self._process.communicate(timeout=self._seconds + 30)[1].strip()


@contextmanager
def running(
    measurement: Literal["steady", "hold", "probe"],
    ends: Ends,
    seconds: float,
    **options: Any,
) -> Iterator[Running]:
    """Start a measurement and go on as soon as it is under way."""
    with subprocess.Popen(
        _command(measurement, ends, {"seconds": seconds, **options}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            under_way = Running(process, seconds)
            under_way.wait_ready()
            yield under_way
        finally:
            process.kill()
