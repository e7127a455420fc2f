"""Packets the datapath hands to a responder, from the ring buffer into asyncio."""

from __future__ import annotations

import asyncio
import ctypes
import logging
from collections.abc import Callable

from daemon.abi import Punt
from daemon.datapath import libbpf
from daemon.datapath.maps import Map

log = logging.getLogger(__name__)


class PuntReader:
    """Calls `handler(punt, frame)` in the event loop for every punted packet."""

    def __init__(self, ring: Map, handler: Callable[[Punt, bytes], None]) -> None:
        self._handler = handler
        self._samples: list[bytes] = []
        # ctypes frees the callback with its last reference: keep it.
        self._callback = libbpf.SAMPLE_FN(self._collect)
        self._ring = libbpf.pointer(
            f"read ring buffer {ring.name}", "ring_buffer__new", ring.fd, self._callback, None, None
        )
        self._epoll_fd = libbpf.raw("ring_buffer__epoll_fd", self._ring)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll_fd, self._consume)

    def close(self) -> None:
        if self._ring:
            self._loop.remove_reader(self._epoll_fd)
            libbpf.free("ring_buffer__free", self._ring)
            self._ring = 0

    def _collect(self, context: int, data: int, size: int) -> int:
        self._samples.append(ctypes.string_at(data, size))
        return 0

    def _consume(self) -> None:
        libbpf.call("consume punted packets", "ring_buffer__consume", self._ring)
        samples, self._samples = self._samples, []
        for sample in samples:
            punt = Punt.unpack(sample)
            try:
                self._handler(punt, punt.frame[: punt.len])
            except Exception:  # a hostile packet must not end the reader
                log.exception("responder failed on a packet of ifindex %d", punt.ifindex)
