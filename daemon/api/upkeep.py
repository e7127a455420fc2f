"""Keeps what this node proves itself with fresh: certificate, authority, directors."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from daemon.api.client import NotAskedError, PeerError, Peers, Question
from daemon.api.heir import Heir
from daemon.store.interface import StoreError
from daemon.trust import admission
from daemon.trust.authority import Authority, renew_at
from daemon.trust.certificate import (
    Certificate,
    check,
    fingerprint,
    new_key,
    read_certificates,
    read_keys,
    request,
    signed_by,
)
from daemon.trust.contexts import PREFIX
from daemon.trust.credentials import Member
from daemon.trust.errors import TrustError
from daemon.trust.folder import Trust, paired

log = logging.getLogger(__name__)

LOOK_S = 1.0  # nothing is asked of anybody unless something is due
RETRY_S = 5.0
ANSWER_S = 10.0
MEMBERS_S = 10.0  # between looks at who the members of the zone's own etcd are
NODE_SHARE_S = 0.02  # per node of the zone: how many certificates a director signs at once


class Upkeep:
    def __init__(
        self, member: Member, peers: Peers, clock: Callable[[], float] = time.time
    ) -> None:
        self._member = member
        self._peers = peers
        self._clock = clock
        self._confirmed = False  # we may have ended before we could
        self._outdated_since: float | None = None  # our certificate is of the old authority
        self._members_due = 0.0  # monotonic
        self.heir = Heir(member, self._fetch_keys)

    async def run(self) -> None:
        """Until cancelled. What fails is logged and tried again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.heir.follow())
            tasks.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            try:
                await self.look()
            except (TrustError, PeerError, StoreError, OSError) as error:
                words = str(error)
                if isinstance(error, TrustError):
                    words = "; ".join(filter(None, (error.message, error.hint)))
                log.error("trust", extra={"step": "upkeep", "error": words})
                await asyncio.sleep(RETRY_S)
                continue
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._member.rotation.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """What is due now. Raises TrustError, PeerError, StoreError, OSError."""
        member = self._member
        await self._keep_authority()
        member.remember_directors()
        trust = member.credentials.trust
        if not self._confirmed:
            await self._settle()
        due = self._clock() >= renew_at(trust.certificate) or self._outdated(trust)
        if member.rotation.is_set() or due:
            await self.renew()
            member.rotation.clear()
        await self.heir.look()
        if time.monotonic() >= self._members_due:
            await member.follow_members()
            self._members_due = time.monotonic() + MEMBERS_S

    def _outdated(self, trust: Trust) -> bool:
        """Another authority signs now. All nodes see that at once: each waits for its share of
        a while, so that the directors are not asked by all of them together."""
        if trust.issuer == trust.authorities[-1]:
            self._outdated_since = None
            return False
        if self._outdated_since is None:
            share_s = random.uniform(0, self._member.size * NODE_SHARE_S)
            self._outdated_since = time.monotonic() + share_s
        return time.monotonic() >= self._outdated_since

    async def _settle(self) -> None:
        """We may have ended in the middle of a renewal."""
        member = self._member
        record = await member.roster.record(member.node)
        if record is not None and record.fingerprint == fingerprint(
            member.credentials.trust.certificate
        ):
            await self._confirm()
        else:  # what was issued last was lost; the one we have is still good for another
            member.rotation.set()
            self._confirmed = True

    async def renew(self) -> None:
        """A new key and certificate. The one before is good until the new one is in use."""
        member, trust = self._member, self._member.credentials.trust
        key = new_key()
        wanted = request(key, member.zone_id, member.node).decode()
        if trust.authority is not None and member.is_director:
            shown, now = fingerprint(trust.certificate), self._clock()
            issued = await admission.renew(member, member.node, shown, wanted, now)
        else:
            self._check_unexpired(trust)
            answer = await self._ask_directors("renew", {"request": wanted})
            issued = read_certificates(str(answer["certificate"]).encode())[0]
            self._check(issued)
            if issued.public_key() != key.public_key():
                raise TrustError("a director answered with a certificate of another key")
        signer = next(item for item in trust.authorities if signed_by(issued, item))
        member.credentials.folder.replace_certificate(key, issued, signer)
        self._confirmed = False
        self._member.credentials.reload()
        await self._confirm()
        log.info(
            "certificate renewed",
            extra={"step": "upkeep", "object": issued.not_valid_after_utc.isoformat()},
        )

    def _check_unexpired(self, trust: Trust) -> None:
        """Nobody would let us in to ask."""
        end = trust.certificate.not_valid_after_utc
        if self._clock() > end.timestamp():
            raise TrustError(
                f"the certificate of {trust.node} expired at {end.isoformat()}: no node lets it in. "
                "It forwards as before",
                f"is the clock right? Then plumctl node token {trust.node} --again on a director, "
                "and plumctl node join --again here",
            )

    def _check(self, issued: Certificate) -> None:
        trust = self._member.credentials.trust
        node = check(issued, trust.authorities, trust.zone_id, self._clock())
        if node != trust.node:
            raise TrustError(f"a director answered with a certificate of {node}")

    async def _confirm(self) -> None:
        """The certificate before this one is void: we have this one on the disk."""
        member, trust = self._member, self._member.credentials.trust
        if trust.authority is not None and member.is_director:
            await admission.confirm(member.store, member.node, fingerprint(trust.certificate))
        else:
            await self._ask_directors("confirm", {})
        self._confirmed = True

    async def _keep_authority(self) -> None:
        """A director has the authority's key; who is none (any more) does not keep it, but
        only lets it go when another one has it."""
        member = self._member
        folder, trust = member.credentials.folder, member.credentials.trust
        if member.is_director and len(trust.held) < len(trust.authorities):
            held = await self._fetch_keys(trust.authorities)
            folder.replace_authorities(trust.authorities, held)
            self._member.credentials.reload()
            log.info("took the authority's key", extra={"step": "upkeep"})
        elif not member.is_director and trust.held and member.directors():
            await self._ask_directors("holds", {})
            folder.drop_authority_keys()
            self._member.credentials.reload()
            log.info("no director any more: the authority's key is gone", extra={"step": "upkeep"})

    async def _fetch_keys(self, wanted: Sequence[Certificate]) -> tuple[Authority, ...]:
        """From another director, those of all these authorities."""
        member = self._member
        # Whom we knew as director before may be the only one that has them.
        known = {*member.directors(), *member.credentials.trust.membership.directors}
        answer = await self._ask_any(known, "signing", {})
        held = paired(read_keys(str(answer["key"]).encode()), wanted)
        if len(held) < len(wanted):
            raise TrustError("another director has another authority")
        return held

    async def _ask_directors(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._ask_any(self._member.directors(), what, body)

    async def _ask_any(
        self, nodes: Iterable[str], what: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """The first answer that is good. Raises TrustError with what all of them said."""
        said: list[str] = []
        for node in sorted(nodes):
            if node == self._member.node:
                continue
            headers = [("Content-Type", "application/json")]
            question = Question("POST", f"{PREFIX}{what}", headers, json.dumps(body).encode())
            try:
                reply = await self._peers.ask(node, question, ANSWER_S)
            except NotAskedError as error:
                said.append(str(error))
                continue
            document: dict[str, Any] = json.loads(reply.body)
            if reply.status == 200:
                return document
            said.append(f"{node}: {document['error']['message']}")
        raise TrustError(f"no director did it: {'; '.join(said) or 'there is no other one'}")
