"""Privileged fixtures: the datapath of this checkout, compiled and loaded once."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.datapath.libbpf import mount_bpffs
from tests.bpf.lab import Lab

SOURCE = Path(__file__).resolve().parents[2] / "bpf/plum.bpf.c"


def compiled_object(out: Path) -> Path:
    """The datapath of this checkout, compiled into a directory of the test's own."""
    target = out / "plum.bpf.o"
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Wno-unused-parameter"]
    command = ["clang", *flags, "-Werror", include, "-c", str(SOURCE), "-o", str(target)]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    out = compiled_object(tmp_path_factory.mktemp("bpf"))
    mount_bpffs()
    pins = Path(f"/sys/fs/bpf/t-packets-{os.getpid()}")
    pins.mkdir()
    lab: Lab | None = None
    try:
        lab = Lab(pins, out)
        yield lab
    finally:
        if lab:
            lab.close()
        shutil.rmtree(pins)


@pytest.fixture
def lab(loaded: Lab) -> Lab:
    """The default zone, and nothing has happened yet."""
    loaded.reset()
    return loaded
