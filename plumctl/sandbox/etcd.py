"""The sandbox's etcd: a member in each of up to three nodes, TLS between all of them.

Keys and certificates are the sandbox's own: made when it comes up, gone with it.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from plumctl.errors import PlumError
from plumctl.sandbox.fabric import Fabric, enter
from plumctl.sandbox.layout import Layout, vtep

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

CLIENT_PORT, PEER_PORT = 2379, 2380
#: An odd number: a fourth member would only need one more to agree.
MEMBERS = 3
_LIFE = datetime.timedelta(days=365)
#: A manifest of a thousand objects is one transaction; etcd's own limits are 128 and 1.5 MiB.
_LIMITS = ("--max-txn-ops", "20000", "--max-request-bytes", str(32 << 20))


def members(fabric: Fabric) -> tuple[str, ...]:
    """Nodes that run a member; none unless the store is etcd."""
    if fabric.store != "etcd":
        return ()
    return fabric.nodes[: MEMBERS if len(fabric.nodes) >= MEMBERS else 1]


def need_program() -> None:
    if shutil.which("etcd") is None:
        raise PlumError("etcd is not installed", "apt install etcd-server, or use --store sqlite")


def url(layout: Layout, fabric: Fabric, node: str) -> str:
    """What the node's plumd opens: its own member first."""
    holders = sorted(members(fabric), key=lambda member: member != node)
    hosts = ",".join(f"{_host(fabric, member)}:{CLIENT_PORT}" for member in holders)
    ca, cert, key = _files(layout, node)
    return f"etcd://{hosts}?ca={ca}&cert={cert}&key={key}"


def command(layout: Layout, fabric: Fabric, node: str) -> list[str]:
    """The node's member, in its namespace."""
    ca, cert, key = map(str, _files(layout, node))
    client = f"https://{_host(fabric, node)}:{CLIENT_PORT}"
    peers = {member: f"https://{_host(fabric, member)}:{PEER_PORT}" for member in members(fabric)}
    return enter(
        layout.namespace(node),
        [
            "etcd", "--name", node, "--data-dir", str(layout.store_dir / node / "etcd"),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peers[node], "--initial-advertise-peer-urls", peers[node],
            "--initial-cluster", ",".join(f"{name}={peer}" for name, peer in peers.items()),
            "--initial-cluster-token", layout.name,
            "--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth",
            "--peer-cert-file", cert, "--peer-key-file", key, "--peer-trusted-ca-file", ca,
            "--peer-client-cert-auth", "--logger", "zap", "--log-level", "warn", *_LIMITS,
        ],
    )  # fmt: skip


def make_certificates(layout: Layout, fabric: Fabric) -> None:
    """An authority, and a certificate for each node; unless they are there."""
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = _folder(layout)
    if folder.exists():
        return
    draft = folder.with_suffix(".new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name(f"sandbox {layout.name}")
    ca = _certificate(ca_name, ca_name, ca_key, ca_key, None)
    _write(draft / "ca.pem", ca)
    for index, node in enumerate(fabric.nodes, start=1):
        key = ec.generate_private_key(ec.SECP256R1())
        address = vtep(index, fabric.family)
        _write(draft / f"{node}.pem", _certificate(_name(node), ca_name, key, ca_key, address))
        _write_key(draft / f"{node}.key", key)
    draft.rename(folder)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    address: IPv4Address | IPv6Address | None,
) -> x509.Certificate:
    """Of a node at `address`; None: of the authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=address is None, path_length=None), critical=True)
    )
    if address is not None:
        names = x509.SubjectAlternativeName([x509.IPAddress(address)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _name(text: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _write(path: Path, certificate: x509.Certificate) -> None:
    from cryptography.hazmat.primitives import serialization

    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    from cryptography.hazmat.primitives import serialization as form

    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    )


def _folder(layout: Layout) -> Path:
    return layout.store_dir / "trust"


def _files(layout: Layout, node: str) -> Sequence[Path]:
    folder = _folder(layout)
    return folder / "ca.pem", folder / f"{node}.pem", folder / f"{node}.key"


def _host(fabric: Fabric, node: str) -> str:
    address = vtep(fabric.nodes.index(node) + 1, fabric.family)
    return f"[{address}]" if address.version == 6 else str(address)
