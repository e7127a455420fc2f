"""Real daemons: who gets in, who does not, and that nobody is let in by another door."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import re
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemon.store.interface import Put
from daemon.store.open import open_store
from daemon.trust.authority import DAY_S, Authority
from daemon.trust.certificate import new_key, read_der, request
from daemon.trust.contexts import client_context, newcomer_context
from daemon.trust.folder import Trust, TrustFolder
from daemon.trust.invitation import JoinRecord, read_invitation
from daemon.zone.keys import ALIVE, LIVENESS, MESH
from daemon.zone.keys import ROOT as STORE
from plumctl.errors import PlumError
from plumctl.sandbox import fabric
from tests.trust.world import ROOT, World, until

pytestmark = pytest.mark.privileged

#: What daemons say of themselves and each other at any time.
OF_THEMSELVES = (f"{STORE}status/", ALIVE, MESH, LIVENESS, f"{STORE}leader/")


def context(world: World, node: str = "n3") -> ssl.SSLContext:
    """What a node shows to others."""
    return client_context(world.folder(node))


def stranger(world: World) -> ssl.SSLContext:
    """Trusts the zone, shows nothing."""
    return newcomer_context(world.folder("n1").read().authorities)


def forged(world: World, path: Path, authority: Authority, now: float, node: str = "n3") -> Trust:
    """A folder with another certificate in it; it still trusts the zone's directors."""
    real = world.folder("n3").read()
    key = new_key()
    certificate = authority.issue(key.public_key(), real.zone_id, node, real.membership.vtep, now)
    membership = real.membership.model_copy(update={"node": node})
    trust = Trust(membership, real.authorities, certificate, key, None)
    TrustFolder(path).write(trust)
    return trust


def zone_authority(world: World) -> Authority:
    authority = world.folder("n1").read().authority
    assert authority is not None
    return authority


def state(world: World) -> dict[str, bytes]:
    """What decides who is in the zone, and its objects."""

    async def read() -> dict[str, bytes]:
        async with await open_store(world.store) as store:
            items = (await store.list("/plum/")).items
        return {i.key: i.value for i in items if not i.key.startswith(OF_THEMSELVES)}

    return asyncio.run(read())


# What is listened on


def test_the_zone_is_what_was_made(world: World) -> None:
    shown = world.client("n3").zone()
    assert {node["name"]: node["roles"] for node in shown["nodes"]} == {
        "n1": ["director", "edge"],
        "n2": ["director", "edge"],
        "n3": ["edge"],
    }
    assert shown["id"] == world.folder("n2").read().zone_id
    assert all(node["certificate_expires"] for node in shown["nodes"])


def test_the_api_listens_on_the_vtep_and_on_nothing_else(world: World) -> None:
    for node in ("n1", "n2", "n3"):
        assert world.sockets(node) == [f"{world.address(node)}:4788"]
        with pytest.raises(ConnectionRefusedError):
            world.dial(node, node, "127.0.0.1")


def test_clear_text_gets_no_answer(world: World) -> None:
    with world.dial("n3", "n1") as plain:
        plain.sendall(b"GET /v1/status HTTP/1.1\r\nHost: n1\r\n\r\n")
        answer = b""
        while part := _received(plain):
            answer += part
    assert b"HTTP" not in answer
    assert not answer or answer[0] == 21  # a TLS alert


def _received(plain: object) -> bytes:
    try:
        return plain.recv(4096)  # type: ignore[attr-defined, no-any-return]
    except ConnectionResetError:
        return b""


def test_tls_1_2_is_refused(world: World) -> None:
    old = context(world)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        world.ask("n1", "GET", "/v1/status", context=old)
    assert world.ask("n1", "GET", "/v1/status", context=context(world)).status == 200


# Certificates


def test_a_director_lets_strangers_in_only_with_a_token(world: World) -> None:
    nobody = stranger(world)
    assert world.ask("n1", "GET", "/v1/status", context=nobody).status == 401
    bearer = f"Bearer {world.token}"
    assert world.ask("n1", "GET", "/v1/status", context=nobody, Authorization=bearer).status == 200
    wrong = bearer[:-4] + ("0000" if not bearer.endswith("0000") else "1111")
    assert world.ask("n1", "GET", "/v1/status", context=nobody, Authorization=wrong).status == 401


def test_who_is_no_director_wants_a_certificate_in_any_case(world: World) -> None:
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        world.ask(
            "n3",
            "GET",
            "/v1/status",
            context=stranger(world),
            source="n1",
            Authorization=f"Bearer {world.token}",
        )


@pytest.mark.parametrize("which", ["foreign", "expired"])
def test_foreign_and_expired_certificates_are_refused(
    world: World, tmp_path: Path, which: str
) -> None:
    now, authority = time.time(), zone_authority(world)
    if which == "foreign":
        authority = Authority.create(world.folder("n1").read().zone_id, now)
    else:
        now -= 100 * DAY_S
    forged(world, tmp_path / "trust", authority, now)
    shown = client_context(TrustFolder(tmp_path / "trust"))
    for to in ("n1", "n3"):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            world.ask(to, "GET", "/v1/status", context=shown, source="n2")


def test_only_the_certificate_on_record_is_accepted_for_a_node(
    world: World, tmp_path: Path
) -> None:
    """Signed by the zone's own authority, valid, and yet not what was issued to n3."""
    forged(world, tmp_path / "trust", zone_authority(world), time.time())
    shown = client_context(TrustFolder(tmp_path / "trust"))
    answer = world.ask("n1", "GET", "/v1/status", context=shown)
    assert answer.status == 401
    assert "not the certificate of n3" in answer.body["error"]["message"]
    line = world.audited("n1")[-1]
    assert (line["outcome"], line["user"]) == ("refused", "n3")
    forged(world, tmp_path / "other", zone_authority(world), time.time(), node="n9")
    shown = client_context(TrustFolder(tmp_path / "other"))
    assert world.ask("n1", "GET", "/v1/status", context=shown).status == 401


def test_a_node_does_not_get_a_certificate_of_another(world: World) -> None:
    before = state(world)
    zone_id = world.folder("n3").read().zone_id
    for name, zone in (("n2", zone_id), ("n3", "00000000-0000-0000-0000-000000000000")):
        body = {"request": request(new_key(), zone, name).decode()}
        answer = world.ask("n1", "POST", "/v1/trust/renew", body, context=context(world))
        assert answer.status == 403, answer
        assert "own name only" in answer.body["error"]["hint"]
        line = world.audited("n1")[-1]
        assert (line["outcome"], line["user"], line["operation"]) == ("refused", "n3", "renew")
    assert state(world) == before


def test_a_node_changes_nothing_by_its_own_word(world: World) -> None:
    before = state(world)
    tenant = {"objects": [{"kind": "tenant", "name": "acme"}]}
    own = context(world)
    assert world.ask("n1", "POST", "/v1/apply", tenant, context=own).status == 403
    assert world.ask("n1", "POST", "/v1/joins", {"node": "n8"}, context=own).status == 403
    assert world.ask("n1", "POST", "/v1/trust/signing", context=own).status == 403
    assert world.ask("n2", "POST", "/v1/trust/rotate", context=own).status == 403
    nobody = stranger(world)
    for route in ("renew", "confirm", "signing", "rotate"):
        body = {"request": ""} if route == "renew" else None
        answer = world.ask("n1", "POST", f"/v1/trust/{route}", body, context=nobody)
        assert answer.status == 403, (route, answer)
    assert state(world) == before


def test_a_director_has_the_authoritys_key_and_others_have_not(world: World) -> None:
    until(lambda: world.folder("n2").ca_key.exists())
    assert world.folder("n2").read().authority is not None
    assert not world.folder("n3").ca_key.exists()


# Joining


def test_a_token_is_good_once_and_for_what_it_says(world: World) -> None:
    """n4 is a machine beside the zone; it never gets in."""
    token = world.invite("n4")
    before = state(world)
    assert token not in json.dumps([str(value) for value in before.values()])
    invitation = read_invitation(token)

    taken = world.join("n4", token, "--vtep", world.address("n2"))
    assert taken.code == 1, taken
    assert "192.0.2.2 is the VTEP of node n2" in taken.err
    assert "needs a VTEP" in world.refused("n4", token)

    # Another zone's directors could say anything: believed is who shows the right authority.
    other = invitation.model_copy(update={"authority": "00" * 32}).text()
    assert "another authority than the token names" in world.refused("n4", other, "192.0.2.4")
    wrong = invitation.model_copy(update={"secret": "00" * 32}).text()
    refused = world.refused("n4", wrong, "192.0.2.4")
    assert "not valid" in refused
    assert "plumctl node token" in refused
    line = [line for line in world.audited("n1") if line["operation"] == "join"][-1]
    assert line["outcome"] == "refused"
    assert "not all of it" in world.refused("n4", token[: len(token) // 2])
    assert state(world) == before
    assert not world.folder("n4").path.exists()


def test_name_in_use_and_replayed_and_expired_tokens_are_refused(world: World) -> None:
    with pytest.raises(PlumError, match="n2 is a node of this zone already"):
        world.invite("n2")
    token = world.invite("n5", vtep="192.0.2.5", life_s=120)
    world.let_in("n4", token)  # the machine is n4's; its name is what the token says
    assert world.folder("n4").read().node == "n5"
    assert "in a zone already" in world.refused("n4", token)
    world.folder("n4").path.rename(world.state_dir("n4") / "left")
    before = state(world)
    assert "was used" in world.refused("n4", token)
    assert state(world) == before
    assert world.client().remove_node("n5").changes

    late = world.invite("n6", vtep="192.0.2.6")
    _expire(world, read_invitation(late).id)
    before = state(world)
    assert "has expired" in world.refused("n4", late)
    assert state(world) == before


def _expire(world: World, token_id: str) -> None:
    async def change() -> None:
        async with await open_store(world.store) as store:
            item = await store.get(f"/plum/join/{token_id}")
            assert item is not None
            record = JoinRecord.model_validate_json(item.value)
            late = record.model_copy(update={"expires": time.time() - 1})
            await store.commit([], [Put(item.key, late.model_dump_json().encode())])

    asyncio.run(change())


def test_the_private_key_stays_and_the_token_holds_no_node_key(world: World) -> None:
    token = world.invite("n7", vtep="192.0.2.7")
    body = token.removeprefix("plumjoin_")
    told = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()
    assert "PRIVATE" not in told
    for node in ("n1", "n3"):
        key = world.folder(node).key.read_text()
        assert not any(key.encode() in value for value in state(world).values())
        assert world.folder(node).path.stat().st_mode & 0o777 == 0o700


# Through one's own daemon


def test_any_node_answers_through_any_other(world: World) -> None:
    for node in ("n1", "n2", "n3"):
        ran = world.plumctl("n3", "--node", node, "status", "-o", "json")
        assert ran.code == 0, ran
        assert json.loads(ran.out)["node"] == node
    listed = world.plumctl("n1", "--node", "n3", "get", "node", "-o", "name")
    assert sorted(listed.out.split()) == ["n1", "n2", "n3"], listed
    assert "no node n8" in world.plumctl("n1", "--node", "n8", "status").err
    counted = world.client("n3").counters()
    assert not counted.unreachable


def test_a_change_from_elsewhere_needs_a_token_and_reaches_a_living_director(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(world.token)
    file.chmod(0o600)
    tenant = tmp_path / "acme.yaml"
    tenant.write_text("kind: tenant\nname: acme\n")
    apply = ("apply", "-f", str(tenant))
    before = state(world)
    refused = world.plumctl("n3", *apply)
    assert refused.code == 5, refused
    assert "a change from here needs a token" in refused.err
    assert state(world) == before
    world.kill("n1")
    try:
        done = world.plumctl("n3", *apply, PLUM_TOKEN_FILE=str(file))
        assert done.code == 0, done
        assert "/plum/tenant/acme" in state(world)
        line = next(li for li in reversed(world.audited("n2")) if li["operation"] == "apply")
        assert (line["user"], line["outcome"]) == ("boss", "done")
        assert line["source"].endswith("node n3")
        world.kill("n2")
        before = state(world)
        gone = world.plumctl("n3", "delete", "tenant", "acme", PLUM_TOKEN_FILE=str(file))
        assert gone.code != 0
        assert "nothing was changed" in gone.err, gone
        assert state(world) == before
    finally:
        world.start("n1", "n2")


# Certificates that change


def test_rotation_drops_no_connection_and_voids_the_old_certificate(
    world: World, tmp_path: Path
) -> None:
    old = {node: world.folder(node).read().certificate for node in ("n1", "n2", "n3")}
    shutil.copytree(world.folder("n3").path, tmp_path / "old")
    plain = world.dial("n3", "n1")
    with plain, stranger(world).wrap_socket(plain, server_hostname="n1") as secured:
        kept = http.client.HTTPConnection("n1")
        kept.sock = secured
        bearer = {"Authorization": f"Bearer {world.token}"}

        def status() -> int:
            kept.request("GET", "/v1/status", headers=bearer)
            answer = kept.getresponse()
            answer.read()
            return answer.status

        assert status() == 200
        ran = world.plumctl("n1", "node", "rotate", "--all")
        assert ran.code == 0, (ran, world.log("n3")[-2000:])
        assert re.findall(r"^(n\d)  until", ran.out, re.MULTILINE) == ["n1", "n2", "n3"]
        assert status() == 200
        assert kept.sock is secured  # the very same connection
    for node, before in old.items():
        assert world.folder(node).read().certificate != before
        shown = _shown_by(world, node)
        assert shown == world.folder(node).read().certificate.serial_number
    void = client_context(TrustFolder(tmp_path / "old"))
    assert world.ask("n1", "GET", "/v1/status", context=void).status == 401
    assert world.plumctl("n3", "--node", "n2", "status").code == 0


def _shown_by(world: World, node: str) -> int:
    plain = world.dial("n2", node)
    with plain, context(world, "n2").wrap_socket(plain, server_hostname=node) as secured:
        der = secured.getpeercert(binary_form=True)
        assert der is not None
        return read_der(der).serial_number


def test_a_role_changes_by_apply_and_the_authoritys_key_follows(world: World) -> None:
    def become(*roles: str) -> None:
        spec = {"vtep": world.address("n3"), "roles": roles}
        world.client().apply([{"kind": "node", "name": "n3", "spec": spec}])

    def lets_strangers_in() -> bool:
        try:
            answer = world.ask("n3", "GET", "/v1/status", context=stranger(world), source="n1")
        except (ssl.SSLError, ConnectionError):
            return False
        assert answer.status == 401
        return True

    become("director", "edge")
    until(lambda: world.folder("n3").ca_key.exists())
    until(lets_strangers_in)
    done = world.client("n3").apply([{"kind": "tenant", "name": "zeta"}])  # without a token now
    assert done.changes
    become("edge")
    until(lambda: not world.folder("n3").ca_key.exists())
    until(lambda: not lets_strangers_in())


# The wrong store, the wrong folder


def test_plumd_does_not_start_in_another_zone(world: World, tmp_path: Path) -> None:
    def start(*more: str) -> str:
        argv = fabric.enter(
            world.layout.namespace("n4"),
            [
                *(sys.executable, "-P", "-m", "daemon", "--run-dir", str(tmp_path / "run")),
                *("--state-dir", str(world.state_dir("n3")), "--pin-dir", str(tmp_path / "pin")),
                *more,
            ],
        )
        env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin"}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=env)
        assert done.returncode == 1, done
        return done.stderr

    empty = f"sqlite://{tmp_path}/other.db"
    assert "the store holds no zone" in start("--store", empty)
    made = world.plumctl(
        "n4",
        *("zone", "init", "--node", "x1", "--vtep", "192.0.2.4", "--store", empty),
        *("--state-dir", str(tmp_path / "state")),
    )
    assert made.code == 0, made
    assert "the store is of zone" in start("--store", empty)
    assert "this machine is node n3 of its zone, not n9" in start("--node", "n9")
    assert not (tmp_path / "pin").exists()
