"""Another authority for the zone: every step only when all can follow; a real store, no sockets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_asyncio

from daemon.api import upkeep
from daemon.api.client import Peers
from daemon.api.upkeep import Upkeep
from daemon.store.interface import Put, Store
from daemon.store.open import open_store, relies_on_zone
from daemon.trust import admission, succession
from daemon.trust.authority import Authority
from daemon.trust.certificate import fingerprint, new_key, pem_of, request, vouched
from daemon.trust.credentials import Credentials, Member
from daemon.trust.errors import TrustError
from daemon.trust.folder import TrustFolder
from daemon.trust.founding import found
from daemon.trust.records import CertificateRecord, certificate_key
from daemon.trust.succession import Phase, Succession, lagging, read_succession
from daemon.zone import backup, migrate
from daemon.zone.errors import ZoneError
from daemon.zone.keys import AUTHORITY
from daemon.zone.read import read_snapshot

NOW = time.time()
ZONE = "00000000-0000-0000-0000-000000000000"


class Director:
    """n1 of a zone it founded; plumd's own upkeep, look by look."""

    def __init__(self, member: Member) -> None:
        self.member, self.store = member, member.store
        self.start()

    def start(self) -> None:
        """As a plumd that knows nothing but the disk and the store."""
        self.member.credentials.reload()
        self.upkeep = Upkeep(self.member, Peers(self.store, self.member))

    @property
    def trusts(self) -> list[str]:
        return [fingerprint(item) for item in self.member.credentials.trust.authorities]

    async def look(self, times: int = 1) -> Phase | None:
        for _ in range(times):
            await self.upkeep.heir.refresh()
            await self.upkeep.look()
        record = (await read_succession(self.store)).record
        return record.phase if record else None

    async def begin(self) -> str:
        record = await succession.begin(self.member, by="root", now=time.time())
        return fingerprint(record.newer)

    async def add(self, node: str, *trusts: str, authority: str) -> None:
        """A node that says so of itself."""
        said = CertificateRecord(
            serial="1", fingerprint=node, not_after="", authority=authority, trusts=trusts
        )
        await self.store.commit([], [Put(certificate_key(node), said.model_dump_json().encode())])


@pytest_asyncio.fixture
async def director(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Director]:
    monkeypatch.setattr(upkeep, "NODE_SHARE_S", 0.0)
    url = f"sqlite://{tmp_path}/zone.db"
    folder = TrustFolder(tmp_path / "trust")
    async with await open_store(url) as store:
        vtep = ip_address("192.0.2.1")
        await found(store, url, folder, "n1", vtep, None, actor="root", now=NOW)
        nodes = (await read_snapshot(store)).nodes
        yield Director(Member(Credentials(folder), store, lambda: nodes))


async def test_a_zone_of_one_goes_from_the_old_to_the_new(director: Director) -> None:
    (old,) = director.trusts
    new = await director.begin()
    assert director.trusts == [old]
    assert await director.look() is Phase.SWITCH  # it trusts both, and nobody else is waited for
    assert director.trusts == [new, old]
    await director.look(3)
    trust = director.member.credentials.trust
    assert director.trusts == [old, new]
    assert fingerprint(trust.issuer) == new
    assert (await succession.finish(director.store)).phase is Phase.SETTLED
    await director.look()
    assert director.trusts == [new]
    assert [fingerprint(item.certificate) for item in trust.held] == [old, new]
    held = director.member.credentials.trust.held
    assert [fingerprint(item.certificate) for item in held] == [new]
    assert director.member.credentials.folder.ca_key.read_bytes().count(b"BEGIN") == 1


async def test_nobody_switches_before_all_trust_and_nobody_finishes_before_all_have(
    director: Director,
) -> None:
    (old,) = director.trusts
    await director.add("n2", old, authority=old)
    new = await director.begin()
    assert await director.look(2) is Phase.SPREAD
    record = (await read_succession(director.store)).record
    assert record is not None
    assert await lagging(director.store, record) == ("n2",)
    with pytest.raises(ZoneError, match="does not sign yet"):
        await succession.finish(director.store)
    await director.add("n2", new, old, authority=old)
    assert await director.look(4) is Phase.SWITCH
    with pytest.raises(ZoneError, match="n2: no certificate of the new"):
        await succession.finish(director.store)
    with pytest.raises(ZoneError, match="signs already"):
        await succession.abort(director.store)
    await director.add("n2", old, new, authority=new)
    assert (await succession.finish(director.store)).phase is Phase.SETTLED


async def test_a_new_one_that_has_signed_nothing_can_be_forgotten(director: Director) -> None:
    (old,) = director.trusts
    await director.add("n2", old, authority=old)
    new = await director.begin()
    await director.look()
    with pytest.raises(ZoneError, match="is being replaced since"):
        await director.begin()
    await succession.abort(director.store)
    await director.look()
    assert director.trusts == [old]
    assert await director.begin() != new


async def test_what_an_administrator_holds_back_waits_for_him(director: Director) -> None:
    await succession.begin(director.member, by="root", now=time.time(), hold=True)
    assert await director.look(2) is Phase.SPREAD
    await succession.go_on(director.store)
    assert await director.look() is Phase.SWITCH


async def test_no_certificate_of_the_old_one_is_issued_after_the_switch(
    director: Director, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever signs compares the record, also when the switch comes between."""
    await director.begin()
    await director.look()
    wanted = request(new_key(), director.member.zone_id, "n1").decode()
    shown = fingerprint(director.member.credentials.trust.certificate)
    with pytest.raises(TrustError, match="not followed"):  # this director still signs with the old
        await admission.renew(director.member, "n1", shown, wanted, time.time())
    await director.look()
    await director.look(3)
    real_office = succession.office

    async def overtaken(member: Member) -> succession.Office:
        office = await real_office(member)
        await succession.finish(director.store)
        return office

    monkeypatch.setattr(admission, "office", overtaken)
    shown = fingerprint(director.member.credentials.trust.certificate)
    with pytest.raises(TrustError, match="changed meanwhile"):
        await admission.renew(director.member, "n1", shown, wanted, time.time())


@pytest.mark.parametrize("step", ["replace_authorities", "reload", "commit"])
async def test_death_at_any_step_is_taken_up_again(
    director: Director, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    (old,) = director.trusts

    class Died(Exception):
        pass

    def dies(*_: object) -> None:
        raise Died

    where: dict[str, object] = {
        "replace_authorities": TrustFolder,
        "reload": Credentials,
        "commit": type(director.store),
    }

    async def began() -> None:
        await director.begin()
        await director.look()

    async def finished() -> None:
        await succession.finish(director.store)
        await director.look()

    with monkeypatch.context() as patched:
        patched.setattr(where[step], step, dies)
        with pytest.raises(Died):
            await began()
    director.start()
    if await director.look() is None:  # the zone was told of nothing
        await director.begin()
    assert await director.look(4) is Phase.SWITCH
    new = director.trusts[-1]
    assert director.trusts == [old, new]
    with monkeypatch.context() as patched:
        patched.setattr(where[step], step, dies)
        with pytest.raises(Died):
            await finished()
    director.start()
    if await director.look() is Phase.SWITCH:  # nor this time
        await succession.finish(director.store)
    await director.look()
    assert director.trusts == [new]


async def test_who_has_the_store_but_no_key_brings_in_no_authority(director: Director) -> None:
    (old,) = director.trusts
    trust = director.member.credentials.trust
    assert trust.authority is not None
    foreign = Authority.create(director.member.zone_id, NOW)
    # A node's key has a certificate of the zone's authority too: it makes no authority of it.
    issued = trust.authority.issue(
        foreign.key.public_key(), director.member.zone_id, "n1", director.member.vtep, NOW
    )
    for link in ("", pem_of(foreign.certificate).decode(), pem_of(issued).decode()):
        record = Succession(
            phase=Phase.SPREAD,
            authorities=pem_of(foreign.certificate, trust.authorities[0]).decode(),
            link=link,
            since="",
            by="mallory",
        )
        await director.store.commit([], [Put(AUTHORITY, record.model_dump_json().encode())])
        with pytest.raises(TrustError, match="nobody vouches"):
            await director.look()
        assert director.trusts == [old]


def test_one_authority_vouches_for_another_and_for_no_third() -> None:
    older, newer, third = (Authority.create(ZONE, NOW) for _ in range(3))
    link = older.endorse(newer.certificate, NOW)
    wanted = (newer.certificate, third.certificate)
    assert vouched(wanted, [older.certificate], link) == (newer.certificate,)
    assert vouched(wanted, [third.certificate], link) == (third.certificate,)


async def test_it_moves_with_the_zone_and_no_restore_brings_an_older_one(
    director: Director, tmp_path: Path
) -> None:
    before = dict(await _taken(director.store))
    await director.begin()
    await director.look(4)
    now = await director.store.get(AUTHORITY)
    assert now is not None
    await backup.restore(director.store, before, actor="root", replace=True)
    item = await director.store.get(AUTHORITY)
    assert item is not None and item.value == now.value
    async with await open_store(f"sqlite://{tmp_path}/other.db") as other:
        await migrate.migrate(director.store, other, "other", actor="root")
        moved = await other.get(AUTHORITY)
    assert moved is not None and moved.value == now.value


async def _taken(store: Store) -> dict[str, bytes]:
    return {item.key: item.value for item in (await backup.take(store, "1"))[1]}


@pytest.mark.parametrize(
    ("url", "relies"),
    [
        ("sqlite:///var/lib/plum/store.db", False),
        ("etcd://127.0.0.1:2379", False),
        ("etcd://[::1]:2379", False),
        ("etcd://192.0.2.1:2379?ca=a&cert=b&key=c", False),
        ("etcd://192.0.2.1:2379,127.0.0.1:2379", True),
    ],
)
def test_an_etcd_without_files_of_its_own_relies_on_the_zone(url: str, relies: bool) -> None:
    assert relies_on_zone(url) is relies
