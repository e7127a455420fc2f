"""In the guest: load every object, and say what the kernel thinks of each program."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from daemon.datapath.loader import load, shipped_objects

PINS = Path("/sys/fs/bpf/load-objects")


def main() -> None:
    print(f"kernel {platform.release()}")
    for path in shipped_objects():
        datapath = load(PINS, [path])  # raises with the verifier's log
        for name in sorted(datapath.programs):
            print(f"{path.name} {name} loaded")
        datapath.close()
        shutil.rmtree(PINS)


main()
