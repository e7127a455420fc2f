from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.trust.world import World, make


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    yield from make()
