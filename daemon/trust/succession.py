"""The zone's authority is replaced: a new one beside the old one, until nobody needs the old.

    spread    nodes learn to trust the new one; the old one goes on signing
    switch    the new one signs; every node takes a certificate of it
    settled   one is left

Each step is one write of keys.AUTHORITY that compares it. Nodes follow that record, and say
in cert/N what they trust and whose certificate they have, so no step is taken before everyone
can follow. Whoever issues a certificate compares the record too (`Office`): none of the old
authority is issued after the zone has gone on.

A node takes an authority from the record only if one that it trusts vouches for it: who can
write the store but has no authority's key brings in none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from daemon.store.interface import Compare, Put, Store
from daemon.trust.authority import Authority
from daemon.trust.certificate import (
    Certificate,
    fingerprint,
    pem_of,
    read_certificates,
    vouched,
)
from daemon.trust.credentials import Member
from daemon.trust.errors import TrustError
from daemon.trust.records import CertificateRecord, Record
from daemon.zone.errors import CONFLICT, ZoneError
from daemon.zone.keys import AUTHORITY, CERTIFICATES, RESTORE
from daemon.zone.restoring import check_not_restoring

_LOOK = "see how far it is: plumctl zone show"
#: Of this process: two begun at once would each leave a key in the trust folder.
_making = asyncio.Lock()


class Phase(StrEnum):
    SPREAD = "spread"
    SWITCH = "switch"
    SETTLED = "settled"


class Succession(Record):
    """Value of keys.AUTHORITY."""

    phase: Phase
    authorities: str  # PEM, as ca.pem is to be: the one that signs is the last
    link: str = ""  # PEM: the older one vouches for the newer one
    hold: bool = False  # the switch waits for an administrator
    since: str  # RFC 3339
    by: str

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        return read_certificates(self.authorities.encode())

    @property
    def newer(self) -> Certificate:
        return self.certificates[0 if self.phase is Phase.SPREAD else -1]

    @property
    def voucher(self) -> Certificate | None:
        return read_certificates(self.link.encode())[0] if self.link else None

    def believed(self, trusted: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
        """The authorities, if those that are trusted vouch for each. Raises TrustError."""
        wanted = self.certificates
        if vouched(wanted, trusted, self.voucher) != wanted:
            raise TrustError(
                "the store names an authority that nobody vouches for whom this node trusts",
                "if the zone changed its authority while this node was away: plumctl node token "
                "NAME --again on a director, then plumctl node join --again here",
            )
        return wanted


@dataclass(frozen=True, slots=True)
class Found:
    record: Succession | None
    compare: Compare


async def read_succession(store: Store) -> Found:
    item = await store.get(AUTHORITY)
    record = Succession.model_validate_json(item.value) if item else None
    return Found(record, Compare(AUTHORITY, item.mod_revision if item else 0))


async def lagging(store: Store, record: Succession) -> tuple[str, ...]:
    """Nodes that the next step waits for."""
    newer = fingerprint(record.newer)
    return tuple(
        item.key.removeprefix(CERTIFICATES)
        for item in (await store.list(CERTIFICATES)).items
        if not _has_followed(CertificateRecord.model_validate_json(item.value), record.phase, newer)
    )


def _has_followed(node: CertificateRecord, phase: Phase, newer: str) -> bool:
    if phase is Phase.SPREAD:
        return newer in node.trusts
    if phase is Phase.SWITCH:
        return newer in node.trusts and node.authority == newer and not node.previous
    return node.trusts == (newer,)


async def begin(member: Member, *, by: str, now: float, hold: bool = False) -> Succession:
    """Make a new authority and have all nodes trust it. Raises ZoneError and TrustError."""
    async with _making:
        found = await read_succession(member.store)
        if found.record is not None and found.record.phase is not Phase.SETTLED:
            raise ZoneError(
                f"it is being replaced since {found.record.since}", _LOOK, code=CONFLICT
            )
        trust = member.credentials.trust
        if found.record is not None and found.record.certificates != trust.authorities:
            raise ZoneError(
                f"{member.node} has not followed the last change yet", "try again", code=CONFLICT
            )
        older, newer = _pair(member, now)
        record = Succession(
            phase=Phase.SPREAD,
            authorities=pem_of(newer.certificate, older.certificate).decode(),
            link=pem_of(older.endorse(newer.certificate, now)).decode(),
            hold=hold,
            since=_time(now),
            by=by,
        )
        # The key first: what the zone is told of must not be lost with this process.
        member.credentials.folder.replace_authorities(trust.authorities, (older, newer))
        await _write(member.store, found, record)
        return record


def _pair(member: Member, now: float) -> tuple[Authority, Authority]:
    """The one that signs and a new one; or both, where a change broke off with the store."""
    trust = member.credentials.trust
    if len(trust.authorities) == 1:
        if trust.authority is None:
            message = f"{member.node} does not have the authority's key (yet)"
            raise TrustError(message, "ask another director: plumctl zone show")
        return trust.authority, Authority.create(member.zone_id, now)
    if len(trust.held) != len(trust.authorities):
        raise TrustError(f"{member.node} does not have both keys (yet)", "ask another director")
    older, newer = sorted(trust.held, key=lambda item: item.certificate.not_valid_before_utc)
    return older, newer


async def switch(store: Store) -> bool:
    """Have the new one sign, if every node trusts it. False: it is not time."""
    found = await read_succession(store)
    record = found.record
    if record is None or record.phase is not Phase.SPREAD or record.hold:
        return False
    if await lagging(store, record):
        return False
    newer, older = record.certificates
    after = {"phase": Phase.SWITCH, "authorities": pem_of(older, newer).decode()}
    put = _put(record.model_copy(update=after))
    return (await store.commit([found.compare, Compare(RESTORE, 0)], [put])).succeeded


async def go_on(store: Store) -> Succession:
    """No longer hold the switch back. Raises ZoneError."""
    found, record = await _under_way(store, Phase.SPREAD)
    return await _write(store, found, record.model_copy(update={"hold": False}))


async def abort(store: Store) -> Succession:
    """Forget the new one, while it has signed nothing. Raises ZoneError."""
    found, record = await _under_way(store, Phase.SPREAD)
    after = {"phase": Phase.SETTLED, "authorities": pem_of(record.certificates[-1]).decode()}
    return await _write(
        store, found, record.model_copy(update={**after, "link": "", "hold": False})
    )


async def finish(store: Store) -> Succession:
    """Trust the old one no longer. Raises ZoneError while any node needs it."""
    found, record = await _under_way(store, Phase.SWITCH)
    waiting = await lagging(store, record)
    if waiting:
        raise ZoneError(
            f"{', '.join(waiting)}: no certificate of the new authority yet",
            "start plumd there and look again (plumctl zone show), or remove what is gone for good "
            "(plumctl node remove)",
            code=CONFLICT,
        )
    after = {"phase": Phase.SETTLED, "authorities": pem_of(record.newer).decode()}
    return await _write(store, found, record.model_copy(update=after))


async def _under_way(store: Store, phase: Phase) -> tuple[Found, Succession]:
    found = await read_succession(store)
    record = found.record
    if record is None or record.phase is Phase.SETTLED:
        hint = "begin: plumctl zone rotate-ca"
        raise ZoneError("the zone's authority is not being replaced", hint, code=CONFLICT)
    if record.phase is not phase:
        early = record.phase is Phase.SPREAD
        message = (
            "the new authority does not sign yet: not every node trusts it"
            if early
            else "the new authority signs already: it can only be finished"
        )
        raise ZoneError(message, _LOOK, code=CONFLICT)
    return found, record


async def _write(store: Store, found: Found, record: Succession) -> Succession:
    await check_not_restoring(store)
    compares = [found.compare, Compare(RESTORE, 0)]
    if not (await store.commit(compares, [_put(record)])).succeeded:
        raise ZoneError("another one changed the authority meanwhile", _LOOK, code=CONFLICT)
    return record


def _put(record: Succession) -> Put:
    return Put(AUTHORITY, record.model_dump_json().encode())


def _time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Office:
    """Who signs now, and the compare that what is issued must be written with."""

    authority: Authority
    compare: Compare
    trusts: tuple[str, ...]  # fingerprints of what a newcomer is told


async def office(member: Member) -> Office:
    """Raises TrustError when this director cannot sign (yet)."""
    found = await read_succession(member.store)
    trust = member.credentials.trust
    if trust.authority is None:
        message = f"{member.node} does not have the authority's key (yet)"
        raise TrustError(message, "ask another director: plumctl zone show")
    if found.record is not None and found.record.certificates != trust.authorities:
        raise TrustError(
            f"{member.node} has not followed a change of the zone's authority yet", "try again"
        )
    trusts = tuple(map(fingerprint, trust.authorities))
    return Office(trust.authority, found.compare, trusts)


async def acknowledge(member: Member) -> bool:
    """Say in cert/N what this node trusts, and whose certificate it has. False: not now."""
    trust, key = member.credentials.trust, f"{CERTIFICATES}{member.node}"
    item = await member.store.get(key)
    if item is None:
        return True  # removed from the zone: nobody waits for it
    record = CertificateRecord.model_validate_json(item.value)
    if record.fingerprint != fingerprint(trust.certificate):
        return False  # in the middle of a renewal: said after it
    said = {
        "trusts": tuple(map(fingerprint, trust.authorities)),
        "authority": fingerprint(trust.issuer),
    }
    after = record.model_copy(update=said)
    if after == record:
        return True
    put = Put(key, after.model_dump_json().encode())
    if not (await member.store.commit([Compare(key, item.mod_revision)], [put])).succeeded:
        raise TrustError(f"the certificate of {member.node} changed meanwhile", "try again")
    return True
