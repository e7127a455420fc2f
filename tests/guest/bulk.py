"""A TCP service inside an endpoint's namespace that gives and takes content by its hash."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.system.zone import Guest

GIVE, TAKE = 9001, 9002  #: ports: whoever connects is sent the content; is read to the end
TIMEOUT_S = 60


@dataclass
class Bulk:
    content: bytes
    taken: list[str] = field(default_factory=list)  #: SHA-256 of each upload

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def give(self, connection: socket.socket) -> None:
        connection.sendall(self.content)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1):
            pass

    def take(self, connection: socket.socket) -> None:
        digest = hashlib.sha256()
        while block := connection.recv(1 << 20):
            digest.update(block)
        self.taken.append(digest.hexdigest())


@contextmanager
def serving(guest: Guest, size: int) -> Iterator[Bulk]:
    """Both ports, IPv4 and IPv6, one connection at a time each."""
    bulk = Bulk(random.Random(size).randbytes(size))
    with ExitStack() as stack:
        listeners = [
            (stack.enter_context(_listener(guest, port, family)), answer)
            for port, answer in ((GIVE, bulk.give), (TAKE, bulk.take))
            for family in (4, 6)
        ]
        threads = [threading.Thread(target=_serve, args=one) for one in listeners]
        for thread in threads:
            thread.start()
        try:
            yield bulk
        finally:
            for listener, _ in listeners:
                listener.shutdown(socket.SHUT_RDWR)  # wakes its accept()
            for thread in threads:
                thread.join(TIMEOUT_S)


def _listener(guest: Guest, port: int, family: int) -> socket.socket:
    opened = guest.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    if family == 6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    opened.bind((guest.ip(family), port))
    opened.listen()
    return opened


def _serve(listener: socket.socket, answer: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # shut down: the test is over
            return
        with connection:
            connection.settimeout(TIMEOUT_S)
            answer(connection)
