"""Keys, requests and certificates of nodes: made, read, and checked. No files, no sockets.

EC P-256 throughout; extensions as RFC 5280 wants them. A node's name stands twice in its
certificate: as DNS name, for TLS libraries, and as `plum://ZONE/node/NAME`, for us.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from daemon.trust.errors import TrustError

Certificate = x509.Certificate
PrivateKey = ec.EllipticCurvePrivateKey

NODE_URI = re.compile(r"plum://([0-9a-f-]{36})/node/([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)")
_PEM_END = b"-----END CERTIFICATE-----"
_KEY_END = b"-----END PRIVATE KEY-----"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),  # what plumd reads without a person, others could too
    )


def read_keys(pem: bytes) -> tuple[ec.EllipticCurvePrivateKey, ...]:
    """All of a PEM text, at least one. Raises TrustError."""
    blocks = [part + _KEY_END for part in pem.split(_KEY_END)[:-1]]
    return tuple(map(read_key, blocks or [pem]))


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises TrustError."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise TrustError(f"this is no private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TrustError("the private key is not of an elliptic curve")
    return key


def node_uri(zone_id: str, node: str) -> str:
    return f"plum://{zone_id}/node/{node}"


def subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def request(key: ec.EllipticCurvePrivateKey, zone_id: str, node: str) -> bytes:
    """A signing request (PEM) that names the node."""
    names = x509.SubjectAlternativeName(
        [x509.DNSName(node), x509.UniformResourceIdentifier(node_uri(zone_id, node))]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject(node))
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def read_request(pem: bytes) -> x509.CertificateSigningRequest:
    """Well-formed, signed by the key it names, and of a kind we sign. Raises TrustError."""
    hint = "send the request that plumctl or plumd made"
    try:
        found = x509.load_pem_x509_csr(pem)
        key, signed = found.public_key(), found.is_signature_valid
    except (ValueError, TypeError, InvalidSignature) as error:
        raise TrustError(f"this is no signing request: {error}", hint) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TrustError("the request's key is not EC P-256", hint)
    if not signed:
        raise TrustError("the request is not signed by the key it names", hint)
    return found


def read_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """All of a PEM text, at least one. Raises TrustError."""
    try:
        found = tuple(x509.load_pem_x509_certificates(pem)) if _PEM_END in pem else ()
    except ValueError as error:
        raise TrustError(f"this is no certificate: {error}") from error
    if not found:
        raise TrustError("there is no certificate in it")
    return found


def read_der(der: bytes) -> x509.Certificate:
    """Raises TrustError."""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise TrustError(f"this is no certificate: {error}") from error


def pem_of(*certificates: x509.Certificate) -> bytes:
    return b"".join(item.public_bytes(serialization.Encoding.PEM) for item in certificates)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the whole certificate, hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def named(certificate: x509.Certificate | x509.CertificateSigningRequest) -> tuple[str, str]:
    """(zone id, node) of a node's certificate, else TrustError."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        raise TrustError("the certificate names no node") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    dns = names.get_values_for_type(x509.DNSName)
    matches = [match for uri in uris if (match := NODE_URI.fullmatch(uri))]
    if len(uris) != 1 or len(matches) != 1 or dns != [matches[0][2]]:
        raise TrustError("the certificate does not name exactly one node")
    return matches[0][1], matches[0][2]


def check(
    certificate: x509.Certificate,
    authorities: Sequence[x509.Certificate],
    zone_id: str,
    now: float,
) -> str:
    """The node a certificate is of: signed by the zone's authority, valid now, of this zone.

    TLS checks the same; this is for certificates that come as text, and says why. Raises
    TrustError.
    """
    if not any(signed_by(certificate, authority) for authority in authorities):
        raise TrustError(
            "the certificate is not signed by this zone's authority",
            "it is another zone's: join this one (plumctl node token, plumctl node join)",
        )
    at = datetime.fromtimestamp(now, UTC)
    if at < certificate.not_valid_before_utc:
        raise TrustError(
            f"the certificate is valid only from {certificate.not_valid_before_utc.isoformat()}",
            "compare the clocks of the nodes",
        )
    if at > certificate.not_valid_after_utc:
        raise TrustError(
            f"the certificate expired at {certificate.not_valid_after_utc.isoformat()}",
            "look at the node's clock; if that is right, join it again (plumctl node token)",
        )
    zone, node = named(certificate)
    if zone != zone_id:
        raise TrustError(f"the certificate is of zone {zone}, this is zone {zone_id}")
    return node


def vouched(
    wanted: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    link: x509.Certificate | None,
) -> tuple[x509.Certificate, ...]:
    """Those of `wanted` that are trusted, or that `link` vouches for: a certificate of the
    same authority, made with the key of one that is trusted."""
    known = tuple(item for item in wanted if item in trusted)
    if link is None or not _is_authority(link):  # a node has a certificate for its key as well
        return known
    if not any(signed_by(link, authority) for authority in trusted):
        return known
    told = (link.subject, link.public_key())
    return tuple(
        item for item in wanted if item in known or (item.subject, item.public_key()) == told
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return found.ca


def signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
