"""plumctl where no daemon is, asking a director of a real zone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trust.world import World

pytestmark = pytest.mark.privileged


def test_a_token_and_the_authoritys_certificate_are_all_it_takes(
    world: World, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(world.token)
    token.chmod(0o600)
    way = {
        "PLUM_SOCKET": str(tmp_path / "none"),
        "PLUM_TOKEN_FILE": str(token),
        "PLUM_CA_FILE": str(world.folder("n1").ca),
    }
    for director in ("n1", "n2"):
        url = f"https://{director}@{world.address(director)}"
        asked = world.plumctl("n4", "--server", url, "whoami", **way)  # n4 is in no zone
        assert asked.code == 0, asked
        assert "zone-admin" in asked.out
        assert world.address("n4") in asked.out
    wrong = world.plumctl("n4", "--server", f"https://n1@{world.address('n2')}", "whoami", **way)
    assert (wrong.code, "could not prove" in wrong.err) == (3, True)
    edge = world.plumctl("n4", "--server", f"https://n3@{world.address('n3')}", "whoami", **way)
    assert edge.code == 3  # who is no director wants a certificate
    searched = world.plumctl("n1", "audit", "--user", "boss", "-o", "json")
    assert '"errors": {}' in searched.out, searched
