"""Changes made by others are heard of."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.datapath.loader import Datapath
from daemon.drivers.filters import Filters
from daemon.drivers.links import Links, Veth
from daemon.drivers.monitor import Change, Event, Monitor
from daemon.drivers.netlink import Netlink
from daemon.drivers.netns import entered

pytestmark = pytest.mark.privileged

MakeNamespace = Callable[[], Path]


def test_deleted_filter_and_link_are_reported(
    kernel: Netlink, node: Path, make_namespace: MakeNamespace, programs: Datapath
) -> None:
    pair = Veth("plt1", "plum:n1:a/b/c", make_namespace(), "eth0", "02:00:00:00:00:07", 1430)
    index = Links(kernel).create(pair).index
    Filters(kernel).attach({index: programs.programs["t_pass"].fd}, "t_pass")

    async def scenario() -> list[Event]:
        seen: list[Event] = []
        gone = asyncio.Event()

        def handler(event: Event) -> None:
            seen.append(event)
            if event.change is Change.LINK_GONE:
                gone.set()

        with entered(node):
            monitor = Monitor(handler)
        inside = ["nsenter", f"--net={node}"]
        subprocess.run([*inside, "tc", "filter", "del", "dev", "plt1", "ingress"], check=True)
        subprocess.run([*inside, "ip", "link", "set", "plt1", "mtu", "1300"], check=True)
        subprocess.run([*inside, "ip", "link", "del", "plt1"], check=True)
        await asyncio.wait_for(gone.wait(), 5)
        monitor.close()
        return seen

    seen = asyncio.run(scenario())
    assert Event(Change.FILTER_GONE, index) in seen
    assert Event(Change.LINK, index, "plt1") in seen
    assert seen[-1] == Event(Change.LINK_GONE, index, "plt1")
