"""A member of the zone's own etcd on this machine: its folder, and the unit that runs it.

    STATE_DIR/etcd/member.env   etcd's settings, as environment variables
    STATE_DIR/etcd/data         what etcd keeps
    STATE_DIR/etcd/trust        a link to the trust folder: the node's certificate is the member's

etcd reads certificate and key anew for every connection, so a renewed one needs no restart.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from daemon.store.open import ETCD_PORT, endpoint
from daemon.zone.errors import CONFLICT, ZoneError

UNIT = "plum-etcd"
PEER_PORT = 2380
#: docs/etcd.md says why.
MAX_TXN_OPS, MAX_REQUEST_BYTES = 20_000, 32 << 20
START_S = 100.0


def peer_url(vtep: IPv4Address | IPv6Address) -> str:
    return f"https://{endpoint(vtep, PEER_PORT)}"


class LocalMember:
    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir.absolute() / "etcd"
        self.settings = self.path / "member.env"
        self._data = self.path / "data"
        self._trust = self.path / "trust"

    def exists(self) -> bool:
        return self.settings.exists()

    def check_program(self) -> None:
        """Raises ZoneError."""
        if shutil.which("etcd") is None:
            raise ZoneError("etcd is not installed", "apt-get install etcd-server")

    def prepare(
        self,
        node: str,
        vtep: IPv4Address | IPv6Address,
        trust: Path,
        cluster: Mapping[str, str],
        *,
        new: bool,
    ) -> None:
        """Write down how it is to run. `cluster`: peer URLs by name, its own among them."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.use(trust)
        clients, peers = f"https://{endpoint(vtep, ETCD_PORT)}", peer_url(vtep)
        files = {"CERT_FILE": "node.pem", "KEY_FILE": "node.key", "TRUSTED_CA_FILE": "ca.pem"}
        settings = {
            "NAME": node,
            "DATA_DIR": self._data,
            "LISTEN_CLIENT_URLS": clients,
            "ADVERTISE_CLIENT_URLS": clients,
            "LISTEN_PEER_URLS": peers,
            "INITIAL_ADVERTISE_PEER_URLS": peers,
            "INITIAL_CLUSTER": ",".join(f"{name}={url}" for name, url in cluster.items()),
            "INITIAL_CLUSTER_STATE": "new" if new else "existing",
            "CLIENT_CERT_AUTH": "true",
            "PEER_CLIENT_CERT_AUTH": "true",
            **{name: self._trust / file for name, file in files.items()},
            **{f"PEER_{name}": self._trust / file for name, file in files.items()},
            "MAX_TXN_OPS": MAX_TXN_OPS,
            "MAX_REQUEST_BYTES": MAX_REQUEST_BYTES,
            "LOGGER": "zap",
        }
        lines = [f"ETCD_{name}={shlex.quote(str(value))}\n" for name, value in settings.items()]
        draft = self.settings.with_suffix(".new")
        draft.write_text("".join(lines))
        os.replace(draft, self.settings)

    def use(self, trust: Path) -> None:
        """The trust folder is here now."""
        draft = self._trust.with_suffix(".new")
        draft.unlink(missing_ok=True)
        draft.symlink_to(os.path.relpath(trust, self.path))
        os.replace(draft, self._trust)

    def start(self) -> None:
        """Now and at every boot; returns when it serves. Raises ZoneError."""
        self.check_program()
        _systemctl("enable", UNIT)
        try:
            _systemctl("restart", UNIT)
        except ZoneError:
            _systemctl("disable", "--now", UNIT)
            raise

    def retire(self) -> None:
        """Stop it, for good. Raises ZoneError."""
        _systemctl("disable", "--now", UNIT)
        self.forget()

    def forget(self) -> None:
        """Remove what it kept, of a member that does not run."""
        shutil.rmtree(self.path, ignore_errors=True)


def _systemctl(*arguments: str) -> None:
    command = ["systemctl", *arguments]
    hint = f"journalctl -u {UNIT} says why; then run the same command again"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    except FileNotFoundError:
        message = "there is no systemd here to run the zone's etcd"
        raise ZoneError(message, "run an etcd yourself and name it: --store etcd://...") from None
    except subprocess.TimeoutExpired:
        message = f"{' '.join(command)}: not done in {START_S:g} s"
        raise ZoneError(message, hint, code=CONFLICT) from None
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise ZoneError(f"{' '.join(command)}: {said}", hint, code=CONFLICT)
