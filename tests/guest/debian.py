"""A Debian 12 guest on Debian's kernel, with this checkout and its Python packages.

Two disks: /dev/vda is a small Debian made once by debootstrap (build/guest/), and
/dev/vdb holds what is under test: plumctl, daemon, bpf with the compiled objects,
tests, and the packages that pyproject.toml names, copied from this environment.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.guest.initramfs import Initramfs
from tests.guest.kernel import CACHE, debian_kernel, publish
from tests.guest.machine import MARK, Disk, Machine, Report, script_of

ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PACKAGES = ("python3", "libbpf1", "iproute2", "iputils-ping", "netcat-openbsd", "procps")
MODULES = (
    *("virtio_pci", "virtio_blk"),
    *("veth", "bridge", "tun", "vxlan", "sch_ingress", "cls_bpf"),
)
BASE_MIB = 900
MAKE_TIMEOUT_S = 600
CHECKOUT = ("plumctl", "daemon", "bpf", "examples", "tests", "pyproject.toml")

INIT = f"""#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
while read -r module; do insmod "$module"; done < /load-modules
mkdir /debian
mount -t ext4 /dev/vda /debian && mount -t ext4 /dev/vdb /debian/opt || poweroff -f
for folder in proc sys dev; do mount -o bind /$folder /debian/$folder; done
mount -t tmpfs run /debian/run
mount -t bpf bpf /debian/sys/fs/bpf
ip link set lo up
echo "{MARK} up"
cp /commands /debian/run/commands
chroot /debian /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \\
    PYTHONPATH=/opt/plum /bin/bash -c 'cd /opt/plum && . /run/commands' | cat
poweroff -f
"""


def run_debian(commands: Sequence[str], timeout_s: float = 300) -> Report:
    """Boot, run the commands with bash in /opt/plum (the checkout), power off."""
    kernel = debian_kernel()
    initramfs = Initramfs()
    initramfs.add_busybox()
    initramfs.add_modules(kernel, MODULES)
    initramfs.add("init", INIT, mode=0o755)
    initramfs.add("commands", script_of(commands, "bash"))
    with checkout_disk() as checkout:
        disks = [Disk(base_disk()), Disk(checkout)]
        machine = Machine(kernel, initramfs, memory_mib=1536, cpus=2, disks=disks)
        with machine.running():
            return machine.wait(commands, timeout_s)


def base_disk(packages: Sequence[str] = PACKAGES, size_mib: int = BASE_MIB) -> Path:
    image = CACHE / f"debian-12-{'-'.join(packages)}.ext4"
    if not image.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            root, made = Path(scratch, "root"), Path(scratch, "image")
            command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}"]
            done = subprocess.run(
                [*command, SUITE, str(root), *mirror()],
                capture_output=True,
                text=True,
                timeout=MAKE_TIMEOUT_S,
            )
            unmount_below(root)
            if done.returncode:
                raise RuntimeError(f"debootstrap failed: {done.stdout[-2000:]}{done.stderr}")
            shutil.rmtree(root / "var/cache/apt/archives")
            # systemd's packaging puts an ACL on it, which mke2fs cannot copy.
            shutil.rmtree(root / "var/log/journal", ignore_errors=True)
            # What lies in /opt/site is found without a variable, as an installed package is.
            site = root / "usr/local/lib/python3.11/dist-packages"
            if site.exists():
                (site / "plum.pth").write_text("/opt/site\n")
            make_image(root, made, size_mib)
            publish(made, image)
    return image


def unmount_below(root: Path) -> None:
    """debootstrap leaves /proc mounted for some packages: it must neither be copied into an
    image nor be walked through when the folder is deleted."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        place = Path(line.split()[4])
        if place.is_relative_to(root):
            subprocess.run(["umount", str(place)], check=True)


def mirror() -> list[str]:
    """The one apt is configured with; none: debootstrap's own choice."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {SUITE}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[:1]


@contextmanager
def checkout_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="plum-guest-") as scratch:
        root, image = Path(scratch, "root"), Path(scratch, "image")
        # With compiled caches, valid by their sources' times: emulated, compiling takes long.
        ignore = shutil.ignore_patterns(".*")
        for name in CHECKOUT:
            source, target = ROOT / name, root / "plum" / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=ignore)
            else:
                shutil.copy(source, target)
        for package in needed():
            copy_package(package, root / "site")
        size_mib = sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) // 2**20
        make_image(root, image, size_mib * 2 + 64)
        yield image


def needed() -> list[Distribution]:
    """The packages pyproject.toml asks for at run time, and those they ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    found: dict[str, Distribution] = {}
    while waiting:
        requirement = waiting.pop()
        here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        name = requirement.name.lower().replace("_", "-")
        if here and name not in found:
            found[name] = distribution(requirement.name)
            waiting += [Requirement(text) for text in found[name].requires or ()]
    return list(found.values())


def copy_package(package: Distribution, site: Path) -> None:
    """Its modules, as they are installed here, and no scripts."""
    for file in package.files or ():
        if ".." in file.parts:
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(file.locate()), target)


def make_image(root: Path, image: Path, size_mib: int) -> None:
    command = ["mke2fs", "-q", "-t", "ext4", "-d", str(root), "-O", "^has_journal"]
    subprocess.run([*command, str(image), f"{size_mib}M"], check=True)
