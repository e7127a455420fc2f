"""The first node: makes the zone, its authority, and itself a director."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from daemon.model.base import Address
from daemon.model.manifest import read_manifests
from daemon.model.object import spec_document
from daemon.store.interface import Compare, Put, Store
from daemon.trust.authority import Authority
from daemon.trust.certificate import fingerprint, new_key
from daemon.trust.errors import TrustError
from daemon.trust.folder import Membership, Trust, TrustFolder
from daemon.trust.records import (
    CertificateRecord,
    Identity,
    certificate_key,
    read_identity,
)
from daemon.zone.errors import ZoneError
from daemon.zone.keys import IDENTITY
from daemon.zone.plan import make_plan
from daemon.zone.revision import Verb
from daemon.zone.transact import Work, ZoneState, transact


async def found(
    store: Store,
    url: str,
    folder: TrustFolder,
    node: str,
    vtep: Address,
    underlay_mtu: int | None,
    *,
    actor: str,
    now: float,
    prepared: Trust | None = None,
) -> Trust:
    """Write the zone into a store that holds none, and the trust folder.

    `prepared`: what `prepare` made before, for a store that trusts the zone's authority.

    The folder is prepared before, and gets its name after: a crash in between is completed
    by the next call. Raises TrustError and ZoneError; then nothing was changed.
    """
    folder.check_absent()
    there = await read_identity(store)
    if there is not None:
        completed = folder.complete(there.id)
        if completed is not None:
            return completed
        raise TrustError(
            f"the store is of zone {there.id} already",
            "join it: plumctl node token on a director, then plumctl node join here",
        )
    trust = prepared or prepare(folder, url, node, vtep, now)
    identity = Identity(id=trust.zone_id, created=datetime.fromtimestamp(now, UTC).isoformat())
    authority = trust.authorities[-1]
    certificate = CertificateRecord.of(trust.certificate, authority, (fingerprint(authority),))

    async def write(state: ZoneState) -> Work:
        existing = state.snapshot.nodes.get(node)
        spec = spec_document(existing) if existing else {}
        spec |= {"vtep": str(vtep), "roles": ["director", "edge"]}
        if underlay_mtu is not None:
            spec["underlay_mtu"] = underlay_mtu
        parsed = read_manifests([{"kind": "node", "name": node, "spec": spec}])
        plan = make_plan(
            state.snapshot,
            state.counters,
            parsed.manifests,
            problems=parsed.problems,
            broken=parsed.broken,
        )
        if await read_identity(store) is not None:
            raise ZoneError("another machine made a zone of this store meanwhile", "join it")
        return Work(
            plan,
            "zone init",
            (Compare(IDENTITY, 0), Compare(certificate_key(node), 0)),
            (
                Put(IDENTITY, identity.model_dump_json().encode()),
                Put(certificate_key(node), certificate.model_dump_json().encode()),
            ),
        )

    await transact(store, write, actor=actor, verb=Verb.APPLY)
    completed = folder.complete(trust.zone_id)
    assert completed is not None  # prepared above
    return completed


def prepare(folder: TrustFolder, url: str, node: str, vtep: Address, now: float) -> Trust:
    """An authority, and the first certificate it signs, in a folder that is not in use yet."""
    zone_id = str(uuid.uuid4())
    authority = Authority.create(zone_id, now)
    key = new_key()
    certificate = authority.issue(key.public_key(), zone_id, node, vtep, now)
    membership = Membership(id=zone_id, node=node, vtep=vtep, store=url, directors={node: vtep})
    trust = Trust(membership, (authority.certificate,), certificate, key, authority)
    folder.prepare(trust)
    return trust
