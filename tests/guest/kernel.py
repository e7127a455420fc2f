"""Debian's kernel for emulated guests, fetched once and kept in build/guest/.

The cloud flavour (6.1 on Debian 12) is the oldest kernel we support.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / "build" / "guest"
META_PACKAGE = "linux-image-cloud-amd64"
FETCH_TIMEOUT_S = 300


@dataclass(frozen=True)
class Kernel:
    image: Path
    modules: Path  #: lib/modules/VERSION
    version: str

    def load_order(self, wanted: tuple[str, ...]) -> list[Path]:
        """These modules and what they need, each after its needs.

        A name that the kernel has built in adds nothing; an unknown one is an error.
        """
        needs = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, others = line.partition(":")
            needs[module_name(path)] = (path, [module_name(o) for o in others.split()])
        built_in = (self.modules / "modules.builtin").read_text().splitlines()
        fixed = {module_name(path) for path in built_in}
        ordered: dict[str, Path] = {}

        def add(name: str) -> None:
            if name in fixed or name in ordered:
                return
            if name not in needs:
                raise LookupError(f"{self.version} has no module {name}")
            path, others = needs[name]
            for other in others:
                add(other)
            ordered[name] = self.modules / path

        for name in wanted:
            add(name)
        return list(ordered.values())


def module_name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def debian_kernel() -> Kernel:
    """The newest that apt offers, or the one fetched before."""
    root = CACHE / "kernel"
    if not root.is_dir():
        fetch(root)
    (modules,) = (root / "lib/modules").iterdir()
    return Kernel(root / f"boot/vmlinuz-{modules.name}", modules, modules.name)


@functools.cache
def refresh_lists() -> None:
    """Before a download: old lists name packages that are gone, a clean image has none."""
    subprocess.run(["apt-get", "-qq", "update"], check=True, timeout=FETCH_TIMEOUT_S)


def fetch(root: Path) -> None:
    """Download and unpack the package; `root` appears complete or not at all."""
    CACHE.mkdir(parents=True, exist_ok=True)
    refresh_lists()
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        run = {"cwd": scratch, "check": True, "timeout": FETCH_TIMEOUT_S}
        lookup = ["apt-cache", "depends", META_PACKAGE]
        depends = subprocess.run(lookup, capture_output=True, text=True, **run).stdout
        found = re.search(r"Depends: (linux-image-\S+)", depends)
        if found is None:
            raise LookupError(f"apt knows no {META_PACKAGE}")
        subprocess.run(["apt-get", "-q", "download", found[1]], **run)
        (package,) = Path(scratch).glob("*.deb")
        subprocess.run(["dpkg", "-x", package.name, "root"], **run)
        (modules,) = Path(scratch, "root/lib/modules").iterdir()
        subprocess.run(["depmod", "--basedir", "root", modules.name], **run)
        publish(Path(scratch, "root"), root)


def publish(made: Path, target: Path) -> None:
    """Rename into place; whoever was first wins."""
    try:
        os.rename(made, target)
    except OSError:
        if not target.exists():
            raise
        if made.is_dir():
            shutil.rmtree(made)
        else:
            made.unlink()
