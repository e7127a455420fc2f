"""How long the frames on a device are: whole GSO packets, or one segment each."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.system.zone import ETH_P_ALL, Guest

POLL_S = 0.2


@dataclass
class Sizes:
    """Longest IP packet, in bytes, seen so far in each direction."""

    to_guest: int = 0
    from_guest: int = 0


@contextmanager
def watching(node: Guest, device: str) -> Iterator[Sizes]:
    """A tap on this node. What the kernel sends on it, it sends to the guest."""
    sizes = Sizes()
    done = threading.Event()
    with node.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as opened:
        opened.bind((device, ETH_P_ALL))
        opened.settimeout(POLL_S)
        thread = threading.Thread(target=_watch, args=(opened, sizes, done))
        thread.start()
        try:
            yield sizes
        finally:
            done.set()
            thread.join()


def _watch(opened: socket.socket, sizes: Sizes, done: threading.Event) -> None:
    head = bytearray(1)
    while not done.is_set():
        try:
            # MSG_TRUNC: the packet's length, however little of it is wanted (packet(7)).
            length, sender = opened.recvfrom_into(head, 1, socket.MSG_TRUNC)
        except TimeoutError:
            continue
        if sender[2] == socket.PACKET_OUTGOING:
            sizes.to_guest = max(sizes.to_guest, length)
        else:
            sizes.from_guest = max(sizes.from_guest, length)
