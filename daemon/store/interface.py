"""The store: the only state nodes share. Two implementations, one contract.

Keys are `/`-separated text, values are bytes. Every committed transaction
that writes gets one revision, larger than all before. Modelled on etcd v3, so
that the etcd implementation is thin and SQLite's has something exact to match.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class Item:
    key: str
    value: bytes
    create_revision: int  # revision at which the key came into being
    mod_revision: int  # revision of its last write; what a compare uses
    lease: int = 0  # 0: lives until deleted


@dataclass(frozen=True, slots=True)
class Compare:
    """Holds if the key's mod_revision is exactly this. 0: the key is absent."""

    key: str
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


@dataclass(frozen=True, slots=True)
class Committed:
    """Answer of a transaction. If a compare failed nothing was written."""

    succeeded: bool
    revision: int  # of the store after it


@dataclass(frozen=True, slots=True)
class Listing:
    items: tuple[Item, ...]  # by key
    revision: int  # the one revision all items were read at


@dataclass(frozen=True, slots=True)
class Change:
    """One key changed. `item` is None when it was deleted."""

    key: str
    item: Item | None
    revision: int


@dataclass(frozen=True, slots=True)
class Batch:
    """All changes of one revision that a watch is concerned with, by key."""

    changes: tuple[Change, ...]
    revision: int


class StoreError(Exception):
    """The store did not answer or refused; nothing is known of the write unless said."""


class UnreachableError(StoreError):
    """Nobody answered: nothing was written. It may answer later."""


class CompactedError(StoreError):
    """The revision asked for is no longer kept: list again and watch from there."""


class LeaseExpiredError(StoreError):
    """The lease does not exist any more."""


class Store(Protocol):
    async def get(self, key: str) -> Item | None: ...

    async def list(self, prefix: str) -> Listing: ...

    async def commit(
        self, compares: Sequence[Compare], writes: Sequence[Put | Delete]
    ) -> Committed:
        """All compares hold and all writes happen, or nothing does.

        Deleting what is absent changes nothing; a transaction that changes nothing takes
        no revision. A key may be written once. A put's lease must exist (LeaseExpiredError).
        """
        ...

    def watch(
        self, prefixes: Sequence[str], from_revision: int, keys: Collection[str] = ()
    ) -> AsyncIterator[Batch]:
        """Every batch after `from_revision` (exclusive), in order, none twice.

        Of keys under `prefixes`, and of exactly `keys`; nothing else is sent.
        Raises CompactedError when that history is gone.
        """
        ...

    async def grant(self, ttl_s: float) -> int:
        """A new lease; its keys vanish when it is not kept alive."""
        ...

    async def keep_alive(self, lease: int) -> None:
        """Start its time anew, or LeaseExpiredError."""
        ...

    async def revoke(self, lease: int) -> None:
        """End it and delete its keys in one revision, or LeaseExpiredError."""
        ...

    async def follow_members(self) -> tuple[str, ...]:
        """Ask the cluster who its members are, and use all of them from now on.

        HOST:PORT of each; none: it is a file.
        """
        ...

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def check_writes(writes: Sequence[Put | Delete]) -> None:
    """Raises StoreError if a key is empty or written twice."""
    seen = set()
    for write in writes:
        if not write.key:
            raise StoreError("a key cannot be empty")
        if write.key in seen:
            raise StoreError(f"key {write.key!r} is written twice in one transaction")
        seen.add(write.key)
