"""Reading and writing BPF maps, in batches.

Rows are bytes; `daemon.abi.MAPS` names the classes that pack and unpack them.
Array maps behave like hash maps whose missing rows are zeros: `dump` leaves
zero rows out and `delete` writes zeros. Values of per-CPU maps are sums over
CPUs, taken 64 bits at a time.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from ctypes import byref, c_uint32, create_string_buffer
from pathlib import Path

from daemon.datapath import libbpf
from daemon.datapath.libbpf import DatapathError

BATCH_ROWS = 8192
ENOTSUPP = 524  # the kernel's own number for "no such operation on this map"
NO_BATCH = {errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP}

# enum bpf_map_type (include/uapi/linux/bpf.h).
ARRAY, PROG_ARRAY, PERCPU_HASH, PERCPU_ARRAY = 2, 3, 5, 6
LRU_HASH, LRU_PERCPU_HASH = 9, 10
RINGBUF = 27
ARRAYS = {ARRAY, PERCPU_ARRAY}
PERCPU = {PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH}
LRUS = {LRU_HASH, LRU_PERCPU_HASH}

Buffer = ctypes.Array[ctypes.c_char]


class NoBatch(Exception):
    """This map is read one row at a time."""


class Map:
    """One BPF map by file descriptor, which it owns. Raises DatapathError."""

    def __init__(self, fd: int) -> None:
        info = libbpf.MapInfo()
        libbpf.info(fd, info)
        self.fd = fd
        self.id: int = info.id
        self.name: str = info.name.decode()
        self.type: int = info.type
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self.flags: int = info.map_flags
        self.btf_id: int = info.btf_id  # 0: the kernel knows no types
        self.btf_types: tuple[int, int] = (info.btf_key_type_id, info.btf_value_type_id)
        self._cpus = 1
        self._stride = self.value_size  # bytes of a value as the kernel copies it
        if self.type in PERCPU:
            self._cpus = libbpf.call("number of CPUs", "libbpf_num_possible_cpus")
            self._stride = (self.value_size + 7) // 8 * 8 * self._cpus

    @classmethod
    def pinned(cls, path: Path) -> Map:
        return cls(libbpf.call(f"open pinned map {path}", "bpf_obj_get", os.fsencode(path)))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def lookup(self, key: bytes) -> bytes | None:
        """The row's value, None if there is none."""
        value = create_string_buffer(self._stride)
        result = libbpf.raw("bpf_map_lookup_elem", self.fd, key, value)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise DatapathError(f"look up a row of {self.name}", -result)
        return self._sum(value.raw)

    def update(self, key: bytes, value: bytes) -> None:
        self.update_many([(key, value)])

    def delete(self, key: bytes) -> None:
        """Delete a row; one that is not there is no error."""
        self.delete_many([key])

    def update_many(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Write rows in the order given. On an error those before it are written."""
        todo = list(rows)
        for at in range(0, len(todo), BATCH_ROWS):
            self._update(todo[at : at + BATCH_ROWS])

    def _update(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in rows:
            if len(key) != self.key_size or len(value) != self.value_size:
                raise ValueError(
                    f"{self.name}: row of {len(key)} + {len(value)} bytes,"
                    f" not {self.key_size} + {self.value_size}"
                )
        keys = b"".join(key for key, _ in rows)
        values = b"".join(self._spread(value) for _, value in rows)
        count = c_uint32(len(rows))
        result = -errno.EINVAL
        if len(rows) > 1:
            result = libbpf.raw("bpf_map_update_batch", self.fd, keys, values, byref(count), None)
        if -result in NO_BATCH:
            for key, value in rows:
                result = libbpf.raw("bpf_map_update_elem", self.fd, key, self._spread(value), 0)
                if result < 0:
                    break
        if result == -errno.E2BIG and self.type in ARRAYS:
            raise DatapathError(f"{self.name} has only {self.max_entries} rows", -result)
        if result in (-errno.E2BIG, -errno.ENOSPC):
            raise DatapathError(f"{self.name} is full ({self.max_entries} rows)", -result)
        if result < 0:
            raise DatapathError(f"update {len(rows)} rows of {self.name}", -result)

    def delete_many(self, keys: Iterable[bytes]) -> None:
        """Delete rows; those that are not there are no error."""
        todo = list(keys)
        if self.type in ARRAYS:
            self.update_many((key, bytes(self.value_size)) for key in todo)
            return
        while todo:
            chunk = todo[:BATCH_ROWS]
            if any(len(key) != self.key_size for key in chunk):
                raise ValueError(f"{self.name}: keys have {self.key_size} bytes")
            count = c_uint32(len(chunk))
            result = -errno.EINVAL
            if len(chunk) > 1:
                result = libbpf.raw(
                    "bpf_map_delete_batch", self.fd, b"".join(chunk), byref(count), None
                )
            if -result in NO_BATCH:
                count.value, result = 1, libbpf.raw("bpf_map_delete_elem", self.fd, chunk[0])
            elif result == -errno.ENOENT:
                count.value += 1  # it stopped at a missing row: step over it
            if result < 0 and result != -errno.ENOENT:
                raise DatapathError(f"delete rows of {self.name}", -result)
            del todo[: count.value]

    def dump(self) -> dict[bytes, bytes]:
        """All rows. One that changes meanwhile may be missed, none appears twice."""
        try:
            rows: dict[bytes, bytes] = {}
            for keys, values, count in self._chunks():
                self._collect(rows, keys, values, count)
            return rows
        except NoBatch:
            return self._walk()

    def digest(self, rows: int | None = None) -> bytes:
        """A hash of all rows, or of an array's first `rows`: equal while nothing changes.

        Much cheaper than `dump`, which makes an object of every row.
        """
        state = hashlib.blake2b(digest_size=16)
        try:
            for keys, values, count in self._chunks(rows):
                state.update(memoryview(keys)[: count * self.key_size])
                state.update(memoryview(values)[: count * self._stride])
        except NoBatch:
            for key, value in self._walk().items():
                state.update(key + value)
        return state.digest()

    def _chunks(self, rows: int | None = None) -> Iterator[tuple[Buffer, Buffer, int]]:
        """Keys, values and their number as the kernel hands them out, in its order.

        `rows`: not more than these; of an array its first.
        """
        left = self.max_entries if rows is None else rows
        chunk = min(left, BATCH_ROWS)
        keys = create_string_buffer(chunk * self.key_size)
        values = create_string_buffer(chunk * self._stride)
        # Where to go on: a bucket number for hash maps, a key for the others.
        token = create_string_buffer(max(self.key_size, 4))
        first, done = True, chunk == 0
        while not done:
            count = c_uint32(min(chunk, left) if self.type in ARRAYS else chunk)
            start = None if first else token
            result = libbpf.raw(
                "bpf_map_lookup_batch", self.fd, start, token, keys, values, byref(count), None
            )
            if result == -errno.ENOSPC:  # a hash bucket holds more rows than asked for
                chunk *= 2
                keys = create_string_buffer(chunk * self.key_size)
                values = create_string_buffer(chunk * self._stride)
                continue
            if first and -result in NO_BATCH:
                raise NoBatch
            if result < 0 and result != -errno.ENOENT:
                raise DatapathError(f"read {self.name}", -result)
            yield keys, values, count.value
            left -= count.value
            first, done = False, result == -errno.ENOENT or (left <= 0 and self.type in ARRAYS)

    def _collect(
        self,
        rows: dict[bytes, bytes],
        keys: Buffer,
        values: Buffer,
        count: int,
    ) -> None:
        size, stride, zero = self.key_size, self._stride, bytes(self.value_size)
        all_keys = ctypes.string_at(keys, count * size)
        all_values = ctypes.string_at(values, count * stride)
        found = [all_values[i : i + stride] for i in range(0, count * stride, stride)]
        if self._cpus > 1:
            found = [self._sum(value) for value in found]
        names = (all_keys[i : i + size] for i in range(0, count * size, size))
        pairs = zip(names, found, strict=True)
        if self.type in ARRAYS:
            rows.update(pair for pair in pairs if pair[1] != zero)
        else:
            rows.update(pairs)

    def _walk(self) -> dict[bytes, bytes]:
        """Every row, one system call or two each: for maps without batch operations."""
        rows: dict[bytes, bytes] = {}
        key: bytes | None = None
        found = create_string_buffer(self.key_size)
        while (result := libbpf.raw("bpf_map_get_next_key", self.fd, key, found)) == 0:
            key = found.raw
            value = self.lookup(key)
            if value is not None and not (self.type in ARRAYS and not any(value)):
                rows[key] = value
        if result != -errno.ENOENT:
            raise DatapathError(f"walk {self.name}", -result)
        return rows

    def _sum(self, value: bytes) -> bytes:
        if self._cpus == 1:
            return value[: self.value_size]
        words = struct.unpack(f"<{len(value) // 8}Q", value)
        width = len(words) // self._cpus
        sums = (sum(words[i::width]) & 0xFFFFFFFFFFFFFFFF for i in range(width))
        return struct.pack(f"<{width}Q", *sums)[: self.value_size]

    def _spread(self, value: bytes) -> bytes:
        """A per-CPU value is written to the first CPU, and zeros to the others."""
        return value if self._cpus == 1 else value.ljust(self._stride, b"\0")
