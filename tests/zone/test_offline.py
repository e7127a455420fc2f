"""Backup and move without a plumd."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon import offline


def test_a_mistyped_store_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typo = tmp_path / "olg.db"
    for what in (["backup"], ["migrate", "--to", f"sqlite://{tmp_path}/new.db"]):
        assert offline.main([*what, "--store", f"sqlite://{typo}"]) == 1
        assert f"there is no store {typo}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
