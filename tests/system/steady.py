"""Traffic that goes on while something is done to the zone, and what became of it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.system.zone import Guest

UDP_PORT, TCP_PORT = 7301, 7302
EVERY_S = 0.01
PATIENCE_S = 3.0  # after which an echo does not come any more


@dataclass
class Steady:
    """A datagram and a few bytes of one connection every 10 ms, echoed by the other end."""

    sent: int = 0
    echoed: set[int] = field(default_factory=set)
    connection_echoes: int = 0
    broken: str = ""  # why the connection ended

    def check(self, at_least: int = 10) -> None:
        """Everything came back, and there was something."""
        lost = sorted(set(range(self.sent)) - self.echoed)
        assert not lost, f"lost {len(lost)} of {self.sent} datagrams: {lost[:10]}"
        assert not self.broken, self.broken
        assert self.sent >= at_least and self.connection_echoes >= at_least, self


@contextlib.contextmanager
def steady(client: Guest, server: Guest) -> Iterator[Steady]:
    """Runs until the block ends; then waits for the last echoes."""
    seen, over = Steady(), threading.Event()
    with contextlib.ExitStack() as stack:
        there, here = stack.enter_context(server.udp(UDP_PORT)), stack.enter_context(client.udp())
        listener = stack.enter_context(server.listen(TCP_PORT))
        near = stack.enter_context(client.connect(server.ip(), TCP_PORT))
        far = stack.enter_context(listener.accept()[0])
        near.settimeout(PATIENCE_S * 4)
        here.connect((server.ip(), UDP_PORT))
        threads = [
            _thread(_echo, there),
            _thread(_echo_stream, far),
            _thread(_collect, here, seen, over),
            _thread(_send, here, seen, over),
            _thread(_talk, near, seen, over),
        ]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            over.set()
            for thread in threads[2:]:
                thread.join()
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                here.send(b"")  # ends the echo
            for thread in threads[:2]:
                thread.join(PATIENCE_S)


def _thread(run: Callable[..., None], *arguments: object) -> threading.Thread:
    """Whatever becomes of it, the tests end."""
    return threading.Thread(target=run, args=arguments, daemon=True)


def _echo(there: socket.socket) -> None:
    there.settimeout(None)
    with contextlib.suppress(OSError):
        while True:
            datagram, sender = there.recvfrom(64)
            if not datagram:
                return
            there.sendto(datagram, sender)


def _echo_stream(far: socket.socket) -> None:
    far.settimeout(None)
    with contextlib.suppress(OSError):
        while block := far.recv(4096):
            far.sendall(block)


def _send(here: socket.socket, seen: Steady, over: threading.Event) -> None:
    try:
        while not over.wait(EVERY_S):
            here.send(seen.sent.to_bytes(8, "big"))
            seen.sent += 1
    except OSError as error:
        seen.broken = f"a datagram was not sent: {error}"


def _collect(here: socket.socket, seen: Steady, over: threading.Event) -> None:
    here.settimeout(0.1)
    deadline = 0.0
    while True:
        with contextlib.suppress(OSError):  # TimeoutError is one; a refusal is a loss
            seen.echoed.add(int.from_bytes(here.recv(64), "big"))
        if not over.is_set():
            continue
        deadline = deadline or time.monotonic() + PATIENCE_S
        if len(seen.echoed) >= seen.sent or time.monotonic() > deadline:
            return


def _talk(near: socket.socket, seen: Steady, over: threading.Event) -> None:
    try:
        while not over.wait(EVERY_S):
            near.sendall(b"plum")
            got = b""
            while len(got) < 4:
                part = near.recv(4 - len(got))
                if not part:
                    raise ConnectionError("the other end closed it")
                got += part
            seen.connection_echoes += 1
    except OSError as error:
        seen.broken = f"the connection broke: {error}"
