"""What is remembered of a sandbox between two commands, and the lock around changes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from plumctl.errors import ExitCode, PlumError
from plumctl.sandbox.fabric import Fabric
from plumctl.sandbox.layout import Layout


def read(layout: Layout) -> Fabric | None:
    """The sandbox that was brought up completely, else None."""
    try:
        document = json.loads(layout.state_file.read_text())
        return Fabric(
            tuple(str(node) for node in document["nodes"]),
            int(document["family"]),
            int(document["mtu_bytes"]),
            str(document["store"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never there, or half-written: as good as not there


def write(layout: Layout, fabric: Fabric) -> None:
    document = {
        "nodes": list(fabric.nodes),
        "family": fabric.family,
        "mtu_bytes": fabric.mtu_bytes,
        "store": fabric.store,
    }
    draft = layout.state_file.with_suffix(".new")
    draft.write_text(json.dumps(document))
    draft.replace(layout.state_file)


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """One `up` or `down` at a time. The kernel frees the lock when its holder dies."""
    layout.lock_file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    with layout.lock_file.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PlumError(
                "another `plumctl sandbox up` or `down` is at work",
                "wait for it to end",
                ExitCode.CONFLICT,
            ) from None
        yield


def need_root(what: str) -> None:
    if os.geteuid() != 0:
        raise PlumError(
            f"{what} needs root: it works with network namespaces",
            f"sudo plumctl {what}",
            ExitCode.NO_PERMISSION,
        )
