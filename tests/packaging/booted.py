"""A Debian 12 guest that boots its own systemd, and runs commands when it is up.

/dev/vda is a Debian made once (build/guest/), /dev/vdb holds what is under test.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.guest.debian import base_disk, make_image
from tests.guest.initramfs import Initramfs
from tests.guest.kernel import debian_kernel
from tests.guest.machine import MARK, Cable, Disk, Machine, Report, script_of

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "adduser", "python3", "libbpf1"),
    *("iproute2", "iputils-ping", "procps", "openssh-server", "sudo"),
)
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "ext4"),
    *("veth", "tun", "sch_ingress", "cls_bpf"),
)
BASE_MIB = 1200

INIT = """#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
while read -r module; do insmod "$module"; done < /load-modules
mkdir /debian
mount -t ext4 /dev/vda /debian && mount -t ext4 /dev/vdb /debian/opt || poweroff -f
cp /commands.service /debian/etc/systemd/system/
mkdir -p /debian/etc/systemd/system/multi-user.target.wants
ln -s ../commands.service /debian/etc/systemd/system/multi-user.target.wants/
umount /proc /sys
exec switch_root /debian /sbin/init
"""
SERVICE = f"""[Unit]
After=dbus.service systemd-tmpfiles-setup.service
[Service]
Type=oneshot
TimeoutStartSec=infinity
WorkingDirectory=/opt
Environment=HOME=/root LANG=C.UTF-8
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
ExecStartPre=/bin/sh -c 'stty -F /dev/ttyS0 -onlcr; echo "{MARK} up"'
ExecStart=/bin/bash /opt/commands
ExecStopPost=/bin/systemctl poweroff --force --force
"""


def run_booted(commands: Sequence[str], files: Sequence[Path], timeout_s: float) -> Report:
    """Boot, run the commands with bash in /opt, where the files are, power off."""
    with booted(commands, files, PACKAGES, cpus=2) as machine:
        return machine.wait(commands, timeout_s)


@contextmanager
def booted(
    commands: Sequence[str],
    files: Sequence[Path],
    packages: Sequence[str],
    cables: Sequence[Cable] = (),
    cpus: int = 1,
) -> Iterator[Machine]:
    """A Debian with these packages, and all that they need, running the commands."""
    kernel = debian_kernel()
    initramfs = Initramfs()
    initramfs.add_busybox()
    initramfs.add_modules(kernel, MODULES)
    initramfs.add("init", INIT, mode=0o755)
    initramfs.add("commands.service", SERVICE)
    with work_disk(commands, files) as work:
        machine = Machine(
            kernel,
            initramfs,
            memory_mib=1536,
            cpus=cpus,
            taps=cables,
            disks=[Disk(base_disk(packages, BASE_MIB)), Disk(work)],
            append="systemd.show_status=false systemd.unit=multi-user.target",
        )
        with machine.running():
            yield machine


@contextmanager
def work_disk(commands: Sequence[str], files: Sequence[Path]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="plum-guest-") as scratch:
        root, image = Path(scratch, "root"), Path(scratch, "image")
        root.mkdir()
        (root / "commands").write_text(script_of(commands, "bash"))
        for file in files:
            if file.is_dir():
                shutil.copytree(file, root / file.name)
            else:
                shutil.copy(file, root)
        size_mib = sum(file.stat().st_size for file in root.rglob("*")) // 2**20
        make_image(root, image, size_mib + 32)
        yield image
