"""Rows about nodes, and MTUs."""

from __future__ import annotations

import pytest

from daemon.abi import Config, Index, Vtep, VtepKey
from daemon.abi import Node as NodeRow
from daemon.compiler.underlay import bridge_mtu, tunnel_mtu, underlay_rows
from daemon.compiler.wide import wide
from daemon.model.domain import Bridge
from tests.compiler.build import RUNTIME, node


@pytest.mark.parametrize(
    ("nodes", "own", "expected"),
    [
        ([(1, None, 1500)], None, 1450),
        ([(1, "2001:db8::1", 1500)], None, 1430),
        ([(1, None, 9000), (2, None, 1500)], None, 1450),
        ([(1, None, 9000), (2, "2001:db8::2", 9000)], None, 8930),
        ([(1, None, 1500)], 1400, 1400),
        ([(1, None, 1500)], 9000, 1450),
    ],
)
def test_mtu_is_the_least_of_bridge_and_underlays(
    nodes: list[tuple[int, str | None, int]], own: int | None, expected: int
) -> None:
    tunnel = tunnel_mtu(node(*one) for one in nodes)
    assert bridge_mtu(Bridge(name="b", mtu=own), tunnel) == expected


def test_vteps_are_the_other_nodes_and_nodes_are_all() -> None:
    nodes = [node(2), node(1), node(3, "2001:db8::3")]
    rows = underlay_rows(nodes, nodes[0], RUNTIME)
    addresses = {n.id: wide(n.spec.vtep) for n in nodes}
    assert rows["plum_node"] == {Index(i): NodeRow(a) for i, a in addresses.items()}
    assert rows["plum_vtep"] == {VtepKey(addresses[i]): Vtep(i) for i in (1, 3)}
    config = rows["plum_config"][Index(0)]
    assert isinstance(config, Config)
    assert (config.vtep, config.node, config.underlay_ifindex) == (addresses[2], 2, 2)
