"""The unit, as systemd reads it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
UNIT = PACKAGING / "plumd.service"
#: systemd.exec(5): what gives a unit a mount namespace. Namespaces that plumd makes would
#: then be seen by plumd only.
PRIVATE_MOUNTS = re.compile(
    r"^(Protect(System|Home|Proc|KernelTunables|KernelModules|KernelLogs|ControlGroups)"
    r"|Private(Tmp|Devices|Mounts|Users|IPC)|MountFlags|ProcSubset|Root(Directory|Image)"
    r"|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec|Bind|BindReadOnly)Paths"
    r"|TemporaryFileSystem|DynamicUser|LogNamespace|MountImages)=",
    re.MULTILINE,
)


def test_systemd_accepts_it_and_finds_it_contained() -> None:
    done = subprocess.run(
        [str(PACKAGING / "verify-unit.sh")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_mounts_are_the_hosts() -> None:
    assert PRIVATE_MOUNTS.findall(UNIT.read_text()) == []
    assert PRIVATE_MOUNTS.search("ProtectSystem=strict")


def test_maintainer_scripts_are_shell() -> None:
    for name in ("postinst", "prerm", "postrm"):
        subprocess.run(["sh", "-n", str(PACKAGING / "deb" / name)], check=True, timeout=10)


def test_the_group_of_made_devices_is_the_daemons() -> None:
    from daemon.drivers import links

    assert f"group {links._MADE} " in (PACKAGING / "deb" / "postrm").read_text()
