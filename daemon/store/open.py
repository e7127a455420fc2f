"""From a URL in the configuration to a store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from daemon.store.interface import Store, StoreError
from daemon.store.sqlite import SqliteStore


async def open_store(url: str) -> Store:
    """Open `sqlite:///absolute/path`, creating the file if there is none.

    Raises StoreError with what to do about it.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        raise StoreError(f"store {url!r}: unknown kind of store: use sqlite:///absolute/path")
    if parts.netloc or not parts.path.strip("/") or parts.query or parts.fragment:
        raise StoreError(f"store {url!r}: write the path as sqlite:///absolute/path")
    return await SqliteStore.open(Path(unquote(parts.path)))
