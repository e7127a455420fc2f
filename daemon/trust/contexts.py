"""TLS contexts: TLS 1.3 and nothing older, certificates of the zone's authority only."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from daemon.trust.certificate import Certificate, pem_of
from daemon.trust.errors import TrustError
from daemon.trust.folder import TrustFolder

#: Where every node answers, on its VTEP address.
PORT = 4788
#: Of what is asked between nodes only.
PREFIX = "/v1/trust/"


def server_context(folder: TrustFolder, *, strangers: bool) -> ssl.SSLContext:
    """`strangers`: clients without certificate get through TLS; they must show a token then.

    A certificate that is shown must be good in any case. Raises TrustError.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, folder)
    context.verify_mode = ssl.CERT_OPTIONAL if strangers else ssl.CERT_REQUIRED
    # A resumed session would carry on with a certificate that may be void by now.
    context.num_tickets = 0
    return context


def client_context(folder: TrustFolder) -> ssl.SSLContext:
    """For another node, whose name has to be given as server name. Raises TrustError."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, folder)


def newcomer_context(authorities: Sequence[Certificate]) -> ssl.SSLContext:
    """For a machine without certificate: trusts these authorities and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=pem_of(*authorities).decode())
    return context


def _context(protocol: ssl._SSLMethod, folder: TrustFolder) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(folder.ca)
        context.load_cert_chain(folder.certificate, folder.key)
    except (ssl.SSLError, OSError) as error:
        raise TrustError(
            f"the certificates in {folder.path} cannot be used: {error}",
            "join the zone again: plumctl node token, plumctl node join",
        ) from error
    return context
