"""What is looked at before a join token is used up."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from daemon.enroll import main
from daemon.trust.invitation import Invitation


def refused(
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *more: str,
) -> dict[str, Any]:
    invitation = Invitation.model_validate(
        {
            "zone": "00000000-0000-0000-0000-000000000000",
            "node": "n2",
            "id": "0",
            "secret": "0",
            "authority": "0",
            "store": store,
            "directors": {},
        }
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(invitation.text()))
    assert main(["join", "--state-dir", str(tmp_path / "state"), *more]) == 1
    document: dict[str, Any] = json.loads(capsys.readouterr().err)["error"]
    return document


@pytest.mark.parametrize(
    ("store", "message", "hint"),
    [
        ("sqlite:///nowhere/zone.db", "of another machine", "zone migrate"),
        ("etcd://192.0.2.9:2379?ca=/nowhere/ca.pem", "/nowhere/ca.pem", "copy them"),
        ("etcd://192.0.2.9:2379", "no director", "4788"),
    ],
)
def test_a_store_that_this_machine_cannot_reach_costs_no_token(
    store: str,
    message: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = refused(store, tmp_path, monkeypatch, capsys)
    assert message in said["message"]
    assert hint in said["hint"]
    assert not (tmp_path / "state" / "trust").exists()


def test_who_may_not_join_again_stays_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trust = tmp_path / "state" / "trust"
    trust.mkdir(parents=True)
    (trust / "zone.json").write_text("{}")
    store = "etcd://127.0.0.1:2379"
    assert "in a zone already" in refused(store, tmp_path, monkeypatch, capsys)["message"]
    assert "no director" in refused(store, tmp_path, monkeypatch, capsys, "--again")["message"]
    assert (trust / "zone.json").read_text() == "{}"
