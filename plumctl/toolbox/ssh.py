"""SSH to one host whose key is known. Raises PlumError."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko

from plumctl.errors import ExitCode, PlumError

CONNECT_TIMEOUT_S = 15.0
KNOWN_HOSTS = (Path("/etc/ssh/ssh_known_hosts"), Path("~/.ssh/known_hosts"))
#: Still offered by paramiko for old servers; Debian 12's sshd needs none of them.
_WEAK = {
    "ciphers": [
        *("aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"),
    ],
    "macs": ["hmac-md5", "hmac-md5-96", "hmac-sha1", "hmac-sha1-96"],
    "kex": [
        *("diffie-hellman-group1-sha1", "diffie-hellman-group14-sha1"),
        "diffie-hellman-group-exchange-sha1",
    ],
    "keys": ["ssh-dss", "ssh-rsa"],  # SHA-1 signatures; rsa-sha2 stays
    "pubkeys": ["ssh-dss", "ssh-rsa"],
}


@dataclass(frozen=True, slots=True)
class Target:
    host: str
    user: str = "root"
    port: int = 22
    key_file: str | None = None  # None: the agent's and the usual ones
    #: `SHA256:...` as ssh-keygen -l shows it; None: known_hosts must have the host.
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str


class Host:
    """A connected host. Commands run as root, by sudo if the user is not."""

    def __init__(self, client: paramiko.SSHClient, target: Target) -> None:
        self._client = client
        self._sudo = target.user != "root"
        self.target = target

    def run(
        self, command: str, *, stdin: bytes = b"", timeout_s: float = 60.0, as_user: bool = False
    ) -> Done:
        """`command` is for /bin/sh there; what it must not show in `ps` comes on stdin."""
        wrapped = f"sh -c {shlex.quote(command)}"
        if self._sudo and not as_user:
            wrapped = f"sudo -n {wrapped}"
        try:
            into, out, err = self._client.exec_command(wrapped, timeout=timeout_s)
            if stdin:
                into.write(stdin)
            into.channel.shutdown_write()
            said, complained = out.read(), err.read()
            status = out.channel.recv_exit_status()
        except (OSError, paramiko.SSHException) as error:
            raise PlumError(
                f"{self.target.host}: the connection broke off: {error or 'timed out'}",
                "run the same command again: it goes on where it was",
                ExitCode.UNREACHABLE,
            ) from error
        return Done(status, said.decode(errors="replace"), complained.decode(errors="replace"))

    def put(self, local: Path, remote: str) -> None:
        """Copy a file as the user, and see that it arrived as it is."""
        try:
            with self._client.open_sftp() as sftp:
                sftp.put(str(local), remote, confirm=True)
        except (OSError, paramiko.SSHException) as error:
            raise PlumError(
                f"{self.target.host}: cannot copy {local.name} to {remote}: {error}",
                "is there room, and is sftp allowed there? Then run the same command again",
            ) from error
        said = self.run(f"sha256sum < {shlex.quote(remote)}").out.split()
        if said[:1] != [hashlib.sha256(local.read_bytes()).hexdigest()]:
            raise PlumError(
                f"{self.target.host}: {local.name} did not arrive whole",
                "run the same command again",
            )


@contextmanager
def connected(target: Target) -> Iterator[Host]:
    """A host with the key we know. A key we do not know is never taken."""
    client = paramiko.SSHClient()
    if target.fingerprint is None:
        for path in KNOWN_HOSTS:
            if path.expanduser().exists():
                client.load_host_keys(str(path.expanduser()))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
    else:
        client.set_missing_host_key_policy(_Pinned(target.fingerprint))
    try:
        _connect(client, target)
        yield Host(client, target)
    finally:
        client.close()


def _connect(client: paramiko.SSHClient, target: Target) -> None:
    where = f"{target.user}@{target.host} port {target.port}"
    try:
        client.connect(
            target.host,
            port=target.port,
            username=target.user,
            key_filename=target.key_file,
            timeout=CONNECT_TIMEOUT_S,
            banner_timeout=CONNECT_TIMEOUT_S,
            auth_timeout=CONNECT_TIMEOUT_S,
            disabled_algorithms=_WEAK,
        )
    except paramiko.BadHostKeyException as error:
        raise PlumError(
            f"{target.host} shows another host key than known_hosts has "
            f"({fingerprint(error.key)}): perhaps somebody is in between",
            "if the host was reinstalled, check that on its console "
            "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and correct known_hosts",
            ExitCode.NO_PERMISSION,
        ) from error
    except _UnknownHost as error:
        raise PlumError(str(error), error.hint, ExitCode.NO_PERMISSION) from error
    except paramiko.AuthenticationException as error:
        raise PlumError(
            f"{where}: no key was accepted", "name one with --key, or load it into ssh-agent",
            ExitCode.NO_PERMISSION,
        ) from error  # fmt: skip
    except paramiko.SSHException as error:
        if "not found in known_hosts" in str(error):
            raise PlumError(
                f"the host key of {target.host} is not known",
                f"connect once with ssh {target.user}@{target.host} and check the key, or give "
                "--host-key SHA256:... from the host's console "
                "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub)",
                ExitCode.NO_PERMISSION,
            ) from error
        raise PlumError(
            f"{where}: {error}", "does ssh work there?", ExitCode.UNREACHABLE
        ) from error
    except OSError as error:
        raise PlumError(
            f"{where} cannot be reached: {error}", "is it up, and is sshd?", ExitCode.UNREACHABLE
        ) from error


class _UnknownHost(Exception):
    hint = "compare with ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on the host's console"


class _Pinned(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko has no types
    """Takes the one key whose fingerprint was given; no known_hosts is read then."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        found = fingerprint(key)
        if not hmac.compare_digest(found, self._wanted.rstrip("=")):
            raise _UnknownHost(f"{hostname} shows host key {found}, not {self._wanted}")


def fingerprint(key: paramiko.PKey) -> str:
    """As OpenSSH shows it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
