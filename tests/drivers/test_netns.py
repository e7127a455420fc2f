"""Namespaces: made like `ip netns` does, only ours deleted, configured inside."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from daemon.drivers import netns
from daemon.drivers.links import Links, Veth
from daemon.drivers.netlink import Netlink
from daemon.drivers.netns import Inside, Namespaces, Route, addresses, configure, netlink_in

pytestmark = pytest.mark.privileged

MakeNamespace = Callable[[], Path]
NAME = f"t-datapath-ns-{os.getpid()}"


def ip(namespace: Path, *arguments: str) -> Any:
    command = ["ip", "-j", "-n", namespace.name, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def test_iproute2_sees_what_we_make(namespaces: Namespaces) -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino
    assert namespaces.ensure(NAME)
    assert not namespaces.ensure(NAME)
    assert [link["ifname"] for link in ip(namespaces.path(NAME), "link")] == ["lo"]
    assert namespaces.list_owned() == [NAME]
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


def test_delete_is_idempotent_and_leaves_no_name(namespaces: Namespaces) -> None:
    namespaces.ensure(NAME)
    assert namespaces.delete(NAME)
    assert not namespaces.delete(NAME)
    assert not namespaces.exists(NAME) and not namespaces.path(NAME).exists()


def test_foreign_namespace_is_used_but_never_deleted(namespaces: Namespaces) -> None:
    subprocess.run(["ip", "netns", "add", NAME], check=True)
    try:
        assert not namespaces.ensure(NAME)
        assert not namespaces.delete(NAME)
        assert namespaces.exists(NAME)
    finally:
        subprocess.run(["ip", "netns", "del", NAME], check=True)


def test_namespace_made_again_by_somebody_else_is_not_ours(namespaces: Namespaces) -> None:
    namespaces.ensure(NAME)
    holder = os.open(namespaces.path(NAME), os.O_RDONLY)  # keeps the inode number in use
    subprocess.run(["ip", "netns", "del", NAME], check=True)
    subprocess.run(["ip", "netns", "add", NAME], check=True)
    os.close(holder)
    try:
        assert namespaces.list_owned() == []
        assert not namespaces.delete(NAME)
        assert namespaces.exists(NAME)
    finally:
        subprocess.run(["ip", "netns", "del", NAME], check=True)


def test_name_left_without_a_namespace_is_used_again(namespaces: Namespaces) -> None:
    namespaces.path(NAME).touch()
    assert not namespaces.exists(NAME)
    assert namespaces.ensure(NAME)
    assert namespaces.exists(NAME)


def test_half_deleted_namespace_is_listed_and_goes(namespaces: Namespaces) -> None:
    """What a plumd leaves that dies between unmounting and removing the name."""
    namespaces.ensure(NAME)
    subprocess.run(["umount", "-l", namespaces.path(NAME)], check=True)
    assert namespaces.list_owned() == [NAME]
    namespaces.delete(NAME)
    assert not namespaces.path(NAME).exists() and namespaces.list_owned() == []


def test_namespace_is_marked_before_it_has_its_name(
    namespaces: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plumd may die right after the mount."""

    class Died(Exception):
        pass

    def mount_and_die(*arguments: Any) -> int:
        result = real(*arguments)
        if str(arguments[1]).find(NAME) >= 0:
            raise Died
        return int(result)

    real = netns._libc.mount
    monkeypatch.setattr(netns._libc, "mount", mount_and_die)
    with pytest.raises(Died):
        namespaces.ensure(NAME)
    assert namespaces.list_owned() == [NAME]
    assert namespaces.delete(NAME)


def test_workload_finds_its_addresses_and_routes(
    kernel: Netlink, make_namespace: MakeNamespace
) -> None:
    workload = make_namespace()
    links = Links(kernel)
    pair = Veth("plt1", "plum:n1:a/b/c", workload, "eth0", "02:00:00:00:00:07", 1430)
    made = links.create(pair)
    inside = Inside(
        addresses=(ip_interface("10.0.1.7/24"), ip_interface("fd00:1::7/64")),
        routes=(
            Route(ip_network("0.0.0.0/0"), ip_address("10.0.1.1")),
            Route(ip_network("::/0"), ip_address("fd00:1::1")),
            Route(ip_network("10.9.0.0/16"), ip_address("10.0.1.2")),
        ),
    )
    configure(workload, "eth0", made.peer_index, inside)
    configure(workload, "eth0", made.peer_index, inside)  # again: nothing changes
    links.up(made.index)

    lo, eth0 = ip(workload, "addr")
    assert "UP" in lo["flags"] and "UP" in eth0["flags"]
    held = {
        (info["local"], info["prefixlen"]): info
        for info in eth0["addr_info"]
        if info["scope"] == "global"
    }
    assert set(held) == {("10.0.1.7", 24), ("fd00:1::7", 64)}
    assert "tentative" not in held["fd00:1::7", 64]
    routes = {(r["dst"], r.get("gateway")) for r in ip(workload, "route")}
    assert routes == {
        ("default", "10.0.1.1"),
        ("10.9.0.0/16", "10.0.1.2"),
        ("10.0.1.0/24", None),
    }
    assert ("default", "fd00:1::1") in {
        (r["dst"], r.get("gateway")) for r in ip(workload, "-6", "route")
    }
    with netlink_in(workload) as opened:
        found = {address for index, address in addresses(opened) if index == made.peer_index}
    assert {ip_address("10.0.1.7"), ip_address("fd00:1::7")} <= found


def test_workload_that_asks_dhcp_gets_only_its_link(
    kernel: Netlink, make_namespace: MakeNamespace
) -> None:
    workload = make_namespace()
    pair = Veth("plt1", "plum:n1:a/b/c", workload, "eth0", "02:00:00:00:00:07", 1430)
    made = Links(kernel).create(pair)
    configure(workload, "eth0", made.peer_index, None)
    eth0 = ip(workload, "addr", "show", "eth0")[0]
    assert "UP" in eth0["flags"]
    assert [info for info in eth0["addr_info"] if info["scope"] == "global"] == []
