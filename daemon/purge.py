"""Removing a node from the kernel: the opposite of running plumd."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from daemon.datapath import DatapathError
from daemon.datapath.maps import Map
from daemon.drivers.filters import Filters
from daemon.drivers.links import Links
from daemon.drivers.netlink import Netlink
from daemon.drivers.netns import Namespaces
from daemon.drivers.underlay import GRO_DEVICE
from daemon.reconcile.kernel import FROM_ENDPOINT, FROM_OUTSIDE, FROM_UNDERLAY

log = logging.getLogger(__name__)

OURS = {FROM_ENDPOINT, FROM_UNDERLAY, FROM_OUTSIDE}


def purge(node: str, run_dir: Path, pin_dir: Path) -> None:
    """Filters, devices, namespaces and pins of `node`; safe to repeat.

    Endpoints are closed first, so that nothing is open on the way.
    """
    _close_endpoints(pin_dir)
    with Netlink() as kernel:
        links, filters = Links(kernel), Filters(kernel)
        owned = links.list_owned(node)
        made = [link.index for link in owned.values() if link.made]
        idle = links.find(GRO_DEVICE)
        links.delete(*made, *([idle.index] if idle else []))
        for link in (link for link in owned.values() if not link.made):
            links.down(link.index)
            links.hush(link.name, quiet=False)
            links.mark(link.name, "")
        found = filters.attached([link.index for link in links.list()])
        filters.detach(*(index for index, filter in found.items() if filter.name in OURS))
    namespaces = Namespaces(run_dir)
    for name in namespaces.list_owned():
        namespaces.delete(name)
    if pin_dir.is_dir():
        shutil.rmtree(pin_dir)
    log.info("purged", extra={"object": node, "step": "purge"})


def _close_endpoints(pin_dir: Path) -> None:
    """Of every generation: an upgrade may have been under way."""
    for path in (pin_dir / "plum_ep", *pin_dir.glob("*/plum_ep")):
        try:
            endpoints = Map.pinned(path)
        except DatapathError:
            continue  # nothing was ever loaded, or it is purged already
        endpoints.delete_many(list(endpoints.dump()))
        endpoints.close()
