"""What only an etcd cluster has: members that die or fall silent, and certificates."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from daemon.store.etcd import EtcdStore
from daemon.store.interface import (
    Batch,
    CompactedError,
    Compare,
    Delete,
    Put,
    Store,
    StoreError,
)
from daemon.store.open import open_store
from tests.store.member import Member, free_ports

MISSES_S = 15.0  # a write may wait for an election, and be refused while there is no leader


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[Member]]:
    ports = free_ports(6)
    peers = ",".join(f"m{i}=http://127.0.0.1:{ports[3 + i]}" for i in range(3))
    members = [Member(f"m{i}", peers, (ports[i], ports[3 + i])) for i in range(3)]
    try:
        for member in members:
            member.ready()
        yield members
    finally:
        for member in members:
            member.end()


@pytest.fixture
def whole(cluster: list[Member]) -> Iterator[list[Member]]:
    """Every member is up again afterwards."""
    yield cluster
    for member in cluster:
        member.resume()
        if member.process.poll() is not None:
            member.restart()
        member.ready()


@pytest.fixture(scope="module")
def stingy() -> Iterator[Member]:
    """With the limits that etcd has unless told otherwise."""
    member = Member(limits=())
    yield member
    member.end()


async def opened(members: list[Member]) -> Store:
    return await EtcdStore.open([member.endpoint for member in members], None)


async def written(store: Store, key: str, value: bytes) -> int:
    """Until it is acknowledged; by compare, so that an unknown outcome does no harm."""
    deadline = time.monotonic() + MISSES_S
    while True:
        try:
            item = await store.get(key)
            if item is not None and item.value == value:
                return item.mod_revision
            now = item.mod_revision if item else 0
            answer = await store.commit([Compare(key, now)], [Put(key, value)])
            if answer.succeeded:
                return answer.revision
        except StoreError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def collect(source: AsyncIterator[Batch], into: list[Batch]) -> None:
    async for batch in source:
        into.append(batch)


async def until(ready: object, seconds: float = 10.0) -> None:
    assert callable(ready)
    async with asyncio.timeout(seconds):
        while not ready():
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_writes_and_watches_go_on_without_any_one_member(whole: list[Member]) -> None:
    """Also without the one that the store and its watch are connected to, and the leader."""
    async with await opened(whole) as store:
        start = (await store.list("/")).revision
        seen: list[Batch] = []
        watching = asyncio.create_task(collect(store.watch(["/kill/", "/other/"], start), seen))
        revisions = [await written(store, "/kill/first", b"")]
        for number, member in enumerate(whole):
            member.kill()
            for step in range(3):
                revisions.append(await written(store, f"/kill/{number}-{step}", b"%d" % step))
            member.restart()
            member.ready()
        await until(lambda: seen and seen[-1].revision >= revisions[-1])
        assert [batch.revision for batch in seen] == revisions
        watching.cancel()


@pytest.mark.asyncio
async def test_a_member_that_falls_silent_is_left(whole: list[Member]) -> None:
    """Its connections stay open: only time tells."""
    async with await opened(whole) as store:
        seen: list[Batch] = []
        start = (await store.list("/")).revision
        watching = asyncio.create_task(collect(store.watch(["/silent/"], start), seen))
        await written(store, "/silent/a", b"")
        await until(lambda: len(seen) == 1)
        whole[0].pause()
        revision = await written(store, "/silent/b", b"")
        await until(lambda: seen[-1].revision == revision, 15)
        watching.cancel()


@pytest.mark.asyncio
async def test_a_quiet_watch_leaves_a_silent_member(whole: list[Member]) -> None:
    async with await opened(whole) as watcher, await opened(whole[1:]) as writer:
        seen: list[Batch] = []
        start = (await watcher.list("/")).revision
        watching = asyncio.create_task(collect(watcher.watch(["/quiet/"], start), seen))
        await written(writer, "/quiet/a", b"")
        await until(lambda: len(seen) == 1)
        whole[0].pause()
        revision = await written(writer, "/quiet/b", b"")
        await until(lambda: seen[-1].revision == revision, 15)
        watching.cancel()


@pytest.mark.asyncio
async def test_a_lease_is_kept_alive_past_a_silent_member(whole: list[Member]) -> None:
    """In time: nodes renew a lease of ten seconds every three, and are given up without it."""
    async with await opened(whole) as store:
        lease = await store.grant(10)
        await store.commit([], [Put("/kept", b"", lease)])
        for member in whole:  # one of them is the one it is connected to
            member.pause()
            began = time.monotonic()
            await store.keep_alive(lease)
            assert time.monotonic() - began < 7
            member.resume()
            member.ready()
        assert await store.get("/kept") is not None


async def mirror(store: Store, prefix: str, into: dict[str, bytes], lists: list[int]) -> None:
    """As a node follows the store: list, watch, and list anew when history is gone."""
    while True:
        listing = await store.list(prefix)
        lists.append(listing.revision)
        into.clear()
        into.update({item.key: item.value for item in listing.items})
        try:
            async for batch in store.watch([prefix], listing.revision):
                for change in batch.changes:
                    if change.item is None:
                        into.pop(change.key, None)
                    else:
                        into[change.key] = change.item.value
        except CompactedError:
            continue


@pytest.mark.asyncio
async def test_history_compacted_while_cut_off_ends_in_a_fresh_listing(
    whole: list[Member],
) -> None:
    seen: dict[str, bytes] = {}
    lists: list[int] = []
    endpoints = [member.endpoint for member in whole]
    async with (
        await EtcdStore.open(endpoints[:1], None) as follower,
        await EtcdStore.open(endpoints[1:], None, keep_revisions=10) as writer,
    ):
        for number in range(5):
            await written(writer, f"/cut/{number}", b"old")
        following = asyncio.create_task(mirror(follower, "/cut/", seen, lists))
        await until(lambda: len(seen) == 5)
        whole[0].kill()
        last = await written(writer, "/cut/0", b"new")
        await writer.commit([], [Delete("/cut/1")])
        while last < lists[0] + 30:  # until it is compacted far beyond where the watch is
            last = await written(writer, f"/cut/{last}", b"")
        whole[0].restart()
        fresh = {item.key: item.value for item in (await writer.list("/cut/")).items}
        await until(lambda: seen == fresh, 20)
        assert len(lists) == 2 and "/cut/1" not in seen
        await written(writer, "/cut/after", b"")  # and it goes on from there
        await until(lambda: "/cut/after" in seen)
        following.cancel()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("writes", "flag"),
    [
        ([Put(f"/{number}", b"") for number in range(129)], "--max-txn-ops"),
        ([Put("/large", bytes(1_700_000))], "--max-request-bytes"),
        ([Put("/larger", bytes(3_000_000))], "--max-request-bytes"),
    ],
    ids=["operations", "bytes", "message"],
)
async def test_a_change_beyond_etcds_own_limits_is_refused_whole(
    stingy: Member, writes: list[Put | Delete], flag: str
) -> None:
    async with await opened([stingy]) as store:
        with pytest.raises(StoreError, match=f"too large.*{flag}"):
            await store.commit([], writes)
        assert (await store.list("")).items == ()


@pytest.mark.asyncio
async def test_a_minority_neither_reads_nor_writes(whole: list[Member]) -> None:
    for member in whole[1:]:
        member.pause()
    async with asyncio.timeout(40):
        with pytest.raises(StoreError):
            async with await opened(whole[:1]) as store:
                await store.commit([], [Put("/minority", b"")])
    for member in whole[1:]:
        member.resume()
    async with await opened(whole) as store:
        await written(store, "/majority", b"")


@pytest.mark.asyncio
async def test_no_member_at_all_is_said_at_once() -> None:
    (port,) = free_ports(1)
    began = time.monotonic()
    with pytest.raises(StoreError, match=f"member 127.0.0.1:{port} cannot be reached"):
        await open_store(f"etcd://127.0.0.1:{port}")
    assert time.monotonic() - began < 5


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "url",
    [
        "etcd://192.0.2.1:2379",
        "etcd://192.0.2.1:2379?ca=/x",
        "etcd://127.0.0.1",
        "etcd://127.0.0.1:2379/path",
    ],
)
async def test_clear_text_beyond_loopback_and_bad_urls_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match=r"etcd://HOST:PORT|over TLS"):
        await open_store(url)


# ---- certificates


class Authority:
    """A CA that signs what it is asked to, for this machine's loopback."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._write("ca", self._sign(self._name, self._key, 1, ca=True), self._key)

    def issue(self, name: str, days: int = 1) -> dict[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._write(name, self._sign(subject, key, days), key)
        paths = {"ca": "ca.pem", "cert": f"{name}.pem", "key": f"{name}.key"}
        return {kind: str(self.folder / file) for kind, file in paths.items()}

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, ca: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        pem = serialization.Encoding.PEM
        (self.folder / f"{name}.pem").write_bytes(cert.public_bytes(pem))
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / f"{name}.key").write_bytes(private)


@pytest.mark.asyncio
async def test_only_certificates_of_the_clusters_ca_get_in(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    server = ours.issue("server")
    member = Member(
        tls=[
            "--cert-file", server["cert"], "--key-file", server["key"],
            "--trusted-ca-file", server["ca"], "--client-cert-auth",
        ]
    )  # fmt: skip
    try:

        def url(files: dict[str, str]) -> str:
            query = "&".join(f"{kind}={path}" for kind, path in files.items())
            return f"etcd://{member.endpoint}?{query}"

        good = ours.issue("node")
        async with await open_store(url(good)) as store:
            assert (await store.commit([], [Put("/a", b"")])).succeeded
        foreign = theirs.issue("node")
        for files in (
            foreign,
            {**foreign, "ca": good["ca"]},
            {**good, "ca": foreign["ca"]},
            ours.issue("late", days=-1),
        ):
            with pytest.raises(StoreError, match="certificates"):
                await open_store(url(files))
        with pytest.raises(StoreError):
            await open_store(f"etcd://{member.endpoint}")
        with pytest.raises(StoreError, match="No such file"):
            await open_store(url({**good, "key": str(tmp_path / "none")}))
    finally:
        member.end()


class Stuck:
    """A call whose channel was closed before it was under way: nothing on it returns."""

    def __init__(self) -> None:
        self.cancelled = False

    async def write(self, message: object) -> None:
        await asyncio.Event().wait()

    def cancel(self) -> None:
        self.cancelled = True


@pytest.mark.asyncio
async def test_a_watch_whose_call_never_gets_under_way_begins_another(
    cluster: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await opened(cluster) as store:
        assert isinstance(store, EtcdStore)
        stuck, real, calls = Stuck(), store._client.stream, 0

        async def stream(method: str, answer: str) -> object:
            nonlocal calls
            calls += 1
            return stuck if calls == 1 else await real(method, answer)

        monkeypatch.setattr(store._client, "stream", stream)
        seen: list[Batch] = []
        start = (await store.list("/")).revision
        watching = asyncio.create_task(collect(store.watch(["/stuck/"], start), seen))
        revision = await written(store, "/stuck/a", b"")
        await until(lambda: seen and seen[-1].revision == revision, 8)
        assert stuck.cancelled
        watching.cancel()
