"""Real clients and servers out of the zone and into it: ssh both ways, iperf3 through NAT."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plumctl.sandbox import fabric
from tests.system.test_outside import FORWARD, HOST, SHARED, documents
from tests.system.zone import Guest, Zone, until

TENANT = "t-sys-clients"
PORT = 2022


@pytest.fixture(scope="module")
def guests(zone_of_three: Zone) -> Iterator[dict[str, Guest]]:
    made = documents()
    for document in made:
        document["name" if document["kind"] == "tenant" else "tenant"] = TENANT
    zone_of_three.apply(made)
    yield {path.split("/")[1]: g for path, g in zone_of_three.guests(TENANT).items()}
    zone_of_three.drop_tenant(TENANT)


@pytest.fixture
def outside(zone_of_three: Zone) -> Guest:
    return Guest("outside", zone_of_three.layout.outside, addresses=tuple(HOST.values()))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    (folder / "user.pub").rename(folder / "authorized")
    (folder / "authorized").chmod(0o600)
    return folder


@contextmanager
def sshd(where: Guest, keys: Path, port: int) -> Iterator[None]:
    options = {
        "AuthorizedKeysFile": keys / "authorized",
        "HostKey": keys / "host",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PermitRootLogin": "yes",
    }
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it confines what it has not checked
    command = ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", str(port)]
    command += [f"-o{name}={value}" for name, value in options.items()]
    with subprocess.Popen(
        fabric.enter(where.namespace, command), stderr=subprocess.PIPE
    ) as running:
        try:
            until(lambda: f":{port} " in where.run("ss", "-Hltn"))
            yield
        finally:
            running.terminate()


def ssh(client: Guest, keys: Path, address: str, port: int) -> str:
    """Whom the server takes the client for."""
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes")
    flags = [f"-o{option}" for option in (*options, "ConnectTimeout=5")]
    said = client.run(
        "ssh", "-q", *flags, "-i", str(keys / "user"), "-p", str(port), f"root@{address}",
        "echo from $SSH_CONNECTION; head -c 300000 /dev/zero | cksum",
    )  # fmt: skip
    assert said.splitlines()[1].split()[1] == "300000"
    return said.split()[1]


@pytest.mark.parametrize("family", [4, 6])
def test_ssh_to_a_host_outside(
    guests: dict[str, Guest], outside: Guest, keys: Path, family: int
) -> None:
    with sshd(outside, keys, PORT):
        seen = ssh(guests["app-1"], keys, HOST[family], PORT)
    assert seen in SHARED if family == 4 else seen != guests["app-1"].ip(6)


def test_ssh_from_outside_by_a_forwarded_port(
    guests: dict[str, Guest], outside: Guest, keys: Path
) -> None:
    with sshd(guests["app-1"], keys, 22):
        assert ssh(outside, keys, FORWARD, 2222) == HOST[4]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("way", [(), ("--reverse",)])
def test_iperf3_through_source_nat(
    guests: dict[str, Guest], outside: Guest, family: int, way: tuple[str, ...]
) -> None:
    with outside.start("iperf3", "-s", "-1") as server:
        until(lambda: ":5201 " in outside.run("ss", "-Hltn"))
        flags = ("-c", HOST[family], "-t", "1", "-P", "2", "-J", *way)
        said = json.loads(guests["app-2"].run("iperf3", *flags))
        server.wait(10)
    assert "error" not in said
    assert said["end"]["sum_received"]["bytes"] > 10_000_000
