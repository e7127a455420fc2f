"""A zone of two nodes for guests on taps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plumctl.sandbox import zone
from plumctl.sandbox.layout import Layout
from tests.system.zone import Zone

SANDBOX = "t-guest"


@pytest.fixture(scope="session")
def zone_of_two() -> Iterator[Zone]:
    """Gone at the end, as is what a killed run left before."""
    layout = Layout(SANDBOX)
    zone.down(layout, str)
    wanted = zone.fabric_for(2, 4, 1500)
    try:
        zone.up(layout, wanted, str)
        yield Zone(layout, wanted.nodes)
    finally:
        zone.down(layout, str)
        layout.lock_file.unlink()
