"""Steps of node add against a real sshd. What it would change on the host is stood in for."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from plumctl import adding
from plumctl.errors import PlumError
from plumctl.toolbox.ssh import Host, Target, connected

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
pytestmark = [
    pytest.mark.skipif(not os.path.exists(SSHD), reason="sshd (openssh-server) is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="sshd needs root"),
]
SECRET = "plumjoin_secret"


@dataclass
class Sshd:
    folder: Path
    target: Target
    fingerprint: str

    def calls(self) -> list[str]:
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def stand_in(self, name: str, script: str) -> None:
        """A command of the host: writes down how it was called, then runs the script."""
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.folder}/calls\n{script}\n')
        path.chmod(0o755)


@dataclass
class Zone:
    """The zone that is joined."""

    invited: list[Any] = field(default_factory=list)
    state: str = "programmed"

    def zone(self) -> dict[str, str]:
        return {"id": "zone-a"}

    def invite(self, body: Any) -> dict[str, str]:
        self.invited.append(body)
        return {"token": SECRET}

    def get(self, kind: str, path: str) -> Any:
        return type("View", (), {"state": self.state, "reason": "no plumd has reported"})()


def keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user", "stranger"):
        keygen(folder / name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "bin").mkdir()
    (folder / "shell").write_text(
        f'#!/bin/sh\nexport PATH={folder}/bin:$PATH\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    (folder / "shell").chmod(0o755)
    shutil.copy(folder / "user.pub", folder / "authorized")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    options = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized", "StrictModes": "no", "UsePAM": "no",
        "PidFile": "none", "PermitRootLogin": "prohibit-password", "Subsystem":
        "sftp /usr/lib/openssh/sftp-server", "ForceCommand": folder / "shell",
    }  # fmt: skip
    (folder / "config").write_text("".join(f"{k} {v}\n" for k, v in options.items()))
    log = (folder / "log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=log)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
        said = subprocess.run(
            ["ssh-keygen", "-lf", str(folder / "host")], capture_output=True, text=True, check=True
        ).stdout
        fingerprint = said.split()[1]
        target = Target("127.0.0.1", "root", port, str(folder / "user"), fingerprint)
        yield Sshd(folder, target, fingerprint)
    finally:
        process.terminate()
        process.wait(10)
        log.close()


@pytest.fixture
def sshd(server: Sshd) -> Sshd:
    shutil.rmtree(server.folder / "bin")
    (server.folder / "bin").mkdir()
    (server.folder / "calls").unlink(missing_ok=True)
    server.stand_in("apt-get", 'cat "$(eval echo \\${$#})" | sha256sum')
    server.stand_in("dpkg", "")
    server.stand_in("systemctl", "")
    server.stand_in("plumctl", f"cat >{server.folder}/token")
    return server


@pytest.fixture
def host(sshd: Sshd) -> Iterator[Host]:
    with connected(sshd.target) as made:
        yield made


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deb")
    (folder / "p" / "DEBIAN").mkdir(parents=True)
    (folder / "p" / "DEBIAN" / "control").write_text(
        "Package: plum-networks\nVersion: 0.9\nArchitecture: amd64\nMaintainer: x <x@example.net>\n"
        "Description: x\n"
    )
    subprocess.run(
        ["dpkg-deb", "--build", str(folder / "p"), str(folder / "plum.deb")],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "plum.deb"


def quiet(step: str, outcome: str, detail: str) -> None:
    """What a step says is of no concern here."""


def test_commands_get_stdin_and_give_status_and_both_outputs(host: Host) -> None:
    done = host.run("cat; echo wrong >&2; exit 3", stdin=b"it's $HOME")
    assert (done.status, done.out, done.err) == (3, "it's $HOME", "wrong\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fingerprint": "SHA256:" + "A" * 43}, "shows host key SHA256:.*, not SHA256:AAAA"),
        ({"fingerprint": None}, "host key of 127.0.0.1 is not known"),
        ({"key_file": "stranger"}, "no key was accepted"),
        ({"port": 1}, "cannot be reached"),
    ],
)
def test_who_is_not_known_is_refused(
    sshd: Sshd,
    change: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    if "key_file" in change:
        change = {"key_file": str(sshd.folder / "stranger")}
    with pytest.raises(PlumError, match=words) as caught, connected(replace(sshd.target, **change)):
        pytest.fail("connected")
    assert caught.value.hint
    assert not (tmp_path / ".ssh").exists()  # and nothing was learned


def test_known_hosts_are_believed_and_a_changed_key_is_not(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    target = replace(sshd.target, fingerprint=None)
    for name, good in (("host", True), ("stranger", False)):
        key = " ".join((sshd.folder / f"{name}.pub").read_text().split()[:2])
        known = f"[127.0.0.1]:{sshd.target.port} {key}\n"
        (tmp_path / ".ssh" / "known_hosts").write_text(known)
        if good:
            with connected(target) as host:
                assert host.run("true").status == 0
        else:
            with pytest.raises(PlumError, match="another host key"), connected(target):
                pytest.fail("connected")
        assert (tmp_path / ".ssh" / "known_hosts").read_text() == known


def test_a_package_is_copied_whole_installed_and_removed_again(
    sshd: Sshd, host: Host, package: Path
) -> None:
    adding.install(host, {}, package, quiet)
    (call,) = [call for call in sshd.calls() if call.startswith("apt-get")]
    remote = Path(call.split()[-1])
    assert remote.name == "plum.deb" and not remote.parent.exists()
    adding.install(host, {"installed": "ii 0.9"}, package, quiet)
    assert len([call for call in sshd.calls() if call.startswith("apt-get")]) == 1
    adding.install(host, {"installed": "ii 0.8"}, None, quiet)
    with pytest.raises(PlumError, match="is not installed"):
        adding.install(host, {}, None, quiet)


def test_a_failed_installation_shows_why_and_leaves_no_copy(
    sshd: Sshd, host: Host, package: Path
) -> None:
    before = set(Path("/var/tmp").glob("plum-add.*"))
    sshd.stand_in("apt-get", "echo 'E: unmet dependencies' >&2; exit 100")
    with pytest.raises(PlumError, match="installing the package failed") as caught:
        adding.install(host, {}, package, quiet)
    assert [problem.message for problem in caught.value.problems] == ["E: unmet dependencies"]
    assert set(Path("/var/tmp").glob("plum-add.*")) == before


def test_the_token_goes_by_stdin_and_is_good_for_this_node_only(sshd: Sshd, host: Host) -> None:
    zone: Any = Zone()
    adding.join(host, {}, zone, "n4", "192.0.2.4", ["edge"], quiet)
    assert (sshd.folder / "token").read_text() == SECRET
    assert sshd.calls() == ["plumctl node join - --vtep 192.0.2.4"]
    (asked,) = zone.invited
    assert (asked["node"], asked["vtep"], asked["roles"]) == ("n4", "192.0.2.4", ["edge"])
    (sshd.folder / "calls").unlink()
    member = {"zone": '{"id": "zone-a", "node": "n4"}'}
    adding.join(host, member, zone, "n4", "192.0.2.4", ["edge"], quiet)
    for other in ('{"id": "zone-b", "node": "n4"}', '{"id": "zone-a", "node": "n5"}'):
        with pytest.raises(PlumError, match="already"):
            adding.join(host, {"zone": other}, zone, "n4", "192.0.2.4", ["edge"], quiet)
    assert sshd.calls() == [] and len(zone.invited) == 1


def test_a_refused_join_says_what_the_host_said(sshd: Sshd, host: Host) -> None:
    sshd.stand_in("plumctl", "cat >/dev/null; echo 'the token has expired' >&2; exit 1")
    zone: Any = Zone()
    with pytest.raises(PlumError, match="joining failed") as caught:
        adding.join(host, {}, zone, "n4", "192.0.2.4", ["edge"], quiet)
    assert "the token has expired" in str(caught.value.problems)
    assert SECRET not in str(caught.value) + str(caught.value.problems)


def test_plumd_is_started_after_joining_and_then_left_alone(sshd: Sshd, host: Host) -> None:
    adding.start(host, {"running": "active", "zone": ""}, quiet)
    assert sshd.calls() == ["systemctl enable plumd", "systemctl restart plumd"]
    (sshd.folder / "calls").unlink()
    adding.start(host, {"running": "active", "zone": "{}"}, quiet)
    assert sshd.calls() == []


def test_an_unfit_host_is_left_as_it_is_with_everything_named(
    sshd: Sshd, host: Host, package: Path
) -> None:
    said = []
    with pytest.raises(PlumError, match="cannot become a node") as caught:
        adding.look(host, package, "203.0.113.99", lambda *words: said.append(words))
    assert "vtep" in [problem.path for problem in caught.value.problems]
    assert {words[0] for words in said} >= {"root", "kernel", "disk", "vtep"}
    assert not [call for call in sshd.calls() if call.startswith(("apt-get", "plumctl"))]


def test_a_node_that_never_reports_is_named() -> None:
    zone: Any = Zone(state="pending")
    with pytest.raises(PlumError, match="n4 has joined, but is pending: no plumd has reported"):
        adding.await_programmed(zone, "n4", 0, quiet)
