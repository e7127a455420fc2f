"""Write an initramfs: a "newc" cpio archive.

Format: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel tree.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path

from tests.guest.kernel import Kernel

BUSYBOX = Path("/bin/busybox")  #: Debian's busybox-static
TRAILER = "TRAILER!!!"


@dataclass
class Initramfs:
    """Files to be, in the order they were added; folders before what is in them."""

    entries: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def add(self, path: str, content: bytes | str, *, mode: int = 0o644) -> None:
        """A regular file at `path` (without a leading slash)."""
        self._add_folders(path)
        data = content.encode() if isinstance(content, str) else content
        self.entries[path] = (stat.S_IFREG | mode, data)

    def add_folder(self, path: str) -> None:
        self._add_folders(f"{path}/")

    def add_link(self, path: str, target: str) -> None:
        self._add_folders(path)
        self.entries[path] = (stat.S_IFLNK | 0o777, target.encode())

    def add_busybox(self) -> None:
        self.add("bin/busybox", BUSYBOX.read_bytes(), mode=0o755)
        self.add_link("bin/sh", "busybox")
        for folder in ("proc", "sys", "dev", "tmp"):
            self.add_folder(folder)

    def add_modules(self, kernel: Kernel, wanted: tuple[str, ...]) -> None:
        """The modules, and /load-modules, which lists them in loading order."""
        order = kernel.load_order(wanted)
        for path in order:
            self.add(f"modules/{path.name}", path.read_bytes())
        self.add("load-modules", "".join(f"/modules/{path.name}\n" for path in order))

    def _add_folders(self, path: str) -> None:
        parts = path.split("/")[:-1]
        for length in range(1, len(parts) + 1):
            self.entries.setdefault("/".join(parts[:length]), (stat.S_IFDIR | 0o755, b""))

    def pack(self) -> bytes:
        archive = bytearray()
        for inode, (path, (mode, data)) in enumerate(self.entries.items(), start=1):
            archive += record(path, inode, mode, data)
        return bytes(archive + record(TRAILER, 0, 0, b""))


def record(path: str, inode: int, mode: int, data: bytes) -> bytes:
    name = path.encode() + b"\0"
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name
    return pad(head) + pad(data)


def pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
