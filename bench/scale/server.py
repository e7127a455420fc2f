"""An etcd member of its own for a run, on loopback, and what it costs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.scale.process import ProcessFailed

START_S = 20.0
_SENT = re.compile(r"^etcd_network_client_grpc_sent_bytes_total (\S+)", re.MULTILINE)


class Server:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._client, self._peer = _free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"etcd://127.0.0.1:{self._client}"

    def start(self) -> None:
        """Until it serves. Raises ProcessFailed."""
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._client, self._peer))
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "etcd", "--name", "scale", "--data-dir", str(self._folder / "data"),
                    "--listen-client-urls", client, "--advertise-client-urls", client,
                    "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                    "--initial-cluster", f"scale={peer}", "--logger", "zap", "--log-level", "error",
                    "--quota-backend-bytes", str(4 << 30),
                ],
                stdout=log,
                stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ProcessFailed(f"etcd does not serve: {(self._folder / 'log').read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def cpu_s(self) -> float:
        """Since it started: utime and stime of proc(5)."""
        assert self._process is not None
        stat = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def sent_bytes(self) -> float:
        """To clients, since it started, as it counts them itself."""
        found = _SENT.search(self._ask("metrics"))
        return float(found[1]) if found else 0.0

    def _healthy(self) -> bool:
        try:
            return '"true"' in self._ask("health")
        except OSError:
            return False

    def _ask(self, what: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._client}/{what}", timeout=5) as answer:
            text: bytes = answer.read()
        return text.decode()


@contextmanager
def server() -> Iterator[Server]:
    """A member with nothing in it, gone with the block. Raises ProcessFailed."""
    if shutil.which("etcd") is None:
        raise ProcessFailed("etcd is not installed: apt install etcd-server")
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        one = Server(Path(folder))
        try:
            one.start()
            yield one
        finally:
            one.kill()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
