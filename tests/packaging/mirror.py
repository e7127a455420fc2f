"""An apt source in a folder: what a machine without a network lacks for a package."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

FETCH_TIMEOUT_S = 300


def make_mirror(image: Path, package: Path, folder: Path) -> None:
    """Into `folder`: what the Debian in `image` lacks of what `package` depends on, and an
    index. `deb [trusted=yes] file:FOLDER ./` in sources.list has apt use it."""
    (folder / "partial").mkdir(parents=True)
    status = folder / "status"
    # mke2fs made the image from a folder, debugfs reads it without a mount.
    _run("debugfs", "-R", f"dump /var/lib/dpkg/status {status}", str(image))
    depends = _run("dpkg-deb", "--field", str(package), "Depends")
    names = sorted({re.split(r"[ (]", part.strip())[0] for part in depends.split(",")})
    places = {
        "Dir::State::status": str(status),
        "Dir::Cache::archives": f"{folder}/",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
    }
    options = [word for name, value in places.items() for word in ("-o", f"{name}={value}")]
    command = ["apt-get", "-q", "-y", "--download-only", "--no-install-recommends"]
    _run(*command, *options, "-o", "Debug::NoLocking=1", "install", *names)
    index = [_entry(path) for path in sorted(folder.glob("*.deb"))]
    (folder / "Packages").write_text("\n".join(index))
    status.unlink()
    (folder / "partial").rmdir()


def _entry(path: Path) -> str:
    control = _run("dpkg-deb", "--field", str(path))
    content = path.read_bytes()
    return (
        f"{control.strip()}\nFilename: ./{path.name}\nSize: {len(content)}\n"
        f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
    )


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout
