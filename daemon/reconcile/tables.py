"""Rows as the kernel holds them: packed keys and values, by table. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.abi import Ep, EpKey
from daemon.compiler.result import Packed

#: Table -> packed key -> packed value.
Tables = Packed

EP = "plum_ep"


def endpoints_by_slot(tables: Mapping[str, Mapping[bytes, bytes]]) -> dict[int, int]:
    """Slot -> endpoint id, of the endpoints that are open."""
    rows = (Ep.unpack(value) for value in tables.get(EP, {}).values())
    return {row.slot: row.id for row in rows}


def ep_key(ifindex: int) -> bytes:
    return EpKey(ifindex).pack()
