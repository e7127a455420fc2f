"""A sandbox as tests use it: apply, kill, count; and endpoints seen from inside.

Sockets are opened by this process inside a guest's namespace and stay there, so a
packet costs no process. Nothing here sleeps to let things happen: `until` waits
for a condition, and a refusal is awaited by the counter of its reason.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from daemon.abi import Drop
from daemon.drivers.netns import entered
from daemon.model.derive import default_namespace
from plumctl.answers import View
from plumctl.client import Client
from plumctl.sandbox import fabric, process
from plumctl.sandbox.layout import NETNS_DIR, Layout, node_names

T = TypeVar("T")
Document = dict[str, Any]

PROGRAM_S = 30.0
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
SOL_RAW, ICMP_FILTER, ICMP6_FILTER = 255, 1, 1  # linux/icmp.h, linux/icmpv6.h


def until(ask: Callable[[], T], timeout_s: float = 5.0, every_s: float = 0.01) -> T:
    """The first true answer. Fails the test when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"nothing in {timeout_s} s but {answer!r}"
        time.sleep(every_s)
    return answer


def tenant(name: str) -> Document:
    return {"kind": "tenant", "name": name}


def domain(tenant: str, name: str, bridges: Sequence[Document], **spec: Any) -> Document:
    spec = {"default": {"ingress": "allow"}, **spec, "bridges": list(bridges)}
    return {"kind": "domain", "tenant": tenant, "name": name, "spec": spec}


def endpoint(path: str, bridge: str, node: str, *addresses: str, **spec: Any) -> Document:
    tenant, of, name = path.split("/")
    spec = {"domain": of, "bridge": bridge, "node": node, **spec}
    if addresses:
        spec["addresses"] = list(addresses)
    return {"kind": "endpoint", "tenant": tenant, "name": name, "spec": spec}


@dataclass
class Guest:
    """The inside of an endpoint: where a workload would run."""

    path: str
    namespace: str
    mac: str = ""
    addresses: tuple[str, ...] = ()
    device: str = "eth0"

    def ip(self, family: int = 4) -> str:
        return next(a for a in self.addresses if ip_address(a).version == family)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with entered(NETNS_DIR / self.namespace):
            return socket.socket(family, kind, protocol)

    def udp(self, port: int = 0, family: int = 4, address: str | None = None) -> socket.socket:
        opened = self.socket(_family(family), socket.SOCK_DGRAM)
        opened.bind((self.ip(family) if address is None else address, port))
        opened.settimeout(5)
        return opened

    def listen(self, port: int, family: int = 4) -> socket.socket:
        opened = self.socket(_family(family), socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("" if family == 4 else "::", port))
        opened.listen(64)
        opened.settimeout(5)
        return opened

    def connect(self, address: str, port: int, timeout_s: float = 5) -> socket.socket:
        opened = self.socket(_family(ip_address(address).version), socket.SOCK_STREAM)
        opened.settimeout(timeout_s)
        try:
            opened.connect((address, port))
        except OSError:
            opened.close()
            raise
        return opened

    def wire(self) -> Wire:
        """Frames as they are on the guest's device."""
        opened = self.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        opened.bind((self.device, ETH_P_ALL))
        return Wire(opened)

    def start(self, *argv: str, **more: Any) -> subprocess.Popen[str]:
        """A program inside, its output in pipes."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(fabric.enter(self.namespace, argv), **{**pipes, **more})

    def run(self, *argv: str, timeout_s: float = 20, ok: bool = True) -> str:
        """Output of a program that ran inside; `ok`: it must succeed."""
        command = fabric.enter(self.namespace, argv)
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        said = done.stdout + done.stderr
        assert not ok or done.returncode == 0, f"{' '.join(argv)}: {said}"
        return said


@dataclass
class Wire:
    """A packet socket on a guest's device."""

    socket: socket.socket

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, frame: object) -> None:
        self.socket.send(bytes(frame))  # type: ignore[call-overload]

    def frames(self, timeout_s: float = 0.0) -> Iterator[bytes]:
        """Frames that came in, not those that went out; at least one, or the time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([self.socket], [], [], left_s)[0]:
                return
            frame, (_, _, kind, _, _) = self.socket.recvfrom(65535)
            if kind != socket.PACKET_OUTGOING:
                yield frame

    def await_frame(self, wanted: Callable[[bytes], bool], timeout_s: float = 5.0) -> bytes:
        for frame in self.frames(timeout_s):
            if wanted(frame):
                return frame
        raise AssertionError(f"no such frame in {timeout_s} s")


@dataclass
class Zone:
    """One sandbox."""

    layout: Layout
    nodes: Sequence[str] = field(default_factory=lambda: node_names(3))

    def client(self, node: str = "n1") -> Client:
        return Client(str(self.layout.socket(node)))

    # Objects

    def apply(self, documents: Iterable[Document], node: str = "n1", wait: bool = True) -> int:
        client = self.client(node)
        revision = client.apply(list(documents)).revision
        if wait:
            self.wait(revision, node)
        return revision

    def wait(self, revision: int, node: str = "n1") -> None:
        waited = self.client(node).wait(revision, PROGRAM_S)
        assert waited.done, waited.missing

    def delete(self, *refs: tuple[str, str], wait: bool = True) -> None:
        revision = self.client().delete(refs).revision
        if wait:
            self.wait(revision)

    def drop_tenant(self, name: str) -> None:
        """Everything of a tenant, in one change."""
        client = self.client()
        found = [
            (kind, view.path)
            for kind in ("endpoint", "domain")
            for view in client.list(kind, tenant=name).items
        ]
        known = (
            [("tenant", name)] if any(t.name == name for t in client.list("tenant").items) else []
        )
        if found or known:
            self.delete(*found, *known)

    def view(self, path: str, kind: str = "endpoint") -> View:
        return self.client().get(kind, path)

    def guest(self, path: str) -> Guest:
        view = self.view(path)
        attach = view.spec.get("attach") or {}
        return Guest(
            path,
            attach.get("namespace") or default_namespace(*path.split("/")),
            view.allocated["mac"],
            tuple(view.allocated["addresses"]),
            attach.get("device") or "eth0",
        )

    def guests(self, tenant: str) -> dict[str, Guest]:
        """By `domain/name`."""
        listing = self.client().list("endpoint", tenant=tenant).items
        return {view.path.partition("/")[2]: self.guest(view.path) for view in listing}

    # Counters

    def dropped(self, reason: str, of: str | None = None) -> int:
        """Packets with this drop reason, of an endpoint or (None) of all nodes' own."""
        assert reason in Drop.__members__, reason
        counters = self.client().counters()
        assert not counters.unreachable, counters.unreachable
        rows = (row for row in counters.drops if row["endpoint"] == of)
        return sum(row["packets"] for row in rows if row["reason"] == reason)

    @contextlib.contextmanager
    def drops(self, reason: str, of: str | None, count: int = 1) -> Iterator[None]:
        """What happens inside is dropped for this reason, at least `count` packets."""
        before = self.dropped(reason, of)
        yield
        until(lambda: self.dropped(reason, of) >= before + count)

    def hits(self, domain: str, rule: str) -> int:
        rows = self.client().counters().rules
        return sum(r["hits"] for r in rows if r["domain"] == domain and r["rule"] == rule)

    # Daemons

    def pid(self, node: str) -> int:
        found = [p.pid for p in process.processes(self.layout) if p.node == node]
        assert len(found) == 1, found
        return found[0]

    def kill(self, *nodes: str) -> None:
        """kill -9, and wait until they are gone."""
        handles = []
        for node in nodes or self.nodes:
            handles.append(os.pidfd_open(self.pid(node)))
            signal.pidfd_send_signal(handles[-1], signal.SIGKILL)
        for handle in handles:
            waiting = select.poll()  # select() takes no descriptor above 1023
            waiting.register(handle, select.POLLIN)
            assert waiting.poll(5000), "still alive"
            os.close(handle)

    def launch(self, *nodes: str) -> None:
        for node in nodes or self.nodes:
            process.start_plumd(self.layout, node, f"sqlite://{self.layout.store}")

    def start(self, *nodes: str) -> None:
        """Start, and wait until each has caught up with the store."""
        self.launch(*nodes)
        for node in nodes or self.nodes:
            until(lambda node=node: self.ready(node), 20)

    def ready(self, node: str) -> bool:
        with contextlib.suppress(Exception):
            return self.client(node).status().ready
        return False

    def repairs(self, node: str) -> list[str]:
        return [str(repair["what"]) for repair in self.client(node).status().repairs]

    def log(self, node: str) -> str:
        return self.layout.log(node).read_text(errors="replace")

    def namespace(self, node: str) -> Path:
        return NETNS_DIR / self.layout.namespace(node)

    def on(self, node: str, *argv: str) -> str:
        """Output of a program that ran on a node."""
        return Guest(node, self.layout.namespace(node)).run(*argv)

    def mac_of(self, node: str, device: str) -> str:
        return self.on(node, "ip", "-o", "link", "show", device).split("link/ether ")[1][:17]

    def device(self, path: str) -> str:
        """Name of an endpoint's device on its node."""
        node = self.view(path).spec["node"]
        alias = f"plum:{node}:{path}"
        for line in self.on(node, "ip", "-o", "link", "show").splitlines():
            if line.split("alias ")[-1].split("\\")[0].strip() == alias:
                return line.split(": ")[1].split("@")[0]
        raise AssertionError(f"no device of {path} on {node}")


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET if version == 4 else socket.AF_INET6


# Traffic


def echoed(client: Guest, server: Guest, port: int = 7, family: int = 4) -> None:
    """A datagram goes there and its answer comes back, or the test fails."""
    with server.udp(port, family) as there, client.udp(0, family) as here:
        here.sendto(b"question", (server.ip(family), port))
        question, sender = there.recvfrom(100)
        there.sendto(b"answer", sender)
        assert (question, here.recv(100)) == (b"question", b"answer")


@dataclass(frozen=True, eq=False)
class Attempt:
    """One connection or echo request somebody tries to make."""

    client: Guest
    server: Guest
    port: int  # 0: ping
    family: int = 4


def outcomes(attempts: Sequence[Attempt], refused_s: float = 1.0) -> dict[Attempt, bool]:
    """Which get through; all are tried at once. Guests listen on every port asked for.

    A ping is an echo request on a datagram socket. What has no answer after
    `refused_s` from the last answer counts as refused.
    """
    with contextlib.ExitStack() as stack:
        for server, port, family in {(id(a.server), a.port, a.family) for a in attempts if a.port}:
            guest = next(a.server for a in attempts if id(a.server) == server)
            stack.enter_context(guest.listen(port, family))
        poll = select.poll()
        waiting: dict[int, tuple[Attempt, socket.socket]] = {}
        for attempt in attempts:
            opened = stack.enter_context(_begin(attempt))
            waiting[opened.fileno()] = attempt, opened
            poll.register(opened, select.POLLIN if not attempt.port else select.POLLOUT)
        result = dict.fromkeys(attempts, False)
        while waiting and (ready := poll.poll(refused_s * 1000)):
            for fd, _ in ready:
                attempt, opened = waiting.pop(fd)
                poll.unregister(fd)
                result[attempt] = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        return result


def _begin(attempt: Attempt) -> socket.socket:
    family = _family(attempt.family)
    address = attempt.server.ip(attempt.family)
    if attempt.port:
        opened = attempt.client.socket(family, socket.SOCK_STREAM)
        opened.setblocking(False)
        opened.connect_ex((address, attempt.port))
        return opened
    protocol = socket.IPPROTO_ICMP if attempt.family == 4 else socket.IPPROTO_ICMPV6
    opened = attempt.client.socket(family, socket.SOCK_RAW, protocol)
    opened.setblocking(False)
    opened.connect((address, 0))
    if attempt.family == 4:
        opened.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF ^ 1 << 0))
    else:
        only_replies = [0xFFFFFFFF] * 8
        only_replies[129 >> 5] &= ~(1 << (129 & 31))
        opened.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("=8I", *only_replies))
    opened.send(_echo_request(attempt.family, opened.fileno()))
    return opened


def _echo_request(family: int, number: int) -> bytes:
    head = struct.pack("!BBHHH", 8 if family == 4 else 128, 0, 0, number, 1)
    total = sum(struct.unpack("!4H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:2] + struct.pack("!H", ~total & 0xFFFF) + head[4:]  # IPv6: the kernel's own
