"""plumd's flags, each with an environment variable and a default."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    node: str
    store: str  # URL
    run_dir: Path
    state_dir: Path
    pin_dir: Path
    socket: Path
    underlay: str  # device; empty: the one with the VTEP address
    log_level: str
    flow_entries: int | None  # None: the build's own
    purge: bool


def program_version() -> str:
    try:
        return version("plum-networks")
    except PackageNotFoundError:  # run from a source tree
        return "0+source"


def parse(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Options:
    """Exits with usage on an error, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="plumd",
        description="Keeps one node of a Plum zone as the store says.",
        epilog="Each flag has a variable: --run-dir is PLUM_RUN_DIR.",
    )
    parser.add_argument("--version", action="version", version=f"plumd {program_version()}")

    def add(flag: str, default: str | None, text: str, **more: object) -> None:
        variable = "PLUM_" + flag.strip("-").replace("-", "_").upper()
        value = environment.get(variable, default)
        parser.add_argument(flag, default=value, help=text, **more)  # type: ignore[arg-type]

    host = socket.gethostname().split(".")[0].lower()
    add("--node", host, "name of this node in the zone (default: the host's)")
    add(
        "--store",
        None,
        "sqlite:///PATH, a path, or etcd://... (default: store.db in the state directory)",
    )
    add("--run-dir", "/run/plum", "sockets and markers (default: %(default)s)")
    add("--state-dir", "/var/lib/plum", "audit log and store (default: %(default)s)")
    add("--pin-dir", "/sys/fs/bpf/plum", "pinned maps and programs (default: %(default)s)")
    add("--socket", None, "the API's (default: plumd.sock in the run directory)")
    add("--underlay", "", "device of the tunnels (default: the one with the VTEP address)")
    add(
        "--log-level",
        "info",
        "debug, info, warning or error (default: %(default)s)",
        choices=["debug", "info", "warning", "error"],
    )
    add(
        "--flow-entries",
        None,
        "size of each flow table; another one than before carries the flows over",
        type=int,
    )
    parser.add_argument(
        "--purge",
        action="store_true",
        help="remove everything of this node from the kernel, then end",
    )
    given = parser.parse_args(arguments)
    run_dir, state_dir = Path(given.run_dir), Path(given.state_dir)
    store = given.store or str(state_dir / "store.db")
    if "://" not in store:
        store = f"sqlite://{Path(store).absolute()}"
    return Options(
        node=given.node,
        store=store,
        run_dir=run_dir,
        state_dir=state_dir,
        pin_dir=Path(given.pin_dir),
        socket=Path(given.socket) if given.socket else run_dir / "plumd.sock",
        underlay=given.underlay,
        log_level=given.log_level,
        flow_entries=int(given.flow_entries) if given.flow_entries is not None else None,
        purge=given.purge,
    )
