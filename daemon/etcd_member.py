"""The members of the zone's own etcd, from a machine of the zone.

    python -m daemon.etcd_member add    --state-dir D
    python -m daemon.etcd_member remove --state-dir D --node N
    python -m daemon.etcd_member list   --state-dir D

`plumctl etcd` calls it. It says what is so now as JSON on stdout; what fails is said on
stderr as the API says it, one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from daemon.etcd_unit import LocalMember, peer_url
from daemon.store.etcd_client import EtcdClient, Tls
from daemon.store.etcd_cluster import (
    ClusterMember,
    add_learner,
    members,
    promote,
    remove,
    status,
)
from daemon.store.interface import StoreError
from daemon.store.open import relies_on_zone
from daemon.trust.errors import TrustError
from daemon.trust.folder import Trust, TrustFolder
from daemon.zone.errors import CONFLICT, NOT_FOUND, ZoneError

PATIENCE_S = 60.0
RETRY_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="plum-etcd-member", description=__doc__)
    parser.add_argument("what", choices=["add", "remove", "list"])
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--node")
    given = parser.parse_args(arguments)
    try:
        answer = asyncio.run(_carry_out(given))
    except ZoneError as error:
        return _failed(error)
    except TrustError as error:
        return _failed(ZoneError(error.message, error.hint))
    except StoreError as error:
        return _failed(ZoneError(str(error), "plumctl etcd list shows who answers"))
    except OSError as error:
        return _failed(ZoneError(str(error), "it needs root"))
    print(json.dumps(answer))
    return 0


async def _carry_out(given: argparse.Namespace) -> list[dict[str, Any]]:
    zone = Zone(given.state_dir)
    if given.what == "add":
        await zone.add()
    elif given.what == "remove":
        await zone.remove(given.node)
    return await zone.list()


class Zone:
    def __init__(self, state_dir: Path) -> None:
        """Raises TrustError and ZoneError when this machine is in no zone with an own etcd."""
        self._folder = TrustFolder(state_dir / "trust")
        if not self._folder.exists():
            raise ZoneError("this machine is in no zone", "plumctl zone init, or plumctl node join")
        self._trust: Trust = self._folder.read()
        self._local = LocalMember(state_dir)
        store = self._trust.membership.store
        if not relies_on_zone(store):
            kept = store.partition("?")[0]
            hint = "plumctl zone init --etcd makes a zone with an etcd of its own"
            raise ZoneError(f"the zone is kept at {kept}, which is not Plum's to change", hint)
        self._endpoints = urlsplit(store).netloc.split(",")

    async def add(self) -> None:
        """This machine's member: let in without a vote, started, given its vote. What was begun
        and broke off goes on."""
        node, peers = self._trust.node, peer_url(self._trust.membership.vtep)
        self._local.check_program()
        async with self._client(self._endpoints) as client:
            own = _of(peers, await members(client))
            if own is not None and own.serves:
                message = f"{node} runs a member of the zone's etcd already"
                raise ZoneError(message, "plumctl etcd list", code=CONFLICT)
            if own is None:
                self._local.forget()  # what is left here of an earlier one
                await _insisting(lambda: _let_in(client, peers))
            known = await members(client)
            own = _of(peers, known)
            assert own is not None  # let in above
            cluster = {member.name or node: member.peers[0] for member in known}
            self._local.prepare(
                node, self._trust.membership.vtep, self._folder.path, cluster, new=False
            )
            self._local.start()
            await _insisting(lambda: promote(client, own.id))

    async def remove(self, node: str) -> None:
        """It may be dead; the others decide."""
        async with self._client(self._endpoints) as client:
            known = await members(client)
            gone = next((member for member in known if member.name == node), None)
            if gone is None:
                names = ", ".join(sorted(member.name for member in known))
                message = f"{node} runs no member of the zone's etcd"
                raise ZoneError(message, f"members: {names}", code=NOT_FOUND)
            if len(known) == 1:
                message = f"{node} runs the only member: with it the zone would go"
                raise ZoneError(message, "plumctl etcd add on another node first", code=CONFLICT)
            await _insisting(lambda: _take_out(client, gone))
        self._endpoints = [member.endpoint for member in known if member.serves and member != gone]
        if node == self._trust.node and self._local.exists():
            self._local.retire()

    async def list(self) -> list[dict[str, Any]]:
        async with self._client(self._endpoints) as client:
            known = await members(client)
        rows = await asyncio.gather(*map(self._row, known))
        return sorted(rows, key=lambda row: str(row["name"]))

    async def _row(self, member: ClusterMember) -> dict[str, Any]:
        """One that does not answer is named all the same."""
        row: dict[str, Any] = {"name": member.name, "endpoint": member.endpoint}
        row |= {"state": "does not answer", "version": None, "db_bytes": None}
        if not member.endpoint:
            return row | {"state": "not started yet"}
        try:
            async with self._client([member.endpoint]) as client:
                said = await status(client)
        except StoreError:
            return row
        state = "leads" if said.leads else "follows"
        state = "catches up" if member.learner else state
        return row | {"state": state, "version": said.version, "db_bytes": said.db_bytes}

    @asynccontextmanager
    async def _client(self, endpoints: Sequence[str]) -> AsyncIterator[EtcdClient]:
        tls = Tls(self._folder.ca, self._folder.certificate, self._folder.key)
        client = EtcdClient(endpoints, tls)
        try:
            yield client
        finally:
            await client.close()


def _of(peers: str, known: Sequence[ClusterMember]) -> ClusterMember | None:
    return next((member for member in known if peers in member.peers), None)


async def _let_in(client: EtcdClient, peers: str) -> None:
    if _of(peers, await members(client)) is None:
        await add_learner(client, [peers])


async def _take_out(client: EtcdClient, gone: ClusterMember) -> None:
    if gone.id in {member.id for member in await members(client)}:
        await remove(client, gone.id)


async def _insisting(call: Callable[[], Awaitable[None]]) -> None:
    """Until etcd does it: a member must have its data before it votes, and all must have been
    connected for seconds before another one comes. Raises ZoneError."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await call()
        except StoreError as error:
            if time.monotonic() > deadline:
                hint = "run the same command again; plumctl etcd list shows who answers"
                message = f"no further in {PATIENCE_S:g} s: {error}"
                raise ZoneError(message, hint, code=CONFLICT) from error
        await asyncio.sleep(RETRY_S)


def _failed(error: ZoneError) -> int:
    print(json.dumps(error.document() | {"status": error.code}), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
