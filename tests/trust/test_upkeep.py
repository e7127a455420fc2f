"""A director that keeps its own certificate fresh; a real store and folder, no sockets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_asyncio

from daemon.api.client import Peers
from daemon.api.upkeep import Upkeep
from daemon.store.open import open_store
from daemon.trust.authority import DAY_S
from daemon.trust.certificate import fingerprint
from daemon.trust.credentials import Credentials, Member
from daemon.trust.errors import TrustError
from daemon.trust.folder import TrustFolder
from daemon.trust.founding import found
from daemon.zone.read import read_snapshot

VTEP = ip_address("192.0.2.1")


class Kept:
    """A founded zone of one node, and its upkeep by a clock that is set."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.now = time.time()
        peers = Peers(member.store, member)
        self.upkeep = Upkeep(member, peers, clock=lambda: self.now)

    @property
    def reloads(self) -> int:
        return self.member.credentials.generation

    @property
    def shown(self) -> str:
        return fingerprint(self.member.credentials.trust.certificate)


@pytest_asyncio.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    url = f"sqlite://{tmp_path}/zone.db"
    folder = TrustFolder(tmp_path / "trust")
    async with await open_store(url) as store:
        now = time.time()
        await found(store, url, folder, "n1", VTEP, None, actor="root", now=now)
        nodes = (await read_snapshot(store)).nodes
        yield Kept(Member(Credentials(folder), store, lambda: nodes))


async def test_a_certificate_is_renewed_when_two_thirds_of_its_life_are_over(kept: Kept) -> None:
    first = kept.shown
    kept.now += 59 * DAY_S
    await kept.upkeep.look()
    assert (kept.shown, kept.reloads) == (first, 0)
    kept.now += 2 * DAY_S
    await kept.upkeep.look()
    assert kept.shown != first
    assert kept.reloads == 1
    record = await kept.member.roster.record("n1")
    assert record is not None
    assert (record.fingerprint, record.previous) == (kept.shown, "")
    assert await kept.member.roster.refusal("n1", first)
    await kept.upkeep.look()
    assert kept.reloads == 1


async def test_death_between_signing_and_writing_locks_nobody_out(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kept.shown
    kept.member.rotation.set()

    def dies(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(TrustFolder, "replace_certificate", dies)
        with pytest.raises(OSError, match="full"):
            await kept.upkeep.look()
    assert not await kept.member.roster.refusal("n1", first)
    kept.member.rotation.clear()  # the next plumd knows nothing of it
    await Upkeep(kept.member, Peers(kept.member.store, kept.member)).look()
    assert kept.shown != first
    assert await kept.member.roster.refusal("n1", first)


async def test_a_zone_is_made_once_and_an_interrupted_making_is_completed(
    kept: Kept, tmp_path: Path
) -> None:
    store, folder = kept.member.store, kept.member.credentials.folder
    trust = kept.member.credentials.trust
    url = trust.membership.store
    with pytest.raises(TrustError, match="in a zone already"):
        await found(store, url, folder, "n1", VTEP, None, actor="root", now=kept.now)
    other = TrustFolder(tmp_path / "other")
    with pytest.raises(TrustError, match=f"zone {trust.zone_id} already"):
        await found(store, url, other, "n2", VTEP, None, actor="root", now=kept.now)
    assert not other.exists()
    # As a crash between the store and the folder's name leaves it.
    folder.path.rename(folder.path.with_name("trust.new"))
    done = await found(store, url, folder, "n1", VTEP, None, actor="root", now=kept.now)
    assert done.certificate == trust.certificate
    assert folder.exists()
