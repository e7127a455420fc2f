"""BPF_PROG_TEST_RUN: a packet through a program, without a device's queue."""

from __future__ import annotations

import ctypes
import struct
from ctypes import byref, cast, create_string_buffer
from dataclasses import dataclass

from daemon.datapath import libbpf

# Offsets in struct __sk_buff (include/uapi/linux/bpf.h).
SKB_BYTES = 192
MARK, INGRESS_IFINDEX, IFINDEX, CB, GSO_SEGS, GSO_SIZE = 8, 36, 40, 48, 164, 176
OUT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Result:
    """What a program answered."""

    retval: int  # signed: TC_ACT_OK 0, SHOT 2, REDIRECT 7, UNSPEC -1
    data: bytes  # the frame as the program left it
    mark: int
    cb: tuple[int, ...]
    duration_ns: int  # mean of the repeats


def run_packet(
    program_fd: int,
    frame: bytes,
    *,
    ifindex: int = 0,
    mark: int = 0,
    cb: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0),
    gso_size: int = 0,
    gso_segs: int = 0,
    repeat: int = 1,
) -> Result:
    """Run a tc program over `frame` (at least an Ethernet header).

    `ifindex` is a device of the calling thread's network namespace; the program
    sees it as both ifindex and ingress_ifindex. Raises DatapathError.
    """
    context = bytearray(SKB_BYTES)
    for offset, value in (
        (MARK, mark),
        (INGRESS_IFINDEX, ifindex),
        (IFINDEX, ifindex),
        (GSO_SEGS, gso_segs),
        (GSO_SIZE, gso_size),
    ):
        struct.pack_into("<I", context, offset, value)
    struct.pack_into("<5I", context, CB, *cb)
    context_in = create_string_buffer(bytes(context), SKB_BYTES)
    context_out = create_string_buffer(SKB_BYTES)
    data_out = create_string_buffer(OUT_BYTES)
    options = libbpf.RunOpts(
        sz=ctypes.sizeof(libbpf.RunOpts),
        data_in=cast(ctypes.c_char_p(frame), ctypes.c_void_p),
        data_size_in=len(frame),
        data_out=ctypes.addressof(data_out),
        data_size_out=OUT_BYTES,
        ctx_in=ctypes.addressof(context_in),
        ctx_size_in=SKB_BYTES,
        ctx_out=ctypes.addressof(context_out),
        ctx_size_out=SKB_BYTES,
        repeat=repeat,
    )
    libbpf.call("run a packet", "bpf_prog_test_run_opts", program_fd, byref(options))
    return Result(
        retval=ctypes.c_int32(options.retval).value,
        data=ctypes.string_at(data_out, options.data_size_out),
        mark=struct.unpack_from("<I", context_out, MARK)[0],
        cb=struct.unpack_from("<5I", context_out, CB),
        duration_ns=options.duration,
    )


def run_syscall(program_fd: int, context: bytes) -> tuple[int, bytes]:
    """Run a SEC("syscall") program; answers its return value and the context it left."""
    buffer = create_string_buffer(context, len(context))
    options = libbpf.RunOpts(
        sz=ctypes.sizeof(libbpf.RunOpts),
        ctx_in=ctypes.addressof(buffer) if context else None,
        ctx_size_in=len(context),
    )
    libbpf.call("run a syscall program", "bpf_prog_test_run_opts", program_fd, byref(options))
    return ctypes.c_int32(options.retval).value, buffer.raw
