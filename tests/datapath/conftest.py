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


@pytest.fixture(scope="session")
def compile_sample(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    def compile_with(*defines: str) -> Path:
        out = tmp_path_factory.mktemp("bpf") / "sample.bpf.o"
        include = f"-I/usr/include/{platform.machine()}-linux-gnu"
        flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", include]
        defines = (
            defines if any("ENTRIES" in d for d in defines) else (*defines, "-DENTRIES=131072")
        )
        command = ["clang", *flags, *defines, "-c", str(SOURCE), "-o", str(out)]
        subprocess.run(command, check=True)
        return out

    return compile_with


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
