"""Rows of endpoints with a rate or a mark."""

from __future__ import annotations

from collections.abc import Iterable

from daemon import abi
from daemon.compiler.result import Table
from daemon.compiler.seat import Seat
from daemon.model import qos

_NS = 1e9
_MIB_BITS = 8 * 2**20


def limit_rows(local: Iterable[Seat]) -> Table:
    rows: Table = {}
    for seat in local:
        wanted = seat.endpoint.spec.qos
        if seat.ifindex and limited(wanted):
            mark = 0 if wanted.dscp is None else abi.Qos.MARK | wanted.dscp
            rows[abi.Index(seat.endpoint.slot)] = abi.Limit(
                *_meter(wanted.egress), *_meter(wanted.ingress), mark
            )
    return rows


def limited(wanted: qos.Qos) -> bool:
    return wanted != _NONE


_NONE = qos.Qos()


def _meter(limit: qos.Limit | None) -> tuple[int, int]:
    """Nanoseconds per MiB, and of the burst; zeros: no limit."""
    if limit is None:
        return 0, 0
    return round(_MIB_BITS / (limit.rate_kbit * 1e3) * _NS), round(limit.burst_s * _NS)
