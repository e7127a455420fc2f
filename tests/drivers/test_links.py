"""Devices: made, found by mark, adopted, deleted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.drivers import links, netlink
from daemon.drivers.links import Links, Veth
from daemon.drivers.netlink import Message, Netlink, NetlinkError
from daemon.drivers.netns import entered, netlink_in

pytestmark = pytest.mark.privileged

MakeNamespace = Callable[[], Path]
IFLA_GSO_IPV4_MAX_SIZE = 63


def veth(namespace: Path, name: str = "plt1") -> Veth:
    return Veth(name, "plum:n1:acme/shop/web-1", namespace, "eth0", "02:00:00:00:00:07", 1430)


def ip(namespace: Path, *arguments: str) -> Any:
    """What iproute2, another reader of the same kernel, sees."""
    command = ["nsenter", f"--net={namespace}", "ip", "-j", "-d", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout or "[]")


def test_pair_is_made_whole(kernel: Netlink, node: Path, make_namespace: MakeNamespace) -> None:
    workload = make_namespace()
    made = Links(kernel).create(veth(workload))
    (host,) = ip(node, "link", "show", "plt1")
    (peer,) = ip(workload, "link", "show", "eth0")
    assert (host["mtu"], peer["mtu"], peer["address"]) == (1430, 1430, "02:00:00:00:00:07")
    assert host["address"] == "fe:00:00:00:00:07"
    assert host["ifalias"] == "plum:n1:acme/shop/web-1"
    assert peer["gso_max_size"] == host["gso_max_size"] == links.GSO_MAX_BYTES
    with netlink_in(workload) as inside:  # Debian 12's iproute2 does not show the IPv4 limit
        body = netlink.IFINFO.pack(0, 0, peer["ifindex"], 0, 0)
        (reply,) = inside.request(Message(netlink.GETLINK, body))
    values = dict(netlink.attributes(reply.body, netlink.IFINFO.size))
    ipv4_limit = values.get(IFLA_GSO_IPV4_MAX_SIZE)  # from Linux 6.3 on
    assert ipv4_limit is None or int.from_bytes(ipv4_limit, "little") == links.GSO_MAX_BYTES
    assert "UP" not in host["flags"] and "UP" not in peer["flags"]
    assert (made.index, made.peer_index, made.kind) == (host["ifindex"], peer["ifindex"], "veth")
    assert not made.up


def test_owned_links_are_found_by_their_mark(
    kernel: Netlink, node: Path, make_namespace: MakeNamespace
) -> None:
    devices = Links(kernel)
    made = devices.create(veth(make_namespace()))
    ip(node, "link", "add", "foreign", "type", "veth", "peer", "foreign2")
    devices.mark("foreign2", "plum:n2:acme/shop/web-2")
    assert devices.list_owned("n1") == {"acme/shop/web-1": made}
    assert list(devices.list_owned("n2")) == ["acme/shop/web-2"]
    devices.mark("foreign2", "")
    assert devices.list_owned("n2") == {}


def test_existing_name_is_refused_and_the_old_device_stays(
    kernel: Netlink, make_namespace: MakeNamespace
) -> None:
    devices, workload = Links(kernel), make_namespace()
    first = devices.create(veth(workload))
    with pytest.raises(NetlinkError) as caught:
        devices.create(veth(make_namespace()))
    assert caught.value.errno == 17
    assert devices.find("plt1") == first


def test_tap_is_told_from_veth(kernel: Netlink, node: Path) -> None:
    subprocess.run(
        ["nsenter", f"--net={node}", "ip", "tuntap", "add", "tap0", "mode", "tap"], check=True
    )
    tap = Links(kernel).find("tap0")
    assert tap is not None and tap.tap
    lo = Links(kernel).find("lo")
    assert lo is not None and not lo.tap


def test_up_down_mtu_and_delete(kernel: Netlink, make_namespace: MakeNamespace) -> None:
    devices = Links(kernel)
    made = devices.create(veth(make_namespace()))
    devices.up(made.index)
    devices.set_mtu(made.index, 1300)
    found = devices.find("plt1")
    assert found is not None and found.up and found.mtu == 1300
    devices.down(made.index)
    found = devices.find("plt1")
    assert found is not None and not found.up
    devices.delete(made.index)
    assert devices.find("plt1") is None
    devices.delete(made.index)  # again: no error


def test_refusal_carries_the_kernels_words(kernel: Netlink) -> None:
    with pytest.raises(NetlinkError, match="mtu"):
        Links(kernel).set_mtu(1, -5 & 0xFFFFFFFF)


def test_device_names_are_short_and_differ() -> None:
    ids = [0, 1, 31, 32, 12345, 2**32 - 1, 2**63]
    names = [links.device_name(id) for id in ids]
    assert len(set(names)) == len(ids)
    assert names[:4] == ["pl0", "pl1", "plv", "pl10"]
    assert all(len(name) <= 15 for name in names)


def test_host_keeps_silent_on_a_hushed_device(
    kernel: Netlink, node: Path, make_namespace: MakeNamespace
) -> None:
    devices = Links(kernel)
    workload = make_namespace()
    made = devices.create(veth(workload))
    with entered(node):
        devices.hush("plt1")
    devices.up(made.index)
    ip(workload, "link", "set", "eth0", "up")  # without carrier no address would come
    assert ip(node, "-6", "addr", "show", "dev", "plt1") == []
    with entered(node):
        devices.hush("plt1", quiet=False)
        devices.hush("gone")
    assert ip(node, "-6", "addr", "show", "dev", "plt1")


def test_pairs_we_made_are_told_from_devices_we_adopted(
    kernel: Netlink, node: Path, make_namespace: MakeNamespace
) -> None:
    devices = Links(kernel)
    assert devices.create(veth(make_namespace())).made
    ip(node, "link", "add", "plug0", "type", "veth", "peer", "plug1")
    devices.mark("plug0", "plum:n1:acme/shop/web-2")
    owned = devices.list_owned("n1")
    assert {path: link.made for path, link in owned.items()} == {
        "acme/shop/web-1": True,
        "acme/shop/web-2": False,
    }
