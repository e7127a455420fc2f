"""plumd's flags, each with an environment variable and a default."""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlencode

from daemon.store.open import relies_on_zone


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

    @property
    def trust_dir(self) -> Path:
        return self.state_dir / "trust"


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
    add("--node", None, "name of this node (default: as it joined the zone, else the host's)")
    add(
        "--store",
        None,
        "sqlite:///PATH, a path, or etcd://... (default: the zone's, else store.db in the state dir)",
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
    zone = _zone(state_dir / "trust")
    store = given.store or zone.get("store") or str(state_dir / "store.db")
    if "://" not in store:
        store = f"sqlite://{Path(store).absolute()}"
    return Options(
        node=given.node or zone.get("node") or host,
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


def _zone(trust_dir: Path) -> dict[str, str]:
    """What joining a zone wrote down. Whether it is all there is looked at later."""
    try:
        known = json.loads((trust_dir / "zone.json").read_text())
        store, node = str(known["store"]), str(known["node"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {"store": with_certificate(store, trust_dir), "node": node}


def with_certificate(store: str, trust_dir: Path) -> str:
    """An etcd elsewhere whose URL names no files is asked with the node's own certificate."""
    if not relies_on_zone(store):
        return store
    files = {"ca": "ca.pem", "cert": "node.pem", "key": "node.key"}
    return f"{store}?" + urlencode({key: trust_dir / name for key, name in files.items()})
