from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.access.world import World, serving, template


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The zone that every module gets a copy of, and its tokens."""
    folder = tmp_path_factory.mktemp("zone") / "made"
    return folder, asyncio.run(template(folder))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    made: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with serving(*made, tmp_path_factory.mktemp("served")) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def world(served: World) -> AsyncIterator[World]:
    """As it was made, whatever the test before did."""
    await served.reset()
    yield served
