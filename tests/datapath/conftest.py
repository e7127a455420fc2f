"""Privileged fixtures: objects compiled from sample.bpf.c, pins of our own."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.datapath.libbpf import mount_bpffs
from daemon.datapath.loader import Datapath, load

SOURCE = Path(__file__).with_name("sample.bpf.c")
Compile = Callable[..., Path]


def compiler(source: Path, folder: Path) -> Compile:
    """Compiles `source` with the macros given, each time into another file."""

    def compile_with(*defines: str) -> Path:
        out = folder / f"{len(list(folder.iterdir()))}.bpf.o"
        include = f"-I/usr/include/{platform.machine()}-linux-gnu"
        flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", include]
        command = ["clang", *flags, *defines, "-c", str(source), "-o", str(out)]
        subprocess.run(command, check=True)
        return out

    return compile_with


@pytest.fixture(scope="session")
def compile_sample(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    compile_with = compiler(SOURCE, tmp_path_factory.mktemp("bpf"))

    def compile_sized(*defines: str) -> Path:
        sized = any("ENTRIES" in define for define in defines)
        return compile_with(*defines, *([] if sized else ["-DENTRIES=131072"]))

    return compile_sized


@pytest.fixture(scope="session")
def compile_carried(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    return compiler(SOURCE.with_name("carried.bpf.c"), tmp_path_factory.mktemp("bpf"))


@pytest.fixture(scope="session")
def sample(compile_sample: Compile) -> Path:
    return compile_sample()


@pytest.fixture
def pins() -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("needs root (CAP_BPF, CAP_NET_ADMIN)")
    mount_bpffs()
    path = Path(f"/sys/fs/bpf/t-datapath-{os.getpid()}")
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def datapath(pins: Path, sample: Path) -> Iterator[Datapath]:
    loaded = load(pins, [sample])
    yield loaded
    loaded.close()
