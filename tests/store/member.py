"""A real etcd member on this machine's loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

START_S = 20.0
#: As docs/etcd.md asks for; without them etcd takes 128 operations and 1.5 MiB.
LIMITS = ("--max-txn-ops", "10000", "--max-request-bytes", str(32 << 20))


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Member:
    """`peers`: name=peer URL of every member of its cluster; alone by default."""

    def __init__(
        self,
        name: str = "m0",
        peers: str = "",
        ports: Sequence[int] = (),
        tls: Sequence[str] = (),
        limits: Sequence[str] = LIMITS,
    ) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix="t-etcd-"))
        client, peer = ports or free_ports(2)
        self.endpoint = f"127.0.0.1:{client}"
        self._scheme = "https" if tls else "http"
        self._peer = f"http://127.0.0.1:{peer}"
        self._peers = peers or f"{name}={self._peer}"
        self._tls = list(tls)
        self._limits = list(limits)
        self.process = self._start()
        if not peers:
            self.ready()

    def _start(self) -> subprocess.Popen[bytes]:
        client = f"{self._scheme}://{self.endpoint}"
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    "etcd", "--name", self.name, "--data-dir", str(self.folder / "data"),
                    "--listen-client-urls", client, "--advertise-client-urls", client,
                    "--listen-peer-urls", self._peer, "--initial-advertise-peer-urls", self._peer,
                    "--initial-cluster", self._peers, "--initial-cluster-state", "new",
                    *self._limits,
                    "--heartbeat-interval", "50", "--election-timeout", "500",
                    "--logger", "zap", "--log-level", "error", *self._tls,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"},
            )  # fmt: skip

    def ready(self) -> None:
        """Until it serves; a cluster's members only together."""
        deadline = time.monotonic() + START_S
        while not self._healthy():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def _healthy(self) -> bool:
        if self._tls:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", int(self.endpoint.rpartition(":")[2]))) == 0
        try:
            with urllib.request.urlopen(f"http://{self.endpoint}/health", timeout=2) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.process = self._start()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.resume()
        self.kill()
        shutil.rmtree(self.folder)
