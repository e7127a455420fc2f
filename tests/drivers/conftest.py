"""Privileged fixtures: a throw-away node namespace and two loaded programs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.datapath.libbpf import mount_bpffs
from daemon.datapath.loader import Datapath, load
from daemon.drivers.netlink import Netlink
from daemon.drivers.netns import Namespaces, netlink_in

MakeNamespace = Callable[[], Path]


@pytest.fixture
def namespaces(tmp_path: Path) -> Iterator[Namespaces]:
    if os.geteuid():
        pytest.skip("needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN)")
    ours = Namespaces(tmp_path / "run")
    yield ours
    for name in ours.list_owned():
        ours.delete(name)


@pytest.fixture
def make_namespace(namespaces: Namespaces) -> MakeNamespace:
    def make() -> Path:
        name = f"t-datapath-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        namespaces.ensure(name)
        return namespaces.path(name)

    return make


@pytest.fixture
def node(make_namespace: MakeNamespace) -> Path:
    """The namespace that plays the node."""
    return make_namespace()


@pytest.fixture
def kernel(node: Path) -> Iterator[Netlink]:
    with netlink_in(node) as opened:
        yield opened


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Datapath]:
    if os.geteuid():
        pytest.skip("needs root (CAP_BPF, CAP_NET_ADMIN)")
    out = tmp_path_factory.mktemp("bpf") / "verdicts.bpf.o"
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", include]
    source = str(Path(__file__).with_name("verdicts.bpf.c"))
    subprocess.run(["clang", *flags, "-c", source, "-o", str(out)], check=True)
    mount_bpffs()
    pins = Path(f"/sys/fs/bpf/t-datapath-drivers-{os.getpid()}")
    loaded = load(pins, [out])
    yield loaded
    loaded.close()
    shutil.rmtree(pins)
