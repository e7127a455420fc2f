"""Binding of the functions of libbpf.so.1 that plumd needs.

Every call goes through `call` (int results) or `pointer` (pointers), which turn
libbpf 1.x errors (negative errno, or NULL with errno set) into DatapathError
and attach what libbpf logged meanwhile, so that a refused program comes with
the end of the verifier's log.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections import deque
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

log = logging.getLogger(__name__)

LOG_TAIL_LINES = 40
WARN = 0  # enum libbpf_print_level


class DatapathError(Exception):
    """A bpf(2) or libbpf operation failed. `errno` is positive; `log` may be empty."""

    def __init__(self, message: str, errno: int = 0, log: str = "") -> None:
        self.message = message
        self.errno = errno
        self.log = log
        text = f"{message}: {os.strerror(errno)}" if errno else message
        super().__init__(f"{text}\n{log}" if log else text)


class RunOpts(ctypes.Structure):
    """struct bpf_test_run_opts (bpf.h)."""

    _fields_ = [
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    ]


class MapInfo(ctypes.Structure):
    """Head of struct bpf_map_info (include/uapi/linux/bpf.h)."""

    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
        ("ifindex", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("btf_id", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
    ]


class ProgramInfo(ctypes.Structure):
    """Head of struct bpf_prog_info (include/uapi/linux/bpf.h)."""

    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", ctypes.c_char * 16),
    ]


SAMPLE_FN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)
_PRINT_FN = CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

_lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
_libc = ctypes.CDLL(None, use_errno=True)
_said = threading.local()

_MAP_IO = [c_int, c_void_p, c_void_p]
_BATCH_OUT = [c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p]
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "bpf_object__open_file": (c_void_p, [c_char_p, c_void_p]),
    "bpf_object__load": (c_int, [c_void_p]),
    "bpf_object__close": (None, [c_void_p]),
    "bpf_object__next_map": (c_void_p, [c_void_p, c_void_p]),
    "bpf_object__next_program": (c_void_p, [c_void_p, c_void_p]),
    "bpf_object__btf": (c_void_p, [c_void_p]),
    "btf__load_from_kernel_by_id": (c_void_p, [c_uint32]),
    "btf__raw_data": (c_void_p, [c_void_p, POINTER(c_uint32)]),
    "btf__free": (None, [c_void_p]),
    "bpf_map__name": (c_char_p, [c_void_p]),
    "bpf_map__fd": (c_int, [c_void_p]),
    "bpf_map__type": (c_uint32, [c_void_p]),
    "bpf_map__key_size": (c_uint32, [c_void_p]),
    "bpf_map__value_size": (c_uint32, [c_void_p]),
    "bpf_map__max_entries": (c_uint32, [c_void_p]),
    "bpf_map__map_flags": (c_uint32, [c_void_p]),
    "bpf_map__set_max_entries": (c_int, [c_void_p, c_uint32]),
    "bpf_map__btf_key_type_id": (c_uint32, [c_void_p]),
    "bpf_map__btf_value_type_id": (c_uint32, [c_void_p]),
    "bpf_map__pin_path": (c_char_p, [c_void_p]),
    "bpf_map__set_pin_path": (c_int, [c_void_p, c_char_p]),
    "bpf_program__name": (c_char_p, [c_void_p]),
    "bpf_program__fd": (c_int, [c_void_p]),
    "bpf_obj_pin": (c_int, [c_int, c_char_p]),
    "bpf_obj_get": (c_int, [c_char_p]),
    "bpf_obj_get_info_by_fd": (c_int, [c_int, c_void_p, POINTER(c_uint32)]),
    "bpf_map_get_fd_by_id": (c_int, [c_uint32]),
    "bpf_map_lookup_elem": (c_int, _MAP_IO),
    "bpf_map_update_elem": (c_int, [*_MAP_IO, c_uint64]),
    "bpf_map_delete_elem": (c_int, [c_int, c_void_p]),
    "bpf_map_get_next_key": (c_int, _MAP_IO),
    "bpf_map_lookup_batch": (c_int, _BATCH_OUT),
    "bpf_map_update_batch": (c_int, [*_MAP_IO, POINTER(c_uint32), c_void_p]),
    "bpf_map_delete_batch": (c_int, [c_int, c_void_p, POINTER(c_uint32), c_void_p]),
    "bpf_prog_test_run_opts": (c_int, [c_int, POINTER(RunOpts)]),
    "ring_buffer__new": (c_void_p, [c_int, SAMPLE_FN, c_void_p, c_void_p]),
    "ring_buffer__epoll_fd": (c_int, [c_void_p]),
    "ring_buffer__consume": (c_int, [c_void_p]),
    "ring_buffer__free": (None, [c_void_p]),
    "libbpf_num_possible_cpus": (c_int, []),
    "libbpf_set_print": (c_void_p, [_PRINT_FN]),
}
for _name, (_result, _arguments) in _SIGNATURES.items():
    _function = getattr(_lib, _name)
    _function.restype = _result
    _function.argtypes = _arguments


def _print(level: int, form: bytes, arguments: int) -> int:
    # va_list is passed by address on x86-64 and arm64 alike.
    text = ctypes.create_string_buffer(1 << 16)
    _libc.vsnprintf(text, c_size_t(len(text)), form, c_void_p(arguments))
    if level == WARN:
        _lines().extend(text.value.decode(errors="replace").splitlines())
    return 0


_printer = _PRINT_FN(_print)  # libbpf keeps only the address
_lib.libbpf_set_print(_printer)


def _lines() -> deque[str]:
    """What libbpf said in this thread since the last `call`, at most the tail."""
    if not hasattr(_said, "lines"):
        _said.lines = deque(maxlen=LOG_TAIL_LINES)
    lines: deque[str] = _said.lines
    return lines


def raw(name: str, *arguments: Any) -> int:
    """Call, and answer the result as libbpf gave it: below 0 is -errno."""
    result: int = getattr(_lib, name)(*arguments)
    return result


def call(what: str, name: str, *arguments: Any) -> int:
    """Call; a negative result raises DatapathError that says `what` failed."""
    lines = _lines()
    lines.clear()
    result = raw(name, *arguments)
    if result < 0:
        raise DatapathError(what, -result, "\n".join(lines))
    for line in lines:
        log.debug("%s", line)  # retries that then succeeded
    return result


def pointer(what: str, name: str, *arguments: Any) -> int:
    """Call a function that answers an object; NULL raises DatapathError."""
    lines = _lines()
    lines.clear()
    result: int | None = getattr(_lib, name)(*arguments)
    if not result:
        raise DatapathError(what, ctypes.get_errno(), "\n".join(lines))
    return result


def text(name: str, handle: int) -> str:
    """A string attribute of a map or program; empty if it has none."""
    value: bytes | None = getattr(_lib, name)(handle)
    return (value or b"").decode()


def each(name: str, handle: int) -> list[int]:
    """Handles of an object's maps or programs (`bpf_object__next_...`)."""
    found: list[int] = []
    item: int | None = getattr(_lib, name)(handle, None)
    while item:
        found.append(item)
        item = getattr(_lib, name)(handle, item)
    return found


def btf_data(handle: int) -> bytes:
    """The bytes of a `struct btf`."""
    size = c_uint32()
    data = pointer("BTF data", "btf__raw_data", handle, ctypes.byref(size))
    return ctypes.string_at(data, size.value)


def free(name: str, handle: int) -> None:
    getattr(_lib, name)(handle)


def info(fd: int, into: MapInfo | ProgramInfo) -> None:
    size = c_uint32(ctypes.sizeof(into))
    call("object info", "bpf_obj_get_info_by_fd", fd, ctypes.byref(into), ctypes.byref(size))


def mount_bpffs(at: str = "/sys/fs/bpf") -> None:
    """Mount the BPF file system there unless it is."""
    with open("/proc/self/mounts") as mounts:
        if any(line.split()[1:3] == [at, "bpf"] for line in mounts):
            return
    if _libc.mount(b"bpf", at.encode(), b"bpf", 0, b"mode=0700"):
        raise DatapathError(f"mount bpffs at {at}", ctypes.get_errno())
