"""Filters: attached, seen, replaced without a gap, missed when gone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.datapath.loader import Datapath
from daemon.drivers.filters import Filters
from daemon.drivers.links import Link, Links, Veth
from daemon.drivers.netlink import Netlink, NetlinkError

pytestmark = pytest.mark.privileged

MakeNamespace = Callable[[], Path]


@pytest.fixture
def link(kernel: Netlink, make_namespace: MakeNamespace) -> Link:
    pair = Veth("plt1", "plum:n1:a/b/c", make_namespace(), "eth0", "02:00:00:00:00:07", 1430)
    return Links(kernel).create(pair)


def tc(node: Path, *arguments: str) -> str:
    command = ["nsenter", f"--net={node}", "tc", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_attached_filter_is_found(
    kernel: Netlink, node: Path, link: Link, programs: Datapath
) -> None:
    filters, program = Filters(kernel), programs.programs["t_pass"]
    assert filters.attached([link.index, 1]) == {}
    filters.attach({link.index: program.fd}, "t_pass")
    found = filters.attached([link.index, 1, 9999])
    assert list(found) == [link.index]
    assert (found[link.index].program_id, found[link.index].tag) == (program.id, program.tag)
    assert found[link.index].name == "t_pass"
    assert "direct-action" in tc(node, "filter", "show", "dev", "plt1", "ingress")


def test_attaching_again_replaces(
    kernel: Netlink, node: Path, link: Link, programs: Datapath
) -> None:
    filters = Filters(kernel)
    for name in ("t_pass", "t_drop", "t_drop"):
        filters.attach({link.index: programs.programs[name].fd}, name)
    assert filters.attached([link.index])[link.index].program_id == programs.programs["t_drop"].id
    shown = tc(node, "filter", "show", "dev", "plt1", "ingress")
    assert shown.count("direct-action") == 1


def test_filter_removed_by_hand_is_missed_and_comes_back(
    kernel: Netlink, node: Path, link: Link, programs: Datapath
) -> None:
    filters, program = Filters(kernel), programs.programs["t_pass"]
    filters.attach({link.index: program.fd}, "t_pass")
    tc(node, "qdisc", "del", "dev", "plt1", "clsact")
    assert filters.attached([link.index]) == {}
    filters.attach({link.index: program.fd}, "t_pass")
    tc(node, "filter", "del", "dev", "plt1", "ingress")
    assert filters.attached([link.index]) == {}
    filters.attach({link.index: program.fd}, "t_pass")
    assert filters.attached([link.index])[link.index].program_id == program.id


def test_detach_is_idempotent(kernel: Netlink, link: Link, programs: Datapath) -> None:
    filters = Filters(kernel)
    filters.attach({link.index: programs.programs["t_pass"].fd}, "t_pass")
    filters.detach(link.index, 9999)
    filters.detach(link.index)
    assert filters.attached([link.index]) == {}


def test_missing_device_is_an_error(kernel: Netlink, programs: Datapath) -> None:
    with pytest.raises(NetlinkError):
        Filters(kernel).attach({9999: programs.programs["t_pass"].fd}, "t_pass")
