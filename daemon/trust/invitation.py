"""Invitations: made once by an administrator, good for one machine and one name.

What an administrator carries to the machine says where the directors are and which
authority they must show: the machine trusts nobody else, not even the first time. The store
keeps only a hash of the secret in it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from daemon.model.base import Address, Name
from daemon.model.node import Role
from daemon.store.interface import Compare, Delete, Put, Store
from daemon.trust.certificate import fingerprint
from daemon.trust.credentials import Member
from daemon.trust.errors import TrustError
from daemon.trust.records import certificate_key
from daemon.zone.errors import CONFLICT, ZoneError
from daemon.zone.keys import JOINS

MARK = "plumjoin_"
MIN_LIFE_S, MAX_LIFE_S = 60.0, 30 * 86_400.0
_NOBODYS_HASH = hashlib.sha256(b"").hexdigest()
_ANOTHER = "make another: plumctl node token NAME, on a director"


class Invitation(BaseModel):
    """What the token says to the machine that gets it."""

    model_config = ConfigDict(frozen=True)

    zone: str
    node: Name
    id: str
    secret: str
    authority: str  # SHA-256 of its certificate
    store: str  # URL
    directors: dict[Name, Address]

    def text(self) -> str:
        raw = self.model_dump_json().encode()
        return MARK + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_invitation(text: str) -> Invitation:
    """Raises TrustError."""
    encoded = text.strip()
    try:
        if not encoded.startswith(MARK):
            raise ValueError("it does not start with plumjoin_")
        body = encoded.removeprefix(MARK)
        raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        return Invitation.model_validate_json(raw)
    except (ValueError, ValidationError) as error:
        raise TrustError("this is no join token, or not all of it", _ANOTHER) from error


class JoinRecord(BaseModel):
    """Value of /plum/join/ID."""

    model_config = ConfigDict(frozen=True)

    hash: str
    node: Name
    vtep: Address | None  # None: the machine says it
    roles: tuple[Role, ...]
    expires: float  # Unix time, seconds
    by: str  # who made it
    again: bool = False  # for a node that is in the zone and lost its certificate


def join_key(token_id: str) -> str:
    return f"{JOINS}{token_id}"


async def invite(
    member: Member,
    node: str,
    roles: Sequence[Role],
    vtep: Address | None,
    life_s: float,
    *,
    again: bool,
    by: str,
    now: float,
) -> tuple[Invitation, JoinRecord]:
    """Make one. Raises ZoneError when the name is in use, or with `again` when it is not."""
    if not MIN_LIFE_S <= life_s <= MAX_LIFE_S:
        raise ZoneError("a join token lives between a minute and 30 days")
    store, key = member.store, certificate_key(node)
    known = await store.get(key)
    if known is not None and not again:
        hint = "take another name, or plumctl node token NAME --again if it lost its certificate"
        raise ZoneError(f"{node} is a node of this zone already", hint, code=CONFLICT)
    if known is None and again:
        hint = "leave --again out"
        raise ZoneError(f"{node} is no node of this zone yet", hint, code=CONFLICT)
    await _drop_expired(store, now)
    token_id, secret = secrets.token_hex(8), secrets.token_hex(32)
    record = JoinRecord(
        hash=_hash(secret),
        node=node,
        vtep=vtep,
        roles=tuple(roles),
        expires=now + life_s,
        by=by,
        again=again,
    )
    put = Put(join_key(token_id), record.model_dump_json().encode())
    done = await store.commit([Compare(key, known.mod_revision if known else 0)], [put])
    if not done.succeeded:
        raise ZoneError(f"{node} joined meanwhile", "see: plumctl zone show", code=CONFLICT)
    trust = member.credentials.trust
    invitation = Invitation(
        zone=trust.zone_id,
        node=node,
        id=token_id,
        secret=secret,
        authority=fingerprint(trust.authorities[-1]),
        store=trust.membership.store,
        directors=member.directors(),
    )
    return invitation, record


async def redeem(store: Store, token_id: str, secret: str, now: float) -> tuple[JoinRecord, int]:
    """The record and its mod_revision; it is used up only by whoever deletes it.

    Raises TrustError, which says no more than the holder may know.
    """
    item = await store.get(join_key(token_id))
    record = JoinRecord.model_validate_json(item.value) if item else None
    # Compared also when there is none: how long it takes tells nothing.
    right = hmac.compare_digest(_hash(secret), record.hash if record else _NOBODYS_HASH)
    if item is None or record is None or not right:
        raise TrustError(
            "this join token is not valid: it was used, revoked or never made", _ANOTHER
        )
    if record.expires <= now:
        raise TrustError(f"this join token of {record.node} has expired", _ANOTHER)
    return record, item.mod_revision


async def _drop_expired(store: Store, now: float) -> None:
    """They are worthless; kept until somebody makes the next one."""
    for item in (await store.list(JOINS)).items:
        if JoinRecord.model_validate_json(item.value).expires <= now:
            await store.commit([Compare(item.key, item.mod_revision)], [Delete(item.key)])


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
