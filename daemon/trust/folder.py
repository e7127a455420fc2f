"""The trust folder: what this machine has to prove which node of which zone it is.

    zone.json   which zone, which node, who the directors are
    ca.pem      the zone's authority; while it is being changed, the old one and the new one
    node.pem    this node's certificate, the authority's after it
    node.key    its private key, which never leaves this machine
    ca.key      the authority's private key, on directors only; while it is being changed, both

Every file is replaced whole. Key and certificate are two files and so two replacements:
`repair` completes the second when a crash came between.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, ValidationError

from daemon.model.base import Address, Name
from daemon.trust.authority import Authority
from daemon.trust.certificate import (
    key_pem,
    pem_of,
    read_certificates,
    read_key,
    read_keys,
    signed_by,
)
from daemon.trust.errors import TrustError

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_REJOIN = "restore the folder from a backup, or remove it and join again (plumctl node join)"


class Membership(BaseModel):
    """zone.json."""

    model_config = ConfigDict(frozen=True)  # a newer plumd may say more

    id: str
    node: Name
    vtep: IPv4Address | IPv6Address
    store: str  # URL
    directors: dict[Name, Address] = {}  # VTEP addresses by name, as last seen


@dataclass(frozen=True, slots=True)
class Trust:
    """The content of a trust folder."""

    membership: Membership
    authorities: tuple[x509.Certificate, ...]  # of the zone; the one that signs is the last
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    authority: Authority | None  # the one that signs, on directors
    others: tuple[Authority, ...] = ()  # further ones whose keys are here

    @property
    def issuer(self) -> x509.Certificate:
        """The authority that signed this node's certificate. Raises TrustError."""
        for authority in self.authorities:
            if signed_by(self.certificate, authority):
                return authority
        raise TrustError("no authority of the zone signed this node's certificate", _REJOIN)

    @property
    def held(self) -> tuple[Authority, ...]:
        """All authorities whose keys are here."""
        return (*self.others, self.authority) if self.authority else self.others

    @property
    def node(self) -> str:
        return self.membership.node

    @property
    def zone_id(self) -> str:
        return self.membership.id


class TrustFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.ca = path / "ca.pem"
        self.ca_key = path / "ca.key"
        self.certificate = path / "node.pem"
        self.key = path / "node.key"
        self.zone = path / "zone.json"

    def exists(self) -> bool:
        return self.zone.exists()

    def read(self) -> Trust:
        """Raises TrustError that names the file, when one is missing, unfit or too open."""
        self._check_mode()
        self._repair()
        try:
            membership = Membership.model_validate_json(self._bytes(self.zone))
        except ValidationError as error:
            raise TrustError(f"{self.zone} is damaged: {error}", _REJOIN) from error
        authorities = self._named(self.ca)
        certificate = self._named(self.certificate)[0]
        key = self._key(self.key)
        if key.public_key() != certificate.public_key():
            raise TrustError(f"{self.key} does not belong to {self.certificate}", _REJOIN)
        held = self.held(authorities)
        authority = next((item for item in held if item.certificate == authorities[-1]), None)
        others = tuple(item for item in held if item is not authority)
        return Trust(membership, authorities, certificate, key, authority, others)

    def write(self, trust: Trust) -> None:
        """A new folder, whole from the moment it has its name. Raises TrustError."""
        self.prepare(trust)
        self.complete(trust.zone_id)

    def check_absent(self) -> None:
        """Raises TrustError when this machine is in a zone."""
        if self.path.exists():
            raise TrustError(
                f"this machine is in a zone already: {self.path} exists",
                "plumctl zone show says in which; remove the folder to leave it",
            )

    def prepare(self, trust: Trust) -> None:
        """All of it, beside its place. Raises TrustError if that is taken."""
        self.check_absent()
        draft = self.draft()
        shutil.rmtree(draft.path, ignore_errors=True)
        draft.path.mkdir(mode=DIRECTORY_MODE, parents=True)
        draft.fill(trust)

    def complete(self, zone_id: str) -> Trust | None:
        """Put what was prepared for this zone into its place; None: nothing was."""
        draft = self.draft()
        if not draft.exists() or (trust := draft.read()).zone_id != zone_id:
            return None
        os.rename(draft.path, self.path)
        _sync(self.path.parent)
        return trust

    def draft(self) -> TrustFolder:
        """Where `prepare` puts it."""
        return TrustFolder(self.path.with_name(self.path.name + ".new"))

    def fill(self, trust: Trust) -> None:
        self.replace_authorities(trust.authorities, trust.held)
        self.replace_certificate(trust.key, trust.certificate, trust.authorities[-1])
        self.replace_membership(trust.membership)

    def replace_membership(self, membership: Membership) -> None:
        _replace(self.zone, membership.model_dump_json(indent=1).encode() + b"\n")

    def replace_authorities(
        self, authorities: Sequence[x509.Certificate], held: Sequence[Authority]
    ) -> None:
        """Keys that come are there before their certificates, keys that go, go after them: a
        crash in between leaves a key too many, never one too few."""
        keep = b"".join(key_pem(item.key) for item in held)
        before = self.ca_key.read_bytes() if self.ca_key.exists() else b""
        if keep:
            _replace(self.ca_key, keep + before)
        _replace(self.ca, pem_of(*authorities))
        if keep and before:
            _replace(self.ca_key, keep)

    def drop_authority_keys(self) -> None:
        self.ca_key.unlink(missing_ok=True)

    def replace_certificate(
        self,
        key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
        authority: x509.Certificate,
    ) -> None:
        """Both are on the disk before the first one gets its name."""
        new_certificate, new_key = _draft(self.certificate), _draft(self.key)
        _write(new_certificate, pem_of(certificate, authority))
        _write(new_key, key_pem(key))
        os.replace(new_key, self.key)
        os.replace(new_certificate, self.certificate)
        _sync(self.path)

    def _repair(self) -> None:
        """A crash between the two replacements leaves the new key and the old certificate."""
        draft = _draft(self.certificate)
        if not draft.exists() or not self.key.exists():
            return
        try:
            waiting = read_certificates(draft.read_bytes())[0]
            mine = waiting.public_key() == self._key(self.key).public_key()
        except TrustError:
            mine = False  # half-written: the old pair is whole
        if mine:
            os.replace(draft, self.certificate)
            _sync(self.path)

    def held(self, authorities: Sequence[x509.Certificate]) -> tuple[Authority, ...]:
        """Those whose keys are here. Raises TrustError when keys are, but none of these."""
        if not self.ca_key.exists():
            return ()
        try:
            keys = read_keys(self._bytes(self.ca_key))
        except TrustError as error:
            raise TrustError(f"{self.ca_key}: {error.message}", _REJOIN) from error
        held = paired(keys, authorities)
        if not held:
            raise TrustError(f"{self.ca_key} does not belong to {self.ca}", _REJOIN)
        return held

    def _check_mode(self) -> None:
        status = self.path.stat()
        if status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid()):
            raise TrustError(
                f"{self.path} may be read by others: the keys in it are no secret",
                f"chmod 700 {self.path}; if somebody may have read it, rotate the certificate",
            )

    def _bytes(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise TrustError(f"cannot read {path}: {error.strerror}", _REJOIN) from error

    def _named(self, path: Path) -> tuple[x509.Certificate, ...]:
        try:
            return read_certificates(self._bytes(path))
        except TrustError as error:
            raise TrustError(f"{path}: {error.message}", _REJOIN) from error

    def _key(self, path: Path) -> ec.EllipticCurvePrivateKey:
        try:
            return read_key(self._bytes(path))
        except TrustError as error:
            raise TrustError(f"{path}: {error.message}", _REJOIN) from error


def paired(
    keys: Sequence[ec.EllipticCurvePrivateKey], authorities: Sequence[x509.Certificate]
) -> tuple[Authority, ...]:
    """Authorities with their keys, without those that have none."""
    return tuple(
        Authority(key, authority)
        for authority in authorities
        for key in keys
        if key.public_key() == authority.public_key()
    )


def _draft(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _replace(path: Path, content: bytes) -> None:
    draft = _draft(path)
    _write(draft, content)
    os.replace(draft, path)
    _sync(path.parent)


def _write(path: Path, content: bytes) -> None:
    """To the disk, readable by nobody else from its first moment."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
