"""A disk with Debian's Python and all that a node needs at run time, and Plum beside it.

The packages are unpacked and not configured: nothing runs that is not the host's own,
and apt and pip are asked as the host has set them up. The image is kept in build/guest/.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import py_compile
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from tests.guest.initramfs import Initramfs
from tests.guest.kernel import CACHE, FETCH_TIMEOUT_S, debian_kernel, publish, refresh_lists
from tests.guest.machine import MARK, Disk, Machine, script_of

CHECKOUT = Path(__file__).resolve().parents[2]
#: What a sandbox needs while it runs. No compiler is among it: objects come compiled.
PACKAGES = (
    *("bash", "coreutils", "dash", "diffutils", "grep", "sed", "mount", "util-linux", "procps"),
    *("python3", "libbpf1", "iproute2", "iputils-ping", "netcat-openbsd"),
)
MODULES = ("virtio_pci", "virtio_blk", "veth", "bridge", "vxlan", "cls_bpf", "sch_ingress")
SITE = "usr/local/lib/python3.11/dist-packages"
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # usr-is-merged
IMAGE_BYTES = 512 << 20

INIT = f"""#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t devtmpfs dev /dev
while read -r module; do insmod "$module"; done < /load-modules
mount -t ext4 /dev/vda /disk || echo "{MARK} no disk"
mount --move /proc /disk/proc; mount --move /dev /disk/dev
mount -t sysfs sysfs /disk/sys
for folder in run tmp var/lib root; do mount -t tmpfs tmpfs /disk/$folder; done
cp -a /plum /commands /disk/root/
chroot /disk /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 \\
    PYTHONPATH=/root/plum /bin/bash -c 'cd /root; ip link set lo up; . ./commands' | cat
poweroff -f
"""


def dependencies() -> list[str]:
    """What pip must install for plumctl and plumd."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return [str(wanted) for wanted in project["dependencies"]]


def debian_disk() -> Disk:
    """The image for what is wanted now, made if it is not there."""
    made_of = (*PACKAGES, *UNUSED, *dependencies(), Path(__file__).read_text())
    key = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:12]
    image = CACHE / f"debian-{key}.ext4"
    if not image.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            publish(make_image(Path(scratch)), image)
    return Disk(image)


def make_image(scratch: Path) -> Path:
    root = scratch / "root"
    for folder in (*(f"usr/{name}" for name in MERGED), "proc", "dev", "etc", "root"):
        (root / folder).mkdir(parents=True)
    for name in MERGED:
        (root / name).symlink_to(f"usr/{name}")
    for package in download(scratch / "packages"):
        unpack(package, root)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "var/run").rmdir()  # base-files' configuration makes it a link
    (root / "var/run").symlink_to("/run")
    (root / "usr/bin/nc").symlink_to("nc.openbsd")  # an alternative, made on configuration
    for unused in UNUSED:
        run("rm", "-rf", str(root / unused))
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", str(root / SITE))
    run(*pip, "--python-version", "3.11", "--only-binary", ":all:", "--no-compile", *dependencies())
    # Compiling takes emulated machines a minute, each time.
    run(sys.executable, "-m", "compileall", "-q", "-j0", str(root / "usr"), ok=(0, 1))
    image = scratch / "image"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(root), str(image))
    return image


def download(folder: Path) -> list[Path]:
    """The packages and all they depend on, as if nothing was installed."""
    (folder / "partial").mkdir(parents=True)
    options = {
        "Dir::State::status": "/dev/null",
        "Dir::Cache::archives": f"{folder}/",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",  # who may read the folder
    }
    refresh_lists()
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    run(
        *("apt-get", "-qq", "-y", *settings),
        *("install", "--download-only", "--no-install-recommends", *PACKAGES),
    )
    return sorted(folder.glob("*.deb"))


def unpack(package: Path, root: Path) -> None:
    """Like dpkg -x, but through the links of a merged /usr."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as files:
        untar = ["tar", "-C", root, "--keep-directory-symlink", "-x"]
        subprocess.run(untar, stdin=files.stdout, check=True, timeout=FETCH_TIMEOUT_S)
    if files.returncode:
        raise ValueError(f"dpkg-deb cannot read {package.name}")


def run(*argv: str, ok: Sequence[int] = (0,)) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S)
    if done.returncode not in ok:
        raise RuntimeError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")


def debian_machine(commands: Sequence[str], manifests: dict[str, str]) -> Machine:
    """Not started yet. It runs the commands in bash, in /root, with Plum in plum/.

    `manifests`: files beside it, by name.
    """
    kernel = debian_kernel()
    root = Initramfs()
    root.add_busybox()
    root.add_modules(kernel, MODULES)
    root.add_folder("disk")
    add_checkout(root)
    for name, text in manifests.items():
        root.add(f"plum/{name}", text)
    root.add("init", INIT, mode=0o755)
    root.add("commands", script_of(commands, "bash"))
    return Machine(kernel, root, 1024, cpus=os.cpu_count() or 1, disks=[debian_disk()])


def add_checkout(root: Initramfs) -> None:
    """The packages as they are in the working tree, and the objects compiled from it."""
    python = [path for name in ("daemon", "plumctl") for path in (CHECKOUT / name).rglob("*.py")]
    for path in (*python, CHECKOUT / "bpf/__init__.py", *CHECKOUT.glob("bpf/*.bpf.o")):
        root.add(f"plum/{path.relative_to(CHECKOUT)}", path.read_bytes())
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(scratch, "compiled")
        for path in python:
            cached = Path(importlib.util.cache_from_source(str(path))).relative_to(CHECKOUT)
            unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH  # an initramfs has no times
            py_compile.compile(str(path), str(compiled), invalidation_mode=unchecked)
            root.add(f"plum/{cached}", compiled.read_bytes())
