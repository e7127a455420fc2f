"""Runs plumd and kills it, as kill -9 does, before a given step of an upgrade.

    T_UPGRADE_DIE=STEP T_UPGRADE_STEPS=FILE python dying.py ARGUMENTS OF plumd

A step is a call that changes something in the kernel or in bpffs, from the moment
the datapath is loaded until the older generation is gone; then FILE gets their
number. Without STEP nothing is killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.__main__ import main
from daemon.datapath import libbpf, loader
from daemon.drivers.filters import Filters

READS = ("next", "name", "type", "size", "entries", "flags", "info", "lookup", "get", "open", "btf")
steps = 0
over = False
die_at = int(os.environ.get("T_UPGRADE_DIE") or -1)


def step() -> None:
    global steps
    if not over:
        if steps == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    def counting(*arguments: Any, **more: Any) -> Any:
        step()
        return function(*arguments, **more)

    return counting


def libbpf_counted(function: Callable[..., int]) -> Callable[..., int]:
    def counting(name: str, *arguments: Any) -> int:
        if not any(word in name for word in READS) or name == "bpf_obj_pin":
            step()
        return function(name, *arguments)

    return counting


def retire(datapath: loader.Datapath) -> list[str]:
    global over
    old = retire_really(datapath)
    over = True
    Path(os.environ["T_UPGRADE_STEPS"]).write_text(str(steps))
    return old


retire_really = loader.Datapath.retire
loader.Datapath.retire = retire  # type: ignore[method-assign]
libbpf.raw = libbpf_counted(libbpf.raw)
Filters.attach = counted(Filters.attach)  # type: ignore[method-assign]
Path.rename = counted(Path.rename)  # type: ignore[method-assign]
Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
shutil.rmtree = counted(shutil.rmtree)  # type: ignore[assignment]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
