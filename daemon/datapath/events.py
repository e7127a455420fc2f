"""What the datapath tells through ring buffers, brought into asyncio."""

from __future__ import annotations

import asyncio
import ctypes
import logging
from collections.abc import Callable

from daemon.abi import Punt
from daemon.datapath import libbpf
from daemon.datapath.maps import Map

log = logging.getLogger(__name__)


class RingReader:
    """Calls `handler(sample)` in the event loop for every record of a ring buffer."""

    def __init__(self, ring: Map, handler: Callable[[bytes], None]) -> None:
        self._name = ring.name
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
        libbpf.call(f"consume {self._name}", "ring_buffer__consume", self._ring)
        samples, self._samples = self._samples, []
        for sample in samples:
            try:
                self._handler(sample)
            except Exception:  # a hostile packet must not end the reader
                log.exception("failed on a record of %s", self._name)


class PuntReader(RingReader):
    """Calls `handler(punt, frame)` for every packet that is for a responder."""

    def __init__(self, ring: Map, handler: Callable[[Punt, bytes], None]) -> None:
        def unpacked(sample: bytes) -> None:
            punt = Punt.unpack(sample)
            handler(punt, punt.frame[: punt.len])

        super().__init__(ring, unpacked)
