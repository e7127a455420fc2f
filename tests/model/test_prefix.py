"""NPTv6 against RFC 6296: its own example, and what its checksum promises."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.model.domain import Uplink
from daemon.model.prefix import one_to_one, translated

INSIDE, OUTSIDE = IPv6Network("fd01:203:405::/48"), IPv6Network("2001:db8:1::/48")


def test_the_example_of_the_rfc() -> None:
    inner, outer = IPv6Address("fd01:203:405:1::1234"), IPv6Address("2001:db8:1:d550::1234")
    assert translated(inner, INSIDE, OUTSIDE) == outer
    assert translated(outer, OUTSIDE, INSIDE) == inner


def test_a_subnet_of_ones_has_no_other_address() -> None:
    assert translated(IPv6Address("fd01:203:405:ffff::1"), INSIDE, OUTSIDE) is None
    ones = IPv6Address("fd00::ffff:ffff:ffff:ffff")
    assert translated(ones, IPv6Network("fd00::/64"), IPv6Network("2001:db8::/64")) is None


def ones_sum(address: IPv6Address) -> int:
    """What a transport's checksum takes from it."""
    packed = address.packed
    return sum(int.from_bytes(packed[i : i + 2], "big") for i in range(0, 16, 2)) % 0xFFFF


@given(
    bits=st.integers(16, 64),
    inside=st.integers(0, (1 << 128) - 1),
    outside=st.integers(0, (1 << 128) - 1),
    host=st.integers(0, (1 << 128) - 1),
)
def test_checksums_stay_and_the_way_back_is_the_same(
    bits: int, inside: int, outside: int, host: int
) -> None:
    ours, theirs = (IPv6Network((number, bits), strict=False) for number in (inside, outside))
    inner = IPv6Address(int(ours.network_address) | host & int(ours.hostmask))
    outer = translated(inner, ours, theirs)
    if outer is None:
        return
    assert outer in theirs
    assert ones_sum(outer) == ones_sum(inner)
    assert translated(outer, theirs, ours) == inner


def test_a_floating_address_goes_before_the_prefix() -> None:
    uplink = Uplink.model_validate(
        {
            "network": "internet",
            "floating": [{"address": "2001:db8::5", "endpoint": "a"}],
            "prefixes": [{"inside": "fd00::/64", "outside": "2001:db8:0:1::/64"}],
        }
    )
    a, b = IPv6Address("fd00::a"), IPv6Address("fd00::b")
    other = IPv6Address("fd00:0:0:1::1")
    pairs = list(one_to_one(uplink, {"a": [a], "b": [b, other]}))
    assert [(name, own) for _, name, own in pairs] == [("a", a), ("b", b)]
    assert pairs[0][0] == IPv6Address("2001:db8::5")
    assert pairs[1][0] in IPv6Network("2001:db8:0:1::/64")


@pytest.mark.parametrize("text", ["fd00::1/64", "10.0.0.0/8"])
def test_a_prefix_is_one_of_ipv6(text: str) -> None:
    with pytest.raises(ValueError, match="inside"):
        Uplink.model_validate(
            {"network": "x", "prefixes": [{"inside": text, "outside": "2001:db8::/64"}]}
        )
