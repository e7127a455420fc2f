"""Certificates and the folder that keeps them: what is accepted, and what is said otherwise."""

from __future__ import annotations

import time
import uuid
from ipaddress import ip_address
from pathlib import Path

import pytest

from daemon.trust.authority import DAY_S, NODE_LIFE_S, Authority, renew_at
from daemon.trust.certificate import check, named, new_key, node_uri, read_request, request
from daemon.trust.errors import TrustError
from daemon.trust.folder import Membership, Trust, TrustFolder

ZONE = str(uuid.uuid4())
NOW = time.time()
VTEP = ip_address("192.0.2.1")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(ZONE, NOW)


def trust(authority: Authority, node: str = "n1", zone: str = ZONE) -> Trust:
    key = new_key()
    certificate = authority.issue(key.public_key(), zone, node, VTEP, NOW)
    membership = Membership.model_validate(
        {"id": zone, "node": node, "vtep": "192.0.2.1", "store": "sqlite:///x", "directors": {}}
    )
    return Trust(membership, (authority.certificate,), certificate, key, authority)


def refusal(*arguments: object) -> str:
    with pytest.raises(TrustError) as caught:
        check(*arguments)  # type: ignore[arg-type]
    return caught.value.message


def test_issued_certificate_names_its_node_and_is_accepted(authority: Authority) -> None:
    certificate = trust(authority).certificate
    assert named(certificate) == (ZONE, "n1")
    assert check(certificate, [authority.certificate], ZONE, NOW) == "n1"
    assert renew_at(certificate) == pytest.approx(NOW + NODE_LIFE_S * 2 / 3, abs=300)


def test_foreign_certificate_of_the_same_name_is_refused(authority: Authority) -> None:
    foreign = trust(Authority.create(ZONE, NOW)).certificate
    assert "not signed by this zone" in refusal(foreign, [authority.certificate], ZONE, NOW)


def test_expired_and_not_yet_valid_certificates_are_refused(authority: Authority) -> None:
    certificate, trusted = trust(authority).certificate, [authority.certificate]
    assert "expired at" in refusal(certificate, trusted, ZONE, NOW + 91 * DAY_S)
    assert "valid only from" in refusal(certificate, trusted, ZONE, NOW - DAY_S)


def test_certificate_of_another_zone_by_the_same_authority_is_refused(authority: Authority) -> None:
    other = str(uuid.uuid4())
    certificate = trust(authority, zone=other).certificate
    assert f"of zone {other}" in refusal(certificate, [authority.certificate], ZONE, NOW)


def test_node_certificate_signs_nobody(authority: Authority) -> None:
    own = trust(authority)
    child = Authority(own.key, own.certificate).issue(new_key().public_key(), ZONE, "n2", VTEP, NOW)
    assert "not signed" in refusal(child, [authority.certificate], ZONE, NOW)


def test_certificate_never_outlives_its_authority() -> None:
    short = Authority.create(ZONE, NOW, life_s=DAY_S)
    issued = short.issue(new_key().public_key(), ZONE, "n1", VTEP, NOW)
    assert issued.not_valid_after_utc <= short.certificate.not_valid_after_utc
    with pytest.raises(TrustError, match="expired"):
        short.issue(new_key().public_key(), ZONE, "n1", VTEP, NOW + 2 * DAY_S)


def test_request_that_was_tampered_with_is_refused() -> None:
    pem = request(new_key(), ZONE, "n1")
    assert node_uri(ZONE, "n1").encode() not in pem  # it is base64
    read_request(pem)
    lines = pem.splitlines()
    middle = len(lines) // 2
    lines[middle] = lines[middle][::-1]
    with pytest.raises(TrustError):
        read_request(b"\n".join(lines))
    with pytest.raises(TrustError):
        read_request(b"hello")


def test_folder_gives_back_what_was_written_and_is_closed_to_others(
    authority: Authority, tmp_path: Path
) -> None:
    folder, written = TrustFolder(tmp_path / "trust"), trust(authority)
    assert not folder.exists()
    folder.write(written)
    read = folder.read()
    assert (read.membership, read.certificate) == (written.membership, written.certificate)
    assert read.authority is not None
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.path.iterdir()} == {0o600}
    with pytest.raises(TrustError, match="in a zone already"):
        folder.write(written)
    folder.path.chmod(0o750)
    with pytest.raises(TrustError, match="read by others"):
        folder.read()


def test_crash_between_key_and_certificate_is_mended(authority: Authority, tmp_path: Path) -> None:
    folder = TrustFolder(tmp_path / "trust")
    folder.write(trust(authority))
    new = trust(authority)
    old_certificate = folder.certificate.read_bytes()
    folder.replace_certificate(new.key, new.certificate, authority.certificate)
    # As it was when only the key had been replaced.
    folder.certificate.rename(folder.path / "node.pem.new")
    folder.certificate.write_bytes(old_certificate)
    assert folder.read().certificate == new.certificate
    # And a draft that was never finished spoils nothing.
    (folder.path / "node.pem.new").write_bytes(b"-----BEGIN CERT")
    assert folder.read().certificate == new.certificate


@pytest.mark.parametrize("name", ["ca.pem", "node.pem", "node.key", "zone.json", "ca.key"])
def test_damaged_file_is_named(authority: Authority, tmp_path: Path, name: str) -> None:
    folder = TrustFolder(tmp_path / "trust")
    folder.write(trust(authority))
    (folder.path / name).write_text("rubbish")
    with pytest.raises(TrustError, match=name) as caught:
        folder.read()
    assert "join again" in caught.value.hint


def test_key_of_another_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    folder = TrustFolder(tmp_path / "trust")
    folder.write(trust(authority))
    folder.key.write_bytes((folder.path / "ca.key").read_bytes())
    with pytest.raises(TrustError, match="does not belong"):
        folder.read()
