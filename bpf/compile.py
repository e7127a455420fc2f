"""Compile the BPF objects, and check the headers: clang's flags are written here once.

    python3 bpf/compile.py             bpf/*.bpf.c -> bpf/*.bpf.o, where out of date
    python3 bpf/compile.py --headers   every header of bpf/lib/ compiles alone

Only the standard library is needed: setup.py runs this before anything is installed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

BPF = Path(__file__).resolve().parent
FLAGS = (
    "-std=gnu11",
    "-g",  # BTF
    "-O2",
    "-target",
    "bpf",
    "-mcpu=v3",  # 32-bit jumps and atomics that return values; Linux 5.12
    f"-I/usr/include/{platform.machine()}-linux-gnu",  # asm/types.h
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-parameter",  # of callbacks of helpers such as bpf_for_each_map_elem
)


class CompileError(Exception):
    """clang is missing, or refused a source."""


def run_clang(arguments: Iterable[str]) -> None:
    """Raise CompileError with what clang said unless it succeeds."""
    clang = shutil.which(os.environ.get("CLANG", "clang"))
    if clang is None:
        raise CompileError(
            "clang is needed to compile the BPF programs and was not found: "
            "install it (Debian: apt-get install clang libbpf-dev), or set CLANG to its path"
        )
    result = subprocess.run([clang, *FLAGS, *arguments], capture_output=True, text=True)
    if result.returncode:
        raise CompileError(f"clang failed:\n{result.stderr}")


def sources() -> list[Path]:
    return sorted(BPF.glob("*.bpf.c"))


def compile_objects() -> list[Path]:
    """Compile what is older than its sources; return every object.

    An object is replaced by rename, so an interrupted run leaves none half written.
    """
    inputs = [*sources(), *BPF.glob("lib/*.h"), Path(__file__)]
    newest = max(path.stat().st_mtime for path in inputs)
    objects = []
    for source in sources():
        target = source.with_suffix(".o")
        objects.append(target)
        if target.exists() and target.stat().st_mtime > newest:
            continue
        partial = target.with_suffix(f".{os.getpid()}.partial")
        try:
            run_clang(["-c", str(source), "-o", str(partial)])
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return objects


def check_headers() -> None:
    """Each header names all it needs: it compiles alone (unused functions are no fault)."""
    for header in sorted(BPF.glob("lib/*.h")):
        run_clang(["-Wno-unused-function", "-fsyntax-only", "-x", "c", str(header)])


def main(arguments: list[str]) -> None:
    try:
        if arguments == ["--headers"]:
            check_headers()
        elif arguments:
            sys.exit(__doc__)
        else:
            compile_objects()
    except CompileError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
