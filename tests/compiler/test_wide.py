"""One 16-byte form for both families, and keeping them apart in it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from daemon.compiler.wide import IPV4, covers, hides_ipv4, wide, wide_prefix, without_ipv4


def test_ipv4_is_mapped() -> None:
    assert wide(ip_address("10.0.0.1")).hex() == "00" * 10 + "ffff" + "0a000001"
    assert wide_prefix(ip_network("10.0.0.0/8")).bits == 104
    assert wide_prefix(ip_network("fd00::/8")).bits == 8


@pytest.mark.parametrize(
    ("prefix", "hides"),
    [("::/0", True), ("::/1", True), ("::/80", True), ("8000::/1", False), ("fd00::/8", False),
     ("0.0.0.0/0", False)],
)  # fmt: skip
def test_short_ipv6_prefixes_hide_ipv4(prefix: str, hides: bool) -> None:
    assert hides_ipv4(wide_prefix(ip_network(prefix))) is hides


@pytest.mark.parametrize("text", ["::/0", "::/1", "::/80"])
def test_without_ipv4_holds_all_the_rest_once(text: str) -> None:
    whole = wide_prefix(ip_network(text))
    parts = without_ipv4(whole)
    assert len(parts) == IPV4.bits - whole.bits
    assert not any(covers(part, IPV4) or covers(IPV4, part) for part in parts)
    size = sum(1 << (128 - part.bits) for part in parts)
    assert size == (1 << (128 - whole.bits)) - (1 << 32)
    for one in parts:
        assert [other for other in parts if covers(other, one)] == [one]
