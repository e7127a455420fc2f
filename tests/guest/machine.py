"""Run one emulated machine to its end, and read the results off its serial console.

KVM is not asked for: software emulation runs wherever the tests do.
"""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.guest.initramfs import Initramfs
from tests.guest.kernel import Kernel

MARK = "@@plum"
POLL_S = 0.1
_RESULT = re.compile(rf"^{MARK} begin (\d+)\n(.*?)^{MARK} end \1 (\d+)$", re.M | re.S)
_FACT = re.compile(rf"^{MARK} fact (\w+)=(.*)$", re.M)
_OFFLOADS = ("csum", "gso", "guest_csum", "guest_tso4", "guest_tso6", "host_tso4", "host_tso6")


class GuestError(Exception):
    """The guest did not come to its end in time, or a command's result is missing."""


@dataclass(frozen=True)
class Result:
    command: str
    status: int
    output: str


@dataclass(frozen=True)
class Report:
    """What a guest said before it powered off."""

    results: tuple[Result, ...]
    facts: dict[str, str]
    console: str

    def of(self, command: str) -> Result:
        return next(result for result in self.results if result.command == command)


@dataclass(frozen=True)
class Tap:
    """A network device of the machine: a tap device the caller made, and a MAC."""

    device: str
    mac: str
    netns: Path | None = None  #: where the tap is; None: here
    offloads: bool = True  #: virtio's: checksums left to others, segments beyond the MTU

    def arguments(self, number: int) -> list[str]:
        # vnet_hdr: a header with each frame says what is left to do on it (virtio_net.h).
        header = "on" if self.offloads else "off"
        backend = f"tap,id=net{number},ifname={self.device},script=no,downscript=no"
        device = f"virtio-net-pci,netdev=net{number},mac={self.mac},romfile="
        if not self.offloads:
            device += "".join(f",{name}=off" for name in _OFFLOADS)
        return ["-netdev", f"{backend},vnet_hdr={header}", "-device", device]


@dataclass(frozen=True)
class Cable:
    """A network device at one end of a wire between two machines, which is a unix socket: one
    of them makes it and so starts first."""

    socket: Path
    mac: str
    makes: bool
    netns: None = None

    def arguments(self, number: int) -> list[str]:
        server = "on" if self.makes else "off"
        backend = f"stream,id=net{number},server={server},addr.type=unix,addr.path={self.socket}"
        device = f"virtio-net-pci,netdev=net{number},mac={self.mac},romfile="
        return ["-netdev", backend, "-device", device]


@dataclass(frozen=True)
class Disk:
    """A raw image. The machine's writes to it are thrown away."""

    image: Path


@dataclass
class Machine:
    kernel: Kernel
    initramfs: Initramfs
    memory_mib: int = 192
    cpus: int = 1
    taps: Sequence[Tap | Cable] = ()
    disks: Sequence[Disk] = ()
    append: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _console: Path | None = field(default=None, init=False)

    def command(self, initrd: Path, console: Path) -> list[str]:
        line = f"console=ttyS0 quiet loglevel=3 panic=-1 {self.append}".strip()
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"]
        command += ["-m", str(self.memory_mib), "-smp", str(self.cpus)]
        command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        command += ["-serial", f"file:{console}", "-kernel", str(self.kernel.image)]
        command += ["-initrd", str(initrd), "-append", line]
        for number, tap in enumerate(self.taps):
            command += tap.arguments(number)
        for disk in self.disks:
            command += ["-drive", f"file={disk.image},format=raw,if=virtio,snapshot=on"]
        namespaces = {tap.netns for tap in self.taps if tap.netns}
        if namespaces:
            (netns,) = namespaces  # one process, one namespace
            command = ["nsenter", f"--net={netns}", *command]
        return command

    @contextmanager
    def running(self) -> Iterator[Machine]:
        """Powered on; killed at the end unless it has powered off by itself."""
        with tempfile.TemporaryDirectory(prefix="plum-guest-") as scratch:
            initrd, self._console = Path(scratch, "initrd"), Path(scratch, "console")
            initrd.write_bytes(self.initramfs.pack())
            self._console.touch()
            errors = Path(scratch, "errors")
            with errors.open("wb") as stderr:
                self.process = subprocess.Popen(
                    self.command(initrd, self._console), stdin=subprocess.DEVNULL, stderr=stderr
                )
            try:
                yield self
            finally:
                if self.process.poll() is None:
                    self.process.send_signal(signal.SIGKILL)
                self.process.wait()
            if self.process.returncode not in (0, -signal.SIGKILL):
                raise GuestError(f"qemu failed: {errors.read_text()}")

    def console(self) -> str:
        assert self._console is not None, "the machine is not running"
        return self._console.read_text(errors="replace").replace("\r", "")

    def wait_for(self, text: str, timeout_s: float) -> None:
        """Until the console shows the text."""
        assert self.process is not None, "the machine is not running"
        end = time.monotonic() + timeout_s
        while text not in self.console():
            if time.monotonic() > end or self.process.poll() is not None:
                raise GuestError(f"no {text!r} within {timeout_s} s:\n{self.console()}")
            time.sleep(POLL_S)

    def wait(self, commands: Sequence[str], timeout_s: float) -> Report:
        """Until it powers off; then the results of the commands it was told to run."""
        assert self.process is not None, "the machine is not running"
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise GuestError(f"not done after {timeout_s} s:\n{self.console()}") from None
        console = self.console()
        found = {
            int(number): (int(status), out) for number, out, status in _RESULT.findall(console)
        }
        if self.process.returncode == 0 and found.keys() != set(range(len(commands))):
            raise GuestError(f"results of {sorted(found)} of {len(commands)} commands:\n{console}")
        results = (
            Result(command, *found[number])
            for number, command in enumerate(commands)
            if number in found
        )
        return Report(tuple(results), dict(_FACT.findall(console)), console)


def script_of(commands: Sequence[str], shell: str) -> str:
    """Shell text that runs each command and prints its output and status between marks."""
    lines = []
    for number, command in enumerate(commands):
        quoted = command.replace("'", "'\\''")
        lines += [
            f"echo '{MARK} begin {number}'",
            f"{shell} -c '{quoted}' 2>&1",
            # A line of its own, also after output without a newline at its end.
            f'status=$?; echo; echo "{MARK} end {number} $status"',
        ]
    return "\n".join(lines) + "\n"
