"""One zone of three nodes for all tests of a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plumctl.sandbox import fabric, process, zone
from plumctl.sandbox.layout import Layout
from tests.system.zone import Zone

NAME = "t-sys"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/system/" in item.path.as_posix():
            item.add_marker(pytest.mark.privileged)


def ours() -> list[str]:
    """Namespaces of these tests: of the sandbox, of its tenants, and of tests themselves."""
    return [name for name in fabric.namespaces() if NAME in name]


def sandbox(name: str, nodes: int, family: int, mtu: int = 1500) -> Iterator[Zone]:
    """A zone that is gone at the end, and what a killed run left before."""
    layout = Layout(name)
    zone.down(layout, str)
    fabric.remove([left for left in ours() if left.startswith((f"plum-{name}-", f"{name}-"))])
    wanted = zone.fabric_for(nodes, family, mtu)
    try:
        zone.up(layout, wanted, str)
        yield Zone(layout, wanted.nodes)
    finally:
        zone.down(layout, str)
        layout.lock_file.unlink()
    assert process.processes(layout) == []
    left = [name for folder in (layout.run_dir, layout.pin_dir) if (name := folder).exists()]
    assert not left


@pytest.fixture(scope="session")
def zone_of_three() -> Iterator[Zone]:
    yield from sandbox(NAME, 3, 4)
    assert not ours()


@pytest.fixture
def plum(zone_of_three: Zone) -> Iterator[Zone]:
    """The zone; afterwards every daemon must still be the one that was there, or a new one."""
    yield zone_of_three
    running = {found.node for found in process.processes(zone_of_three.layout)}
    assert running == set(zone_of_three.nodes)
