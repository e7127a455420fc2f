"""The sandbox's processes, plumd and etcd: started, found again from nothing, ended.

Each carries a mark in its environment that nothing else has, so a sandbox whose
plumctl was killed half-way is found as well. A process is signalled through a
pidfd opened before its mark is read: a reused pid is never hit.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import plumctl
from plumctl.run import start
from plumctl.sandbox.layout import NETNS_DIR, UPLINK, Layout

MARK = "PLUM_SANDBOX_NODE"

_NOT_PASSED_ON = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "PLUM_SOCKET"}

#: Seconds plumd has to end by itself before it is killed.
GRACE_S = 5.0

#: Seconds that a process may show no environment, being in the middle of an exec.
_EXEC_S = 0.05


@dataclass(frozen=True, slots=True)
class NodeProcess:
    node: str
    pid: int


def start_plumd(layout: Layout, node: str, store: str) -> int:
    """Start the node's plumd in its namespace; returns its pid. `store`: its URL.

    Through nsenter, which becomes it: `ip netns exec` would hide the host's bpffs.
    """
    folders = (layout.node_run_dir(node), layout.node_pin_dir(node), layout.store_dir / node)
    for folder in folders:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    root = Path(plumctl.__file__).resolve().parent.parent
    argv = [
        "nsenter",
        f"--net={NETNS_DIR / layout.namespace(node)}",
        "--",
        sys.executable,
        "-P",  # never a `daemon` of the current directory
        "-m",
        "daemon",
        "--node",
        node,
        "--store",
        store,
        "--run-dir",
        str(layout.node_run_dir(node)),
        "--socket",
        str(layout.socket(node)),
        "--state-dir",
        str(layout.store_dir / node),
        "--pin-dir",
        str(layout.node_pin_dir(node)),
        "--underlay",
        UPLINK,
    ]
    return start(argv, layout.log(node), _environment(layout, node, PYTHONPATH=str(root))).pid


def start_member(layout: Layout, node: str, argv: Sequence[str]) -> int:
    """Start the node's etcd; returns its pid. It is found again as `member_name(node)`."""
    layout.node_run_dir(node).mkdir(mode=0o750, parents=True, exist_ok=True)
    (layout.store_dir / node / "etcd").mkdir(mode=0o700, parents=True, exist_ok=True)
    log = layout.node_run_dir(node) / "etcd.log"
    return start(argv, log, _environment(layout, member_name(node))).pid


def member_name(node: str) -> str:
    return f"{node}.etcd"


def _environment(layout: Layout, name: str, **more: str) -> dict[str, str]:
    """The caller's, less what its own service manager or plumctl is told."""
    env = {key: value for key, value in os.environ.items() if key not in _NOT_PASSED_ON}
    return env | {MARK: f"{layout.name}/{name}"} | more


def processes(layout: Layout) -> list[NodeProcess]:
    """The sandbox's living processes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            node = _marked(layout, int(entry.name))
            if node:
                found.append(NodeProcess(node, int(entry.name)))
    return sorted(found, key=lambda process: (len(process.node), process.node, process.pid))


def stop(layout: Layout, found: Iterable[NodeProcess]) -> None:
    """End these: politely, then after a grace period for certain."""
    handles = []
    for process in found:
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        if _marked(layout, process.pid) == process.node:
            handles.append(handle)
        else:  # ended meanwhile, its pid is another's
            os.close(handle)
    try:
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for handle in handles:
                _signal(handle, signum)
            _await(handles, GRACE_S)
    finally:
        for handle in handles:
            os.close(handle)


def _marked(layout: Layout, pid: int) -> str:
    """The node that the process serves in this sandbox, else empty."""
    try:
        environment = _environ(pid)
        if _is_zombie(pid):
            return ""
    except OSError:  # ended, or not ours to read
        return ""
    prefix = f"{MARK}={layout.name}/".encode()
    for entry in environment.split(b"\0"):
        if entry.startswith(prefix):
            return entry.removeprefix(prefix).decode(errors="replace")
    return ""


def _environ(pid: int) -> bytes:
    """Not fooled by an exec, in the middle of which the kernel shows nothing for a moment.

    A kernel thread and a zombie have no program either: that raises OSError.
    """
    path, deadline = Path(f"/proc/{pid}/environ"), time.monotonic() + _EXEC_S
    while not (found := path.read_bytes()) and time.monotonic() < deadline:
        Path(f"/proc/{pid}/exe").readlink()
        time.sleep(0.001)
    return found


def _is_zombie(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state in ("Z", "X")


def _signal(handle: int, signum: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, signum)
    except ProcessLookupError:
        return  # ended by itself


def _await(handles: list[int], timeout_s: float) -> None:
    """Until all have ended (a pidfd is then readable) or the time is up."""
    waiting = set(handles)
    deadline = time.monotonic() + timeout_s
    while waiting and (left_s := deadline - time.monotonic()) > 0:
        poll = select.poll()
        for handle in waiting:
            poll.register(handle, select.POLLIN)
        waiting -= {handle for handle, _ in poll.poll(left_s * 1000)}
