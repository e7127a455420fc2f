"""What the store knows of the zone's identity and its nodes' certificates."""

from __future__ import annotations

from cryptography import x509
from pydantic import BaseModel, ConfigDict

from daemon.store.interface import Store, StoreError
from daemon.trust.certificate import fingerprint
from daemon.trust.errors import TrustError
from daemon.zone.keys import CERTIFICATES, IDENTITY

FORMAT = 1


class Record(BaseModel):
    """A record of a newer plumd may say more."""

    model_config = ConfigDict(frozen=True)


class Identity(Record):
    """Value of /plum/identity."""

    id: str
    created: str  # RFC 3339
    format: int = FORMAT


class CertificateRecord(Record):
    """Value of /plum/cert/NODE: the one identity accepted for the node.

    While a node changes its certificate the one before is accepted too, until the node has
    shown that it has the new one: it may die before it has written that down.
    """

    serial: str  # hexadecimal
    fingerprint: str  # SHA-256 of the certificate
    not_after: str  # RFC 3339
    previous: str = ""  # fingerprint
    #: Of the authority that signed it, and of all that the node trusts, as it said last. Empty:
    #: an older plumd, which said nothing.
    authority: str = ""
    trusts: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        certificate: x509.Certificate,
        authority: x509.Certificate,
        trusts: tuple[str, ...],
        previous: str = "",
    ) -> CertificateRecord:
        return cls(
            serial=f"{certificate.serial_number:x}",
            fingerprint=fingerprint(certificate),
            not_after=certificate.not_valid_after_utc.isoformat(),
            previous=previous,
            authority=fingerprint(authority),
            trusts=trusts,
        )

    def accepts(self, shown: str) -> bool:
        return shown in (self.fingerprint, self.previous)


def certificate_key(node: str) -> str:
    return f"{CERTIFICATES}{node}"


async def read_identity(store: Store) -> Identity | None:
    item = await store.get(IDENTITY)
    return Identity.model_validate_json(item.value) if item else None


async def check_identity(store: Store, zone_id: str) -> None:
    """Raises TrustError when the store is not this zone's; StoreError when it does not say."""
    found = await read_identity(store)
    if found is None:
        raise TrustError(
            f"the store holds no zone, but this node is in zone {zone_id}",
            "check --store; a lost store comes back with plumctl zone restore",
        )
    if found.id != zone_id:
        raise TrustError(
            f"the store is of zone {found.id}, but this node is in zone {zone_id}",
            "check --store, or join that zone (plumctl node token, plumctl node join)",
        )


class Roster:
    """Which certificate is accepted for which node, now.

    Asked of the store every time, so what is revoked is refused at once. When the store
    does not answer, what it said last holds: nodes must reach each other to mend it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, CertificateRecord | None] = {}

    async def record(self, node: str) -> CertificateRecord | None:
        """Raises StoreError when the store does not answer and never did for this node."""
        try:
            item = await self._store.get(certificate_key(node))
        except StoreError:
            if node not in self._known:
                raise
            return self._known[node]
        record = CertificateRecord.model_validate_json(item.value) if item else None
        self._known[node] = record
        return record

    async def refusal(self, node: str, shown: str) -> str:
        """Why the certificate with this fingerprint is not accepted for the node; empty: it is."""
        record = await self.record(node)
        if record is None:
            return f"{node} is not in this zone (any more)"
        if not record.accepts(shown):
            return f"this is not the certificate of {node}: another one was issued for it"
        return ""
