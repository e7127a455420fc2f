"""Numbers that are handed out once: kept in the store beside the last revision's."""

from __future__ import annotations

from collections.abc import Container

from daemon.model.base import Model

FIRST_VNI = 4096  # below: left to physical networks
LAST_VNI = 0xFFFFFE  # of 24 bits (RFC 7348); the last one is the datapath's own probes'


class Counters(Model):
    """The last number given, by kind. 0: none yet."""

    seq: int = 0
    domain: int = 0
    endpoint: int = 0
    router: int = 0
    balancer: int = 0
    vni: int = FIRST_VNI - 1
    nat_block: int = 0  # place of the last one in its pool


class Numbers:
    """Hands out numbers from where the counters stand."""

    def __init__(self, start: Counters) -> None:
        self.seq = start.seq
        self.domain = start.domain
        self.endpoint = start.endpoint
        self.router = start.router
        self.balancer = start.balancer
        self.vni = start.vni
        self.nat_block = start.nat_block

    def next_domain(self) -> int:
        self.domain += 1
        return self.domain

    def next_endpoint(self) -> int:
        self.endpoint += 1
        return self.endpoint

    def next_router(self) -> int:
        self.router += 1
        return self.router

    def next_balancer(self) -> int:
        self.balancer += 1
        return self.balancer

    def next_vni(self, used: Container[int]) -> int | None:
        """The next VNI nobody has; given-back ones come round after all others."""
        for _ in range(LAST_VNI - FIRST_VNI + 1):
            self.vni = self.vni + 1 if self.vni < LAST_VNI else FIRST_VNI
            if self.vni not in used:
                return self.vni
        return None

    def counters(self) -> Counters:
        return Counters(
            seq=self.seq,
            domain=self.domain,
            endpoint=self.endpoint,
            router=self.router,
            balancer=self.balancer,
            vni=self.vni,
            nat_block=self.nat_block,
        )
