"""Quality of service of an endpoint: how fast it may send and be sent to, and its mark."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from daemon.model.base import Model

#: Code points by name (RFC 2474, 2597, 3246, 5865, 8622).
DSCP = {
    **{f"cs{number}": 8 * number for number in range(8)},
    **{f"af{group}{drop}": 8 * group + 2 * drop for group in range(1, 5) for drop in range(1, 4)},
    "le": 1,
    "va": 44,
    "ef": 46,
}


def _number(value: object) -> object:
    if isinstance(value, str) and not value.isdigit():
        if value.lower() not in DSCP:
            raise ValueError(f"no code point is called {value!r}: {', '.join(sorted(DSCP))}")
        return DSCP[value.lower()]
    return value


CodePoint = Annotated[int, BeforeValidator(_number), Field(ge=0, le=63)]


class Limit(Model):
    #: Thousands of bits per second, of whole Ethernet frames as the workload hands them over.
    rate_kbit: int = Field(ge=10, le=400_000_000)
    #: What may pass at once after a pause, in 1,000 bytes. Default: what passes in 250 ms.
    burst_kbyte: int | None = Field(default=None, ge=2, le=10_000_000)

    @property
    def burst_s(self) -> float:
        """How long the burst takes at the rate."""
        if self.burst_kbyte is None:
            return DEFAULT_BURST_S
        return self.burst_kbyte * 8e3 / (self.rate_kbit * 1e3)


#: TCP that lost a whole window says nothing for 200 ms (RFC 6298, as Linux does it). What it
#: may send after that makes up for the pause, so that it reaches the rate.
DEFAULT_BURST_S = 0.25


class Qos(Model):
    egress: Limit | None = None  # what the endpoint sends
    ingress: Limit | None = None  # what it is sent
    #: A number, or a name such as `ef`: its packets leave with it, also on the underlay.
    dscp: CodePoint | None = None
