"""The nodes of a run prove themselves to each other, and their certificates expire."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from daemon.trust.certificate import fingerprint, new_key
from daemon.trust.folder import TrustFolder
from daemon.trust.records import CertificateRecord, certificate_key
from plumctl.errors import PlumError
from plumctl.run import pipe
from plumctl.sandbox import process
from plumctl.sandbox.fabric import enter
from plumctl.sandbox.layout import vtep

if TYPE_CHECKING:
    from tests.faults.arena import Arena

JOIN_S = 20.0
#: A renewal that failed under a fault is tried again after 5 s.
RENEW_S = 8.0
ORDER_S = 5.0


def found(arena: Arena) -> None:
    """Make a zone of the sandbox: the first node makes it, the others join by tokens."""
    first, *others = arena.nodes
    _enroll(arena, first, "init", "--node", first, "--store", arena.store_url(first))
    process.stop(
        arena.layout, [one for one in process.processes(arena.layout) if one.node == first]
    )
    arena.start_plumd(first)
    for node in others:
        body = {"node": node, "roles": ["director", "edge"], "vtep": _address(arena, node)}
        token = str(arena.client(first).invite(body)["token"])
        deadline = time.monotonic() + JOIN_S
        while not folder(arena, node).exists():
            try:
                _enroll(arena, node, "join", stdin=token.encode())
            except PlumError:  # the first one does not listen yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def folder(arena: Arena, node: str) -> TrustFolder:
    return TrustFolder(arena.layout.store_dir / node / "trust")


def let_expire(arena: Arena, node: str, life_s: float) -> None:
    """Give a node, whose plumd does not run, a certificate that soon ends. Where that cannot
    be written, the store's or the node's disk being full, it keeps the one it has."""
    trust = folder(arena, node).read()
    assert trust.authority is not None  # all are directors
    key, now = new_key(), time.time()
    made = trust.authority.issue(
        key.public_key(), trust.zone_id, node, trust.membership.vtep, now, life_s
    )
    trusts = tuple(map(fingerprint, trust.authorities))
    # As in a renewal the one before is good too: either may be what the node has in the end.
    record = CertificateRecord.of(
        made, trust.authorities[-1], trusts, fingerprint(trust.certificate)
    )
    line = f"put {certificate_key(node)} {record.model_dump_json()}"
    if arena.order(line, ORDER_S):
        with contextlib.suppress(OSError):
            folder(arena, node).replace_certificate(key, made, trust.authorities[-1])


def unreached(arena: Arena) -> list[str]:
    """Nodes that do not let each other in, when the faults are over and they had time to."""
    deadline = time.monotonic() + RENEW_S
    while (found := list(_refused(arena))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _refused(arena: Arena) -> Iterator[str]:
    nodes = arena.nodes
    for index, node in enumerate(nodes):
        other = nodes[(index + 1) % len(nodes)]
        try:
            said = arena.client(other).counters(node).unreachable.get(node)
        except PlumError as error:
            said = error.message
        if said:
            yield f"{other} does not reach {node}: {said}"


def _enroll(arena: Arena, node: str, what: str, *more: str, stdin: bytes = b"") -> None:
    state = str(arena.layout.store_dir / node)
    command = [sys.executable, "-P", "-m", "daemon.enroll", what, *more]
    command += ["--state-dir", state, "--vtep", _address(arena, node)]
    command = enter(arena.layout.namespace(node), command)
    done = pipe(command, stdin, {"PYTHONPATH": arena.python_path})
    if done.returncode:
        raise PlumError(f"{what} of {node}: {done.stderr.decode(errors='replace')}", "")


def _address(arena: Arena, node: str) -> str:
    return str(vtep(arena.nodes.index(node) + 1, 4))
