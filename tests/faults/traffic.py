"""Established flows and probes between endpoints, and a record of all that went wrong.

`python -m tests.faults.traffic --out FILE`, with the flows as JSON on the first line of
standard input; it ends when standard input does. All sockets live in this process, each
in the namespace of its endpoint, so one clock sees both ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daemon.drivers.netns import entered
from plumctl.sandbox.layout import NETNS_DIR

OPEN, SHUT = 7100, 7199
CONNECTIONS = 5  # of each flow
EVERY_S = 0.1
PROBE_S = 0.5
LOST_S = 4.0  # without an answer a datagram is lost
SLOW_S = 1.0
BROKEN_S = 60.0  # without an echo a connection is broken

_SOL_RAW, _ICMP_FILTER, _ECHO_REPLY = 255, 1, 0  # linux/icmp.h


@dataclass(frozen=True, slots=True)
class Flow:
    """From an endpoint to another; the nodes they are on."""

    name: str
    client: str  # network namespaces
    server: str
    address: str  # of the server
    nodes: tuple[str, str]

    @classmethod
    def read(cls, document: dict[str, Any]) -> Flow:
        return cls(**{**document, "nodes": tuple(document["nodes"])})

    def plain(self) -> dict[str, Any]:
        return asdict(self)


class Journal:
    """Events as JSON lines, counts at the end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self.counts: Counter[str] = Counter()

    def event(self, flow: Flow, what: str, began_s: float, **more: Any) -> None:
        line = {"flow": flow.name, "what": what, "began": began_s, "ended": time.monotonic()}
        self._file.write((json.dumps(line | more) + "\n").encode())

    def close(self) -> None:
        self._file.write((json.dumps({"counts": self.counts}) + "\n").encode())
        self._file.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of our input ends us
    flows = [Flow.read(document) for document in json.loads(sys.stdin.readline())]
    asyncio.run(_run(flows, given.out))


async def _run(flows: list[Flow], out: Path) -> None:
    journal = Journal(out)
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    served = {(flow.server, flow.address): flow for flow in flows}
    for flow in served.values():
        await _serve(flow, journal)
    tasks: list[asyncio.Task[None]] = []
    for flow in flows:
        jobs = [_tcp(flow, journal) for _ in range(CONNECTIONS)]
        jobs += [_udp(flow, journal), _icmp(flow, journal)]
        jobs += [_allowed(flow, journal), _refused(flow, journal)]
        tasks += [asyncio.create_task(job) for job in jobs]
    print("ready", flush=True)
    await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
    crashed = [task for task in tasks if task.done() and task.exception()]
    journal.close()
    for task in crashed:
        print(f"traffic: {task.exception()!r}", file=sys.stderr, flush=True)
    os._exit(bool(crashed))  # the executor still reads


def _socket(namespace: str, kind: int, protocol: int = 0) -> socket.socket:
    with entered(NETNS_DIR / namespace):
        opened = socket.socket(socket.AF_INET, kind, protocol)
    opened.setblocking(False)
    return opened


def _bound(flow: Flow, kind: int, port: int) -> socket.socket:
    opened = _socket(flow.server, kind)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind((flow.address, port))
    return opened


# Servers


async def _serve(flow: Flow, journal: Journal) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.start_server(_echo, sock=_bound(flow, socket.SOCK_STREAM, OPEN))
    await loop.create_datagram_endpoint(_Echo, sock=_bound(flow, socket.SOCK_DGRAM, OPEN))

    def leak() -> asyncio.DatagramProtocol:
        return _Leak(flow, journal)

    await loop.create_datagram_endpoint(leak, sock=_bound(flow, socket.SOCK_DGRAM, SHUT))
    await asyncio.start_server(_echo, sock=_bound(flow, socket.SOCK_STREAM, SHUT))


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(4096):
            writer.write(data)
    writer.close()


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data, addr)


class _Leak(asyncio.DatagramProtocol):
    """Hears what no policy allows."""

    def __init__(self, flow: Flow, journal: Journal) -> None:
        self._flow, self._journal = flow, journal

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._journal.event(self._flow, "refused udp got through", time.monotonic())


# Established flows


async def _tcp(flow: Flow, journal: Journal) -> None:
    """One connection, an exchange every EVERY_S; when it breaks that is the end of it."""
    began = time.monotonic()
    try:
        reader, writer = await _connect(flow, OPEN)
        while True:
            began = time.monotonic()
            async with asyncio.timeout(BROKEN_S):
                writer.write(struct.pack("!d", began))
                await reader.readexactly(8)
            journal.counts["tcp exchanges"] += 1
            if time.monotonic() - began > SLOW_S:
                journal.event(flow, "tcp slow", began)
            await asyncio.sleep(EVERY_S)
    except (OSError, EOFError, TimeoutError) as error:
        journal.event(flow, "tcp broken", began, why=repr(error))


async def _connect(flow: Flow, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    opened = _socket(flow.client, socket.SOCK_STREAM)
    try:
        await asyncio.get_running_loop().sock_connect(opened, (flow.address, port))
    except BaseException:
        opened.close()
        raise
    return await asyncio.open_connection(sock=opened)


async def _paced(
    flow: Flow, journal: Journal, name: str, opened: socket.socket, packet: Callable[[int], bytes]
) -> None:
    """Numbered packets at a steady pace; those without an answer are lost."""
    waiting: dict[int, float] = {}

    def heard() -> None:
        with contextlib.suppress(OSError):  # nothing more, or an error that tells of a loss
            while True:
                answer = opened.recv(2048)
                waiting.pop(struct.unpack("!Q", answer[-8:])[0], None)

    asyncio.get_running_loop().add_reader(opened.fileno(), heard)
    number = 0
    while True:
        number += 1
        now = waiting[number] = time.monotonic()
        with contextlib.suppress(OSError):  # not sent is lost as well
            opened.send(packet(number))
        journal.counts[f"{name} packets"] += 1
        for late in [n for n, sent in waiting.items() if now - sent > LOST_S]:
            journal.event(flow, f"{name} lost", waiting.pop(late))
        await asyncio.sleep(EVERY_S)


def _udp(flow: Flow, journal: Journal) -> Coroutine[Any, Any, None]:
    opened = _socket(flow.client, socket.SOCK_DGRAM)
    opened.connect((flow.address, OPEN))
    return _paced(flow, journal, "udp", opened, lambda number: struct.pack("!Q", number))


def _icmp(flow: Flow, journal: Journal) -> Coroutine[Any, Any, None]:
    opened = _socket(flow.client, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    only_replies = 0xFFFFFFFF ^ 1 << _ECHO_REPLY
    opened.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", only_replies))
    opened.connect((flow.address, 0))
    return _paced(flow, journal, "icmp", opened, _echo_request)


def _echo_request(number: int) -> bytes:
    body = struct.pack("!HHQ", 0x7066, number & 0xFFFF, number)
    head = struct.pack("!BBH", 8, 0, 0)
    total = sum(struct.unpack("!8H", head + body))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBH", 8, 0, ~total & 0xFFFF) + body


# Probes: new connections, and what must never pass


async def _allowed(flow: Flow, journal: Journal) -> None:
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(LOST_S):
                _, writer = await _connect(flow, OPEN)
            writer.close()
            journal.counts["allowed probes"] += 1
        except (OSError, TimeoutError) as error:
            journal.event(flow, "allowed probe failed", began, why=repr(error))
        await asyncio.sleep(PROBE_S)


async def _refused(flow: Flow, journal: Journal) -> None:
    opened = _socket(flow.client, socket.SOCK_DGRAM)
    opened.connect((flow.address, SHUT))
    while True:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            opened.send(b"may not pass")
        try:
            async with asyncio.timeout(PROBE_S):
                await _connect(flow, SHUT)
            journal.event(flow, "refused tcp got through", began)
        except (OSError, TimeoutError):
            journal.counts["refused probes"] += 1
        await asyncio.sleep(PROBE_S)


if __name__ == "__main__":
    main()
