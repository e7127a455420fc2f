"""How a machine becomes a node, and how a node gets its next certificate. On directors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field

from daemon.model.base import Address
from daemon.model.manifest import read_manifests
from daemon.model.object import spec_document
from daemon.store.interface import Compare, Delete, Put, Store
from daemon.trust.authority import NODE_LIFE_S
from daemon.trust.certificate import named, read_request
from daemon.trust.credentials import Member
from daemon.trust.errors import TrustError
from daemon.trust.invitation import JoinRecord, join_key, redeem
from daemon.trust.records import CertificateRecord, certificate_key
from daemon.trust.succession import office, read_succession
from daemon.zone.errors import CONFLICT, ZoneError
from daemon.zone.plan import make_plan
from daemon.zone.revision import Verb
from daemon.zone.transact import Work, ZoneState, transact


class Candidate(BaseModel):
    """What a machine says of itself when it wants to join."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(max_length=64)  # of the join token
    secret: str = Field(max_length=128)
    request: str = Field(max_length=8192)  # signing request, PEM
    vtep: Address | None = None
    underlay_mtu: int | None = None


async def admit(
    member: Member, asked: Candidate, now: float, life_s: float = NODE_LIFE_S
) -> tuple[x509.Certificate, JoinRecord]:
    """Sign, use the token up and write the node, in one transaction.

    Raises TrustError for a token or request that is not good, ZoneError for a name or
    address that is taken.
    """
    store, signer = member.store, await office(member)
    record, _ = await redeem(store, asked.id, asked.secret, now)
    key = checked_key(asked.request, member.zone_id, record.node)
    admitted: list[x509.Certificate] = []

    async def prepare(state: ZoneState) -> Work:
        record, revision = await redeem(store, asked.id, asked.secret, now)
        if (await read_succession(store)).compare != signer.compare:
            raise TrustError("the zone's authority was changed at this moment", "join again")
        known = await store.get(certificate_key(record.node))
        if known is not None and not record.again:
            hint = "take another name, or make the token with --again"
            message = f"{record.node} is a node of this zone already"
            raise ZoneError(message, hint, code=CONFLICT)
        vtep = _vtep(state, record, asked)
        certificate = signer.authority.issue(key, member.zone_id, record.node, vtep, now, life_s)
        admitted[:] = [certificate]
        parsed = read_manifests([_manifest(state, record, asked, vtep)])
        plan = make_plan(
            state.snapshot,
            state.counters,
            parsed.manifests,
            problems=parsed.problems,
            broken=parsed.broken,
        )
        written = CertificateRecord.of(certificate, signer.authority.certificate, signer.trusts)
        compares = (
            Compare(join_key(asked.id), revision),
            Compare(certificate_key(record.node), known.mod_revision if known else 0),
            signer.compare,
        )
        writes = (
            Delete(join_key(asked.id)),
            Put(certificate_key(record.node), written.model_dump_json().encode()),
        )
        return Work(plan, f"node {record.node} joins", compares, writes)

    await transact(store, prepare, actor=record.by, verb=Verb.APPLY)
    return admitted[0], record


def _vtep(state: ZoneState, record: JoinRecord, asked: Candidate) -> Address:
    """Raises ZoneError when it is not clear or not free."""
    if record.vtep is not None and asked.vtep not in (None, record.vtep):
        message = f"the token of {record.node} is for {record.vtep}, not for {asked.vtep}"
        raise ZoneError(message, f"plumctl node join --vtep {record.vtep}", code=CONFLICT)
    there = state.snapshot.nodes.get(record.node)
    vtep = record.vtep or asked.vtep or (there.spec.vtep if there else None)
    if vtep is None:
        hint = "plumctl node join --vtep ADDRESS: this machine's address on the underlay"
        raise ZoneError(f"{record.node} needs a VTEP address", hint)
    for name, other in state.snapshot.nodes.items():
        if other.spec.vtep == vtep and name != record.node:
            hint = f"give {record.node} an address of its own (--vtep), or remove {name} first"
            raise ZoneError(f"{vtep} is the VTEP of node {name}", hint, code=CONFLICT)
    return vtep


def _manifest(
    state: ZoneState, record: JoinRecord, asked: Candidate, vtep: Address
) -> dict[str, Any]:
    """The node as it is to be."""
    there = state.snapshot.nodes.get(record.node)
    spec: dict[str, Any] = spec_document(there) if there else {}
    spec |= {"vtep": str(vtep)}
    if not record.again:
        spec["roles"] = [str(role) for role in record.roles]
    if asked.underlay_mtu is not None:
        spec["underlay_mtu"] = asked.underlay_mtu
    return {"kind": "node", "name": record.node, "spec": spec}


async def renew(
    member: Member,
    node: str,
    shown: str,
    request: str,
    now: float,
    life_s: float = NODE_LIFE_S,
) -> x509.Certificate:
    """The next certificate of a node. `shown`: fingerprint of the one it asks with, which is
    accepted as well until `confirm`. Raises TrustError."""
    key = checked_key(request, member.zone_id, node)
    signer = await office(member)
    vtep = member.address(node)
    if vtep is None:
        raise TrustError(f"{node} is no node of this zone any more", "join it again")
    certificate = signer.authority.issue(key, member.zone_id, node, vtep, now, life_s)

    def issued(known: CertificateRecord) -> CertificateRecord:
        return CertificateRecord.of(certificate, signer.authority.certificate, known.trusts, shown)

    await _replace(member.store, node, shown, issued, signer.compare)
    return certificate


async def confirm(store: Store, node: str, shown: str) -> None:
    """The node asks with its new certificate: the one before is void. Raises TrustError."""
    item = await store.get(certificate_key(node))
    record = CertificateRecord.model_validate_json(item.value) if item else None
    if record is None or record.fingerprint != shown:
        raise TrustError(f"this is not the newest certificate of {node}", "renew it first")
    if record.previous:
        await _replace(store, node, shown, lambda now: now.model_copy(update={"previous": ""}))


async def _replace(
    store: Store,
    node: str,
    shown: str,
    change: Callable[[CertificateRecord], CertificateRecord],
    *compares: Compare,
) -> None:
    item = await store.get(certificate_key(node))
    known = CertificateRecord.model_validate_json(item.value) if item else None
    if item is None or known is None or not known.accepts(shown):
        message = f"{node} may not renew with this certificate: it is not the zone's for it"
        raise TrustError(message, "join it again: plumctl node token NAME --again")
    put = Put(item.key, change(known).model_dump_json().encode())
    done = await store.commit([Compare(item.key, item.mod_revision), *compares], [put])
    if not done.succeeded:
        raise TrustError(f"the certificate of {node} changed meanwhile", "try again")


def checked_key(request: str, zone_id: str, node: str) -> ec.EllipticCurvePublicKey:
    """The key of a signing request for exactly this node. Raises TrustError."""
    found = read_request(request.encode())
    zone, name = named(found)
    if (zone, name) != (zone_id, node):
        message = f"the request names {name} of zone {zone}, but this is for {node} of {zone_id}"
        raise TrustError(message, "a node gets certificates for its own name only")
    key = found.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # read_request looked
    return key
