"""Follows the zone to another authority, step by step (`daemon/trust/succession.py`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from daemon.store.interface import CompactedError, StoreError
from daemon.trust.authority import Authority
from daemon.trust.certificate import Certificate, fingerprint
from daemon.trust.credentials import Member
from daemon.trust.succession import Phase, Succession, acknowledge, switch
from daemon.zone.keys import AUTHORITY

log = logging.getLogger(__name__)

RETRY_S = 2.0

#: From another director, the keys of these authorities.
Fetch = Callable[[Sequence[Certificate]], Awaitable[tuple[Authority, ...]]]


class Heir:
    def __init__(self, member: Member, fetch: Fetch) -> None:
        self.record: Succession | None = None  # as the store said last
        self._member = member
        self._fetch = fetch
        self._said: tuple[str, ...] = ()  # what `acknowledge` has written down

    async def follow(self) -> None:
        """Keep `record` as the store has it, forever."""
        while True:
            try:
                revision = await self.refresh()
                async for batch in self._member.store.watch([], revision, [AUTHORITY]):
                    for change in batch.changes:
                        self._take(change.item.value if change.item else None)
            except CompactedError:
                continue  # that history is gone: read it anew
            except StoreError as error:
                log.info("store", extra={"step": "authority", "error": str(error)})
            await asyncio.sleep(RETRY_S)

    async def refresh(self) -> int:
        """Read `record`, as of the revision that is returned. Raises StoreError."""
        listing = await self._member.store.list(AUTHORITY)
        found = {item.key: item.value for item in listing.items}
        self._take(found.get(AUTHORITY))
        return listing.revision

    def _take(self, value: bytes | None) -> None:
        try:
            self.record = Succession.model_validate_json(value) if value is not None else None
        except ValueError as error:  # of a newer plumd: this one goes on with what it has
            self.record = None
            log.error("not understood", extra={"step": "authority", "error": str(error)})

    async def look(self) -> None:
        """What is due now. Raises TrustError, PeerError, StoreError, OSError."""
        record, member = self.record, self._member
        if record is None:
            return
        if record.certificates != member.credentials.trust.authorities:
            await self._adopt(record)
        trust = member.credentials.trust
        said = tuple(map(fingerprint, (trust.certificate, *trust.authorities)))
        if said != self._said and await acknowledge(member):
            self._said = said
        if record.phase is Phase.SPREAD and member.is_director and await switch(member.store):
            log.info("the new authority signs from now on", extra={"step": "authority"})

    async def _adopt(self, record: Succession) -> None:
        """Trust what the record names. A director has their keys first: it is asked to sign."""
        credentials = self._member.credentials
        wanted = record.believed(credentials.trust.authorities)
        held: tuple[Authority, ...] = ()
        if self._member.is_director:
            held = credentials.folder.held(wanted)
            if len(held) < len(wanted):
                held = await self._fetch(wanted)
        credentials.folder.replace_authorities(wanted, held)
        credentials.reload()
        log.info(
            "trusts the zone's authority anew",
            extra={"step": "authority", "object": ", ".join(map(fingerprint, wanted))},
        )
