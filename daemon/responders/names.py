"""Domain names on the wire (RFC 1035, 3.1), uncompressed as DHCPv6 and RA ask. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def encode(names: Iterable[str]) -> bytes:
    """Every name that fits the wire format; the others are left out."""
    return b"".join(wire for name in names if (wire := _encode_one(name)))


def _encode_one(name: str) -> bytes:
    try:
        labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    except UnicodeEncodeError:
        return b""
    if any(not 0 < len(label) <= 63 for label in labels):
        return b""
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return wire if len(wire) <= 255 else b""
