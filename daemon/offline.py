"""Backup, restore and move straight on the store, for when no plumd runs.

    python -m daemon.offline backup  --store URL > FILE
    python -m daemon.offline restore --store URL [--replace] [--other-zone] < FILE
    python -m daemon.offline migrate --store URL --to URL

`plumctl zone backup|restore --store URL` calls it. What fails is said on stderr
as the API says it, one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pwd
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote, urlsplit

from daemon.model import backup as file
from daemon.options import program_version
from daemon.store.interface import Store, StoreError
from daemon.store.open import open_store
from daemon.zone import backup as zone
from daemon.zone.errors import NOT_FOUND, ZoneError
from daemon.zone.migrate import migrate


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="plum-offline", description=__doc__)
    parser.add_argument("what", choices=["backup", "restore", "migrate"])
    parser.add_argument("--store", required=True)
    parser.add_argument("--to")
    parser.add_argument("--replace", action="store_true")
    parser.add_argument("--other-zone", action="store_true")
    given = parser.parse_args(arguments)
    try:
        if given.what == "backup":
            asyncio.run(_backup(given.store))
        elif given.what == "migrate":
            asyncio.run(_migrate(given.store, given.to))
        else:
            _, items = file.read(sys.stdin.buffer.read())
            asyncio.run(_restore(given.store, items, given.replace, given.other_zone))
    except ZoneError as error:
        return _failed(error)
    except file.BackupError as error:
        return _failed(ZoneError(error.message, error.hint))
    except StoreError as error:
        return _failed(ZoneError(str(error), "look at the store, then try again"))
    return 0


async def _open_existing(url: str) -> Store:
    """For what only reads: a mistyped path makes no new, empty store."""
    path = Path(unquote(urlsplit(url).path))
    if url.startswith("sqlite:") and not path.is_file():
        raise ZoneError(f"there is no store {path}", "check the URL", code=NOT_FOUND)
    return await open_store(url)


async def _backup(url: str) -> None:
    async with await _open_existing(url) as store:
        header, items = await zone.take(store, program_version())
    for line in file.write(header, ((item.key, item.value) for item in items)):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


async def _migrate(url: str, to: str) -> None:
    async with await _open_existing(url) as source, await open_store(to) as target:
        restored = await migrate(source, target, to.partition("?")[0], actor=_actor())
    print(json.dumps(asdict(restored)))


async def _restore(url: str, items: dict[str, bytes], replace: bool, other_zone: bool) -> None:
    async with await open_store(url) as store:
        restored = await zone.restore(
            store, items, actor=_actor(), replace=replace, other_zone=other_zone
        )
    print(json.dumps(asdict(restored)))


def _actor() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _failed(error: ZoneError) -> int:
    print(json.dumps(error.document() | {"status": error.code}), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
