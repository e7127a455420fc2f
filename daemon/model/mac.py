"""MAC addresses Plum makes, and the link-local addresses that follow from a MAC."""

from __future__ import annotations

from ipaddress import IPv6Address


def router_mac(router_id: int) -> str:
    """MAC of a virtual router, the same on every node: 02:72 and the id in 4 bytes."""
    text = f"0272{router_id:08x}"
    return ":".join(text[i : i + 2] for i in range(0, 12, 2))


def balancer_mac(balancer_id: int) -> str:
    """MAC of a load balancer, the same on every node: 02:6c and the id in 4 bytes."""
    text = f"026c{balancer_id:08x}"
    return ":".join(text[i : i + 2] for i in range(0, 12, 2))


def link_local(mac: str) -> IPv6Address:
    """fe80:: and the modified EUI-64 of a MAC (RFC 4291, appendix A)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    host = bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + host)


def endpoint_mac(endpoint_id: int) -> str:
    """MAC of an endpoint whose manifest gives none: 02:65 and the id in 4 bytes."""
    text = f"0265{endpoint_id:08x}"
    return ":".join(text[i : i + 2] for i in range(0, 12, 2))
