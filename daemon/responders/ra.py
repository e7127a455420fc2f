"""Router advertisements (RFC 4861, 4191, 8106). Pure.

Addresses come by DHCPv6: the managed flag is set and prefixes are on-link but
not for autoconfiguration, because port security admits only addresses the
model knows.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from daemon.model.mac import link_local
from daemon.responders import names
from daemon.responders.facts import VIRTUAL_SERVER_MAC, Facts, Gateway
from daemon.responders.frames import PROTO_ICMP6, build_icmp6, checksum, parse, pseudo6

ROUTER_SOLICITATION = 133
ROUTER_ADVERTISEMENT = 134
ALL_NODES = IPv6Address("ff02::1")
ALL_NODES_MAC = bytes.fromhex("333300000001")
HOP_LIMIT = 64
ROUTER_LIFETIME_S = 9000  # the most RFC 4861 allows: our router does not go away
PREFIX_LIFETIME_S = 0xFFFFFFFF
#: Unsolicited advertisements come this often; well within the lifetimes above.
INTERVAL_S = 200.0

_MANAGED, _OTHER = 0x80, 0x40
_ON_LINK = 0x80
_UNSPECIFIED = IPv6Address(0)


def answer(frame: bytes, facts: Facts) -> list[bytes]:
    """Advertisements for a router solicitation, one for each router of the bridge."""
    outer = parse(frame)
    if outer is None or outer.src_mac != facts.mac or not serves(facts):
        return []
    src, dst = outer.src, outer.dst
    if not isinstance(src, IPv6Address) or not isinstance(dst, IPv6Address):
        return []
    message = outer.payload
    if outer.protocol != PROTO_ICMP6 or outer.hops != 255 or len(message) < 8:
        return []
    if message[0] != ROUTER_SOLICITATION or message[1] != 0:
        return []
    if checksum(pseudo6((src, dst), len(message), PROTO_ICMP6) + message) != 0:
        return []
    if src == _UNSPECIFIED:
        return unsolicited(facts)
    if src.is_multicast:
        return []
    return [_advertise(gateway, facts, facts.mac, src) for gateway in _gateways(facts)]


def unsolicited(facts: Facts) -> list[bytes]:
    """Advertisements to all nodes; nothing for a bridge without IPv6."""
    if not serves(facts):
        return []
    return [_advertise(gateway, facts, ALL_NODES_MAC, ALL_NODES) for gateway in _gateways(facts)]


def serves(facts: Facts) -> bool:
    return bool(facts.subnets6 or any(gateway.addresses6 for gateway in facts.gateways))


def _gateways(facts: Facts) -> list[Gateway]:
    with_ip6 = [gateway for gateway in facts.gateways if gateway.addresses6]
    return with_ip6 or [Gateway(VIRTUAL_SERVER_MAC)]


def _advertise(gateway: Gateway, facts: Facts, mac: bytes, address: IPv6Address) -> bytes:
    source = link_local(gateway.mac.hex())
    lifetime = ROUTER_LIFETIME_S if gateway.addresses6 else 0
    message = struct.pack(
        "!BBHBBHII",
        ROUTER_ADVERTISEMENT,
        0,
        0,
        HOP_LIMIT,
        _MANAGED | _OTHER,
        lifetime,
        0,
        0,
    )
    message += _option(1, gateway.mac)
    message += _option(5, struct.pack("!HI", 0, facts.mtu_bytes))
    for net in facts.subnets6:
        message += _option(
            3,
            struct.pack(
                "!BBIII16s",
                net.prefixlen,
                _ON_LINK,
                PREFIX_LIFETIME_S,
                PREFIX_LIFETIME_S,
                0,
                net.network_address.packed,
            ),
        )
    own = {face.ip for face in gateway.addresses6}
    for route in facts.routes6:
        if route.via in own:
            prefix = route.to.network_address.packed[: (route.to.prefixlen + 63) // 64 * 8]
            message += _option(
                24, struct.pack("!BBI", route.to.prefixlen, 0, ROUTER_LIFETIME_S) + prefix
            )
    if facts.dns6:
        packed = b"".join(server.packed for server in facts.dns6)
        message += _option(25, struct.pack("!HI", 0, ROUTER_LIFETIME_S) + packed)
    if search := names.encode(facts.search):
        message += _option(31, struct.pack("!HI", 0, ROUTER_LIFETIME_S) + search)
    return build_icmp6((gateway.mac, mac), (source, address), message)


def _option(kind: int, body: bytes) -> bytes:
    """An ND option, padded to its unit of 8 bytes; left out beyond 255 units."""
    units = (len(body) + 2 + 7) // 8
    if units > 255:
        return b""
    return (bytes([kind, units]) + body).ljust(units * 8, b"\0")
