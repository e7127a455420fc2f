"""The zone's own certificate authority. It signs certificates of nodes, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from daemon.model.base import Address
from daemon.trust.certificate import new_key, node_uri, subject
from daemon.trust.errors import TrustError

DAY_S = 86_400.0
CA_LIFE_S = 3650 * DAY_S
NODE_LIFE_S = 90 * DAY_S
#: Certificates are valid from a little earlier: clocks differ.
SKEW_S = 300.0


@dataclass(frozen=True, slots=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def __post_init__(self) -> None:
        if self.key.public_key() != self.certificate.public_key():
            raise TrustError("the authority's key does not belong to its certificate")

    @classmethod
    def create(cls, zone_id: str, now: float, life_s: float = CA_LIFE_S) -> Authority:
        key = new_key()
        name = subject(f"Plum zone {zone_id}")
        usage = _usage(key_cert_sign=True, crl_sign=True)
        builder = (
            _builder(name, name, key.public_key(), now, now + life_s)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(_key_id(key.public_key()), critical=False)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    def issue(
        self,
        key: ec.EllipticCurvePublicKey,
        zone_id: str,
        node: str,
        vtep: Address,
        now: float,
        life_s: float = NODE_LIFE_S,
    ) -> x509.Certificate:
        """A certificate for a node's key: server and client. Never outlives the authority's.

        Plum knows a node by its URI; the VTEP address is for an etcd member of the node's.
        """
        end = min(now + life_s, self.certificate.not_valid_after_utc.timestamp())
        if end <= now:
            raise TrustError(
                "the zone's authority has expired",
                "make a zone anew and restore a backup into it (KNOWN_ISSUES.md)",
            )
        names = x509.SubjectAlternativeName(
            [
                x509.DNSName(node),
                x509.IPAddress(vtep),
                x509.UniformResourceIdentifier(node_uri(zone_id, node)),
            ]
        )
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _builder(self.certificate.subject, subject(node), key, now, end)
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(_key_id(key), critical=False)
            .add_extension(issuer, critical=False)
        )
        return builder.sign(self.key, hashes.SHA256())

    def endorse(self, newer: x509.Certificate, now: float) -> x509.Certificate:
        """Our word for another authority: its name and key in a certificate of ours.

        RFC 4210, 4.4 calls it NewWithOld. For `vouched`; TLS never sees it.
        """
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        key = newer.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)  # `create` makes no others
        end = newer.not_valid_after_utc.timestamp()
        builder = (
            _builder(self.certificate.subject, newer.subject, key, now, end)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(_key_id(key), critical=False)
            .add_extension(issuer, critical=False)
        )
        return builder.sign(self.key, hashes.SHA256())


def renew_at(certificate: x509.Certificate) -> float:
    """Unix time when two thirds of its life are over."""
    start = certificate.not_valid_before_utc.timestamp()
    end = certificate.not_valid_after_utc.timestamp()
    return start + (end - start) * 2 / 3


def _builder(
    issuer: x509.Name,
    of: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: float,
    end: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(of)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(math.floor(now), UTC) - timedelta(seconds=SKEW_S))
        .not_valid_after(datetime.fromtimestamp(math.ceil(end), UTC))
    )


def _key_id(key: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key)


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
