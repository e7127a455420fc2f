"""What guests bring along works: ping, traceroute, DHCP clients, path-MTU discovery, multicast."""

from __future__ import annotations

import json
import re
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from daemon.abi import Path as PathRow
from daemon.datapath.maps import Map
from tests.system.zone import Guest, Zone, domain, endpoint, tenant, until

TENANT = "t-sys-tool"
LAB = f"{TENANT}/lab"
ALL = "ff:ff:ff:ff:ff:ff"
VIPS = ["10.4.1.100", "fd04:1::100"]
THIN_MTU, WIDE_MTU = 1300, 1450
NETS = {"wide": 1, "thin": 2, "auto": 3, "quiet": 4}


def lab() -> list[dict[str, object]]:
    more: dict[str, dict[str, object]] = {
        "thin": {"mtu": THIN_MTU},
        "auto": {
            "mtu": 1400,
            "dhcp": {
                "dns": ["10.4.1.53", "fd04:1::53"],
                "search": ["corp.example", "lab.example"],
                "routes": [{"to": "10.99.0.0/16", "via": "10.4.3.9"}],
                "lease_s": 600,
            },
        },
        "quiet": {"flood": False},
    }
    bridges = [
        {"name": name, "subnets": [f"10.4.{n}.0/24", f"fd04:{n}::/64"], **more.get(name, {})}
        for name, n in NETS.items()
    ]
    interfaces = [
        {"bridge": name, "addresses": [f"10.4.{n}.1/24", f"fd04:{n}::1/64"]}
        for name, n in NETS.items()
    ]
    return [
        tenant(TENANT),
        domain(TENANT, "lab", bridges, routers=[{"name": "gw", "interfaces": interfaces}]),
    ]


def member(name: str, bridge: str, node: str, host: int, **spec: object) -> dict[str, object]:
    n = NETS[bridge]
    addresses = (f"10.4.{n}.{host}", f"fd04:{n}::{host}")
    return endpoint(f"{LAB}/{name}", bridge, node, *addresses, **spec)


@pytest.fixture(scope="module")
def guests(zone_of_three: Zone) -> Iterator[Mapping[str, Guest]]:
    pairs = {"allowed_pairs": [{"address": vip} for vip in VIPS]}
    zone_of_three.apply(
        [
            *lab(),
            member("a", "wide", "n1", 11, **pairs),
            member("b", "wide", "n2", 12, **pairs),
            member("c", "wide", "n3", 13),
            member("d", "wide", "n1", 14),
            member("thin", "thin", "n2", 11),
            member("q1", "quiet", "n1", 11),
            member("q2", "quiet", "n2", 12),
            member("dhcp", "auto", "n2", 77, attach={"configure": "dhcp"}),
        ]
    )
    yield {path.split("/")[1]: guest for path, guest in zone_of_three.guests(TENANT).items()}
    zone_of_three.drop_tenant(TENANT)


@pytest.mark.parametrize("size", [56, 8000, 60000])
@pytest.mark.parametrize("target", ["10.4.1.12", "fd04:1::12", "10.4.4.12", "fd04:4::12"])
def test_ping_whole_and_in_fragments(guests: Mapping[str, Guest], target: str, size: int) -> None:
    said = guests["a"].run("ping", "-n", "-c", "2", "-i", "0.1", "-W", "3", "-s", str(size), target)
    assert " 0% packet loss" in said


@pytest.mark.parametrize("gateway", ["10.4.1.1", "fd04:1::1", "10.4.2.1", "fd04:2::1"])
def test_gateway_answers_pings(guests: Mapping[str, Guest], gateway: str) -> None:
    said = guests["a"].run("ping", "-n", "-c", "2", "-i", "0.1", "-W", "2", gateway)
    assert " 0% packet loss" in said


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("how", [[], ["-I"], ["-T", "-p", "80"]], ids=["udp", "icmp", "tcp"])
def test_traceroute_names_the_gateway_and_the_end(
    guests: Mapping[str, Guest], family: int, how: list[str]
) -> None:
    target = guests["thin"].ip(family)
    said = guests["a"].run("traceroute", f"-{family}", "-n", "-q", "1", "-w", "2", *how, target)
    hops = re.findall(r"^ *\d+ +(\S+)", said.split("\n", 1)[1], re.MULTILINE)
    assert hops == [("10.4.1.1" if family == 4 else "fd04:1::1"), target], said


def pmtu(guest: Guest, target: str) -> int:
    found = re.search(r"mtu (\d+)", guest.run("ip", "route", "get", target))
    return int(found[1]) if found else 0


def transfer(client: Guest, server: Guest, family: int, amount: int = 2_000_000) -> None:
    with (
        server.listen(8000, family) as listener,
        client.connect(server.ip(family), 8000) as mine,
        listener.accept()[0] as theirs,
    ):
        left, got = memoryview(bytes(amount)), 0
        mine.setblocking(False)
        theirs.setblocking(False)
        deadline = time.monotonic() + 10
        while got < amount:
            assert time.monotonic() < deadline, f"{got} of {amount} bytes in 10 s"
            can_read, can_write, _ = select.select([theirs], [mine] if left else [], [], 1)
            if can_write:
                left = left[mine.send(left) :]
            if can_read:
                got += len(theirs.recv(1 << 20))


@pytest.mark.parametrize("family", [4, 6])
def test_path_mtu_is_discovered_towards_a_smaller_bridge(
    guests: Mapping[str, Guest], family: int
) -> None:
    wide, thin = guests["d"], guests["thin"]
    target = thin.ip(family)
    wide.run("ip", "route", "flush", "cache")
    said = wide.run("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "1390", target, ok=False)
    assert f"mtu = {THIN_MTU}" in said or f"mtu={THIN_MTU}" in said
    assert pmtu(wide, target) == THIN_MTU


@pytest.mark.parametrize("family", [4, 6])
def test_tcp_gets_through_a_smaller_bridge(guests: Mapping[str, Guest], family: int) -> None:
    """The end on the small bridge does not know it is small: only the router can tell."""
    wide, thin = guests["c"], guests["thin"]
    thin.run("ip", "link", "set", "eth0", "mtu", str(WIDE_MTU))
    try:
        transfer(wide, thin, family)
        assert pmtu(wide, thin.ip(family)) == THIN_MTU
        transfer(thin, wide, family)
    finally:
        thin.run("ip", "link", "set", "eth0", "mtu", str(THIN_MTU))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("how", [[], ["-R"], ["-u", "-b", "20M"]], ids=["tcp", "back", "udp"])
def test_iperf3(guests: Mapping[str, Guest], family: int, how: list[str]) -> None:
    client, server = guests["a"], guests["thin"]
    with server.start("iperf3", "-s", "-1", "-p", "5300") as process:
        until(lambda: ":5300" in server.run("ss", "-Hltn"))
        said = client.run("iperf3", "-c", server.ip(family), "-p", "5300", "-t", "1", "-J", *how)
        process.communicate(timeout=10)
    end = json.loads(said)["end"]
    if "-u" in how:
        assert end["sum"]["packets"] > 100
        assert end["sum"]["lost_percent"] < 5
    else:
        assert end["sum_received"]["bits_per_second"] > 50e6


# DHCP and router advertisements

SCRIPT = """#!/bin/sh
env | grep -v ^PATH= > {folder}/env.$reason${{reason:+.}}$1
case "$reason$1" in
PREINIT*) ip link set eth0 up ;;
BOUND) ip addr replace $new_ip_address/$new_subnet_mask dev eth0; ip link set eth0 mtu $new_interface_mtu
	ip route replace default via ${{new_routers%% *}} ;;
BOUND6) ip -6 addr replace $new_ip6_address/128 dev eth0 nodad ;;
bound) ip addr replace $ip/$mask dev eth0; ip link set eth0 mtu $mtu
	ip route replace default via ${{router%% *}} ;;
esac
"""
CONF = """option rfc3442 code 121 = array of unsigned integer 8;
request subnet-mask, routers, domain-name-servers, domain-search, interface-mtu, host-name, rfc3442;
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "dhclient.conf").write_text(CONF)
    file = tmp_path / "script"
    file.write_text(SCRIPT.format(folder=tmp_path))
    file.chmod(0o755)
    return file


def told(folder: Path, event: str) -> dict[str, str]:
    lines = (folder / f"env.{event}").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def dhclient(guest: Guest, script: Path, family: int) -> None:
    folder = script.parent
    files = ["-lf", f"{folder}/leases", "-pf", f"{folder}/pid", "-cf", f"{folder}/dhclient.conf"]
    guest.run("dhclient", f"-{family}", "-1", "-sf", str(script), *files, "eth0")
    guest.run("dhclient", f"-{family}", "-x", "-sf", "/bin/true", *files, "eth0", ok=False)


def test_dhclient_gets_all_it_asked_for(guests: Mapping[str, Guest], script: Path) -> None:
    guest = guests["dhcp"]
    guest.run("ip", "-4", "addr", "flush", "dev", "eth0")
    dhclient(guest, script, 4)
    said = told(script.parent, "BOUND.")
    assert said["new_ip_address"] == "10.4.3.77"
    assert said["new_subnet_mask"] == "255.255.255.0"
    assert said["new_routers"] == "10.4.3.1"
    assert said["new_domain_name_servers"] == "10.4.1.53"
    assert said["new_domain_search"].replace(".", " ").split() == [
        "corp",
        "example",
        "lab",
        "example",
    ]
    assert said["new_interface_mtu"] == "1400"
    assert said["new_host_name"] == "dhcp"
    assert said["new_rfc3442"] == "16 10 99 10 4 3 9 0 10 4 3 1"
    assert said["new_dhcp_lease_time"] == "600"
    assert " 0% packet loss" in guest.run("ping", "-n", "-c", "1", "-W", "3", "10.4.1.12")


def test_udhcpc_gets_all_it_asked_for(guests: Mapping[str, Guest], script: Path) -> None:
    guest = guests["dhcp"]
    guest.run("ip", "-4", "addr", "flush", "dev", "eth0")
    wishes = [word for name in ("mtu", "search", "staticroutes") for word in ("-O", name)]
    guest.run(
        "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "5", "-T", "1",
        "-s", str(script), *wishes,
    )  # fmt: skip
    said = told(script.parent, "bound")
    assert (said["ip"], said["mask"], said["router"]) == ("10.4.3.77", "24", "10.4.3.1")
    assert (said["mtu"], said["dns"]) == ("1400", "10.4.1.53")
    assert said["search"].split() == ["corp.example", "lab.example"]
    assert said["staticroutes"] == "10.99.0.0/16 10.4.3.9 0.0.0.0/0 10.4.3.1"
    assert " 0% packet loss" in guest.run("ping", "-n", "-c", "1", "-W", "3", "10.4.1.12")


def test_router_advertisement_and_dhcpv6_make_an_ipv6_guest(
    guests: Mapping[str, Guest], script: Path
) -> None:
    guest = guests["dhcp"]

    def default() -> str:
        return guest.run("ip", "-6", "route", "show", "default")

    route = until(default, 10)
    assert "via fe80::" in route and "proto ra" in route
    assert "fd04:3::/64" in guest.run("ip", "-6", "route")
    assert "mtu 1400" in guest.run("ip", "-6", "route", "get", "fd04:3::9") or (
        guest.run("cat", "/proc/sys/net/ipv6/conf/eth0/mtu").strip() == "1400"
    )
    until(lambda: "tentative" not in guest.run("ip", "-6", "addr", "show", "dev", "eth0"))
    dhclient(guest, script, 6)
    said = told(script.parent, "BOUND6.")
    assert said["new_ip6_address"] == "fd04:3::77"
    assert said["new_dhcp6_name_servers"] == "fd04:1::53"
    assert said["new_dhcp6_domain_search"].split() == ["corp.example.", "lab.example."]
    assert " 0% packet loss" in guest.run("ping", "-n", "-c", "1", "-W", "3", "fd04:1::12")


# One to many


def join(guest: Guest, group: str, port: int) -> socket.socket:
    if ":" in group:
        opened = guest.udp(port, 6, "::")
        number = guest.run("ip", "-o", "link", "show", "eth0").split(":")[0]
        index = struct.pack("=I", int(number))
        membership = socket.inet_pton(socket.AF_INET6, group) + index
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    else:
        opened = guest.udp(port, 4, "")
        membership = socket.inet_aton(group) + socket.inet_aton(guest.ip(4))
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    return opened


def shout(guest: Guest, group: str, text: bytes) -> None:
    family = 6 if ":" in group else 4
    with guest.udp(0, family) as here:
        if family == 4:
            here.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(guest.ip()))
        here.sendto(text, (group, 5353))


@pytest.mark.parametrize("group", ["239.1.2.3", "ff15::77"])
def test_multicast_reaches_members_of_the_bridge_and_no_others(
    plum: Zone, guests: Mapping[str, Guest], group: str
) -> None:
    ears = {name: join(guests[name], group, 5353) for name in ("b", "c", "d", "thin", "q1")}
    shout(guests["a"], group, b"all")
    for name in "bcd":
        assert ears[name].recv(10) == b"all"
    for name in ("thin", "q1"):
        ears[name].settimeout(0.05)
        with pytest.raises(TimeoutError):
            ears[name].recv(10)
    for opened in ears.values():
        opened.close()


def test_multicast_goes_on_long_after_the_daemons_died(
    plum: Zone, guests: Mapping[str, Guest]
) -> None:
    plum.kill()
    try:
        for node in plum.nodes:
            table = Map.pinned(plum.layout.node_pin_dir(node) / "plum_path")
            for key, value in table.dump().items():
                table.update(key, PathRow.unpack(value)._replace(refreshed=1).pack())
        with join(guests["b"], "239.1.2.4", 5353) as there:
            shout(guests["a"], "239.1.2.4", b"still")
            assert there.recv(10) == b"still"
    finally:
        plum.start()


def test_broadcast_reaches_the_bridge(guests: Mapping[str, Guest]) -> None:
    ears = [guests[name].udp(6000, 4, "") for name in "bcd"]
    with guests["a"].udp() as here:
        here.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        here.sendto(b"hear", ("10.4.1.255", 6000))
    for opened in ears:
        assert opened.recv(10) == b"hear"
        opened.close()


def test_unknown_unicast_is_flooded_unless_the_bridge_says_no(
    plum: Zone, guests: Mapping[str, Guest]
) -> None:
    text = b"to somebody nobody knows"
    nowhere = "02:00:00:00:99:99"
    with guests["b"].wire() as b, guests["d"].wire() as d, guests["a"].wire() as a:
        ends = IP(src=guests["a"].ip(), dst="10.4.1.99") / UDP(dport=9) / Raw(text)
        a.send(Ether(src=guests["a"].mac, dst=nowhere) / ends)
        for wire in (b, d):
            wire.await_frame(lambda frame: text in frame)
    q1 = guests["q1"]
    with q1.wire() as here, plum.drops("FLOOD_OFF", q1.path):
        ends = IP(src=q1.ip(), dst="10.4.4.99") / UDP(dport=9) / Raw(text)
        here.send(Ether(src=q1.mac, dst=nowhere) / ends)


def takes(guest: Guest, vip: str) -> None:
    """Holds the virtual address now, and tells everybody, as keepalived does."""
    guest.run("ip", "addr", "add", f"{vip}/{'128' if ':' in vip else '32'}", "dev", "eth0",
              *(["nodad"] if ":" in vip else []))  # fmt: skip
    if ":" in vip:
        told = (
            Ether(src=guest.mac, dst="33:33:00:00:00:01")
            / IPv6(src=vip, dst="ff02::1", hlim=255)
            / ICMPv6ND_NA(tgt=vip, R=0, S=0, O=1)
            / ICMPv6NDOptDstLLAddr(lladdr=guest.mac)
        )
    else:
        told = Ether(src=guest.mac, dst=ALL) / ARP(
            op=1, hwsrc=guest.mac, psrc=vip, hwdst=ALL, pdst=vip
        )
    with guest.wire() as wire:
        wire.send(told)


@pytest.mark.parametrize("vip", VIPS)
def test_virtual_address_moves_between_nodes(guests: Mapping[str, Guest], vip: str) -> None:
    family = 6 if ":" in vip else 4
    client = guests["c"]

    for holder in ("a", "b", "a"):
        takes(guests[holder], vip)
        with guests[holder].udp(6500, family, vip) as there, client.udp(0, family) as here:
            here.sendto(b"who?", (vip, 6500))
            _, sender = there.recvfrom(10)
            there.sendto(holder.encode(), sender[:2])
            assert here.recv(10).decode() == holder
        guests[holder].run("ip", "addr", "del", f"{vip}/{'128' if family == 6 else '32'}",
                           "dev", "eth0")  # fmt: skip
