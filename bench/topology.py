"""The contenders: what an operator could pick instead, on the same ground.

    client --veth-- node A --veth (underlay)-- node B --veth-- server

Each namespace is its own network stack. Endpoints have the same MTU, the same
GSO limit and veth's own offloads in every contender. Neighbours are permanent,
so that nobody measures ARP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from bench.loadtool import Ends, probe
from bench.netns import inside, ip, namespaces, set_sysctls

UNDERLAY_MTU_BYTES = 1500
ENDPOINT_MTU_BYTES = 1450
#: 64 KiB less any outer header: the outer length field has 16 bits.
GSO_MAX_BYTES = 65000

#: Policies of every contender that has any: these ports are open, no other is.
OPEN_PORT = 5201
REFUSED_PORT = 7999

#: Host numbers of the two ends, and of the routers between them.
CLIENT, SERVER, ROUTER_HOST = 1, 2, 254


class ContenderFailed(Exception):
    """A contender does not do what it must before it may be measured."""


@dataclass(frozen=True)
class Contender:
    name: str
    #: Takes a prefix for namespace names and the IP version, yields the ends.
    build: Callable[[str, int], AbstractContextManager[Ends]]
    enforces: bool  #: has policies: REFUSED_PORT must be refused


def up(contender: Contender, prefix: str, version: int = 4) -> AbstractContextManager[Ends]:
    """The contender's ends, once its policies were seen to work."""

    @contextmanager
    def checked() -> Iterator[Ends]:
        with contender.build(f"{prefix}-{contender.name}", version) as ends:
            check_policies(contender, ends)
            yield ends

    return checked()


def check_policies(contender: Contender, ends: Ends) -> None:
    """The open port must be reachable, the refused one only where nothing enforces."""
    for protocol in ("tcp", "udp"):
        if not probe(ends, protocol, OPEN_PORT, seconds=3).through:
            raise ContenderFailed(f"{contender.name}: {protocol} port {OPEN_PORT} is not reached")
        if probe(ends, protocol, REFUSED_PORT, seconds=0.3).through == contender.enforces:
            verb = "let through" if contender.enforces else "refused"
            raise ContenderFailed(f"{contender.name}: {protocol} port {REFUSED_PORT} is {verb}")


def address(version: int, subnet: int, host: int) -> str:
    return f"10.9.{subnet}.{host}" if version == 4 else f"fd00:9:{subnet}::{host}"


def prefix_bits(version: int) -> int:
    return 24 if version == 4 else 64


def mac(subnet: int, host: int) -> str:
    return f"02:00:00:00:{subnet:02x}:{host:02x}"


def veth(left: str, left_device: str, right: str, right_device: str, mtu_bytes: int) -> None:
    """A pair between two namespaces, both ends with the same MTU and offloads."""
    ip(left, f"link add {left_device} type veth peer name {right_device} netns {right}")
    for netns, device in ((left, left_device), (right, right_device)):
        ip(netns, f"link set {device} mtu {mtu_bytes} gso_max_size {GSO_MAX_BYTES} up")


def make_devices(node: str, workloads: str, count: int, name: str) -> None:
    """`count` veth pairs `<name>0`, `<name>1`, ... between a node and one namespace."""
    ip(
        node,
        *(
            f"link add {name}{number} type veth peer name {name}{number} netns {workloads}"
            for number in range(count)
        ),
    )


def give_address(netns: str, device: str, version: int, subnet: int, host: int) -> None:
    nodad = " nodad" if version == 6 else ""
    ip(
        netns,
        f"link set {device} address {mac(subnet, host)}",
        f"address add {address(version, subnet, host)}/{prefix_bits(version)} dev {device}{nodad}",
    )


def know(
    netns: str, device: str, version: int, subnet: int, host: int, lladdr: str | None = None
) -> None:
    """A permanent neighbour entry."""
    there = address(version, subnet, host)
    at = lladdr or mac(subnet, host)
    ip(netns, f"neighbour replace {there} lladdr {at} dev {device} nud permanent")


@contextmanager
def bare_veth(prefix: str, version: int) -> Iterator[Ends]:
    """Client and server on one veth pair: what the two stacks alone cost."""
    client, server = f"{prefix}-c", f"{prefix}-s"
    with namespaces(client, server):
        veth(client, "eth0", server, "eth0", ENDPOINT_MTU_BYTES)
        join_subnet(client, server, version)
        yield Ends(client, server, address(version, 1, SERVER))


def join_subnet(client: str, server: str, version: int) -> None:
    """Both endpoints in one subnet, knowing each other."""
    give_address(client, "eth0", version, 1, CLIENT)
    give_address(server, "eth0", version, 1, SERVER)
    know(client, "eth0", version, 1, SERVER)
    know(server, "eth0", version, 1, CLIENT)


@contextmanager
def two_nodes(prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """client, node A, node B, server: devices made, nothing forwards yet.

    On a node `ep0` leads to the endpoint, `under0` (192.0.2.1 and .2) to the other node.
    """
    names = (f"{prefix}-c", f"{prefix}-a", f"{prefix}-b", f"{prefix}-s")
    client, a, b, server = names
    with namespaces(*names):
        veth(client, "eth0", a, "ep0", ENDPOINT_MTU_BYTES)
        veth(server, "eth0", b, "ep0", ENDPOINT_MTU_BYTES)
        veth(a, "under0", b, "under0", UNDERLAY_MTU_BYTES)
        for netns, host in ((a, 1), (b, 2)):
            ip(netns, f"address add 192.0.2.{host}/24 dev under0")
            ip(netns, f"link set under0 address {mac(0, host)}")
            ip(netns, f"neighbour replace 192.0.2.{3 - host} lladdr {mac(0, 3 - host)} dev under0")
        yield names


@contextmanager
def linux_routing(prefix: str, version: int) -> Iterator[Ends]:
    """Both nodes route, no overlay: subnet 1 at node A, 2 at node B, 3 between."""
    with two_nodes(prefix) as (client, a, b, server):
        for node, host, subnet in ((a, 1, 1), (b, 2, 2)):
            endpoint = client if node == a else server
            give_address(endpoint, "eth0", version, subnet, host)
            give_address(node, "ep0", version, subnet, ROUTER_HOST)
            give_address(node, "under0", version, 3, host)
        for node, endpoint, host in ((a, client, 1), (b, server, 2)):
            far = 3 - host
            know(endpoint, "eth0", version, host, ROUTER_HOST)
            know(node, "ep0", version, host, host)
            know(node, "under0", version, 3, far)
            route(endpoint, version, far, via=address(version, host, ROUTER_HOST))
            route(node, version, far, via=address(version, 3, far))
            set_sysctls(node, {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
        yield Ends(client, server, address(version, 2, SERVER))


def route(netns: str, version: int, subnet: int, via: str) -> None:
    ip(netns, f"route add {address(version, subnet, 0)}/{prefix_bits(version)} via {via}")


@contextmanager
def overlay(prefix: str, version: int, *, nft: str | None) -> Iterator[Ends]:
    """A bridge and a vxlan device on each node, the other end known, nothing learned."""
    with two_nodes(prefix) as (client, a, b, server):
        join_subnet(client, server, version)
        for node, local, far in ((a, 1, SERVER), (b, 2, CLIENT)):
            ip(
                node,
                "link add br0 type bridge stp_state 0 mcast_snooping 0",
                f"link add vx0 type vxlan id 7 local 192.0.2.{local} dstport 4789 nolearning",
                f"link set vx0 mtu {ENDPOINT_MTU_BYTES} gso_max_size {GSO_MAX_BYTES} master br0 up",
                "link set ep0 master br0",
                "link set br0 up",
            )
            filters = int(nft is not None)
            set_sysctls(
                node,
                {
                    "net.bridge.bridge-nf-call-iptables": filters,
                    "net.bridge.bridge-nf-call-ip6tables": filters,
                },
            )
            know_port = ["bridge", "fdb", "replace", mac(1, far), "dev", "vx0"]
            inside(node, [*know_port, "dst", f"192.0.2.{3 - local}", "self", "static"])
            inside(node, [*know_port, "master", "static"])
            if nft is not None:
                inside(node, ["nft", "-f", "-"], stdin=nft)
        yield Ends(client, server, address(version, 1, SERVER))


def stateful_rules(count: int) -> str:
    """An nft table as a security group has it: established passes, then a linear list
    of `count` rules, of which the last two match, then drop.
    """
    fill = [
        f"ip saddr 198.18.{number >> 8 & 255}.{number & 255} "
        f"tcp dport {1024 + number % 4096} accept"
        for number in range(count - 2)
    ]
    opens = [f"{protocol} dport {OPEN_PORT} accept" for protocol in ("tcp", "udp")]
    rules = "\n".join(
        ["ct state established,related accept", "ct state invalid drop", *fill, *opens]
    )
    return (
        "table inet bench {\n chain forward {\n"
        f"type filter hook forward priority filter; policy drop;\n{rules}\n}}\n}}\n"
    )


def bridge_vxlan() -> Contender:
    return Contender("vxlan", lambda prefix, version: overlay(prefix, version, nft=None), False)


def bridge_vxlan_nft(rules: int = 5) -> Contender:
    """Conntrack and linear rules on both nodes, where each endpoint's own rules are checked."""
    return Contender(
        f"nft{rules}",
        lambda prefix, version: overlay(prefix, version, nft=stateful_rules(rules)),
        True,
    )


MASQUERADE = """
table ip bench_nat {
 chain out {
  type nat hook postrouting priority srcnat; oifname "ep0" masquerade
 }
}
"""


def masquerade(rules: int = 5) -> Contender:
    """Node A routes, node B is the router that masquerades towards the server."""

    @contextmanager
    def build(prefix: str, version: int) -> Iterator[Ends]:
        with linux_routing(prefix, version) as ends:
            inside(f"{prefix}-b", ["nft", "-f", "-"], stdin=stateful_rules(rules) + MASQUERADE)
            yield ends

    return Contender("masquerade", build, True)


VETH = Contender("veth", bare_veth, False)
ROUTING = Contender("routing", linux_routing, False)


def linux_contenders() -> tuple[Contender, ...]:
    """Those of the forwarding suite, bare veth first."""
    return (VETH, ROUTING, bridge_vxlan(), bridge_vxlan_nft())
