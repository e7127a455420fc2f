"""A zone of two nodes whose daemons change their version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import sandbox
from tests.system.zone import Zone
from tests.upgrade import previous


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/upgrade/" in item.path.as_posix():
            item.add_marker(pytest.mark.privileged)


@pytest.fixture(scope="session")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return previous.build(tmp_path_factory.mktemp("previous"))


@pytest.fixture(scope="module")
def plum() -> Iterator[Zone]:
    yield from sandbox("t-upgrade", 2, 4)
