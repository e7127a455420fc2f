"""Load balancer: virtual addresses, and the endpoints that answer for them."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from daemon.model.base import Address, Model, Name


class BalancedProtocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"


class Affinity(StrEnum):
    NONE = "none"
    SOURCE = "source"  # all connections of a client address go to one backend


class Listener(Model):
    protocol: BalancedProtocol = BalancedProtocol.TCP
    port: int = Field(ge=1, le=65535)
    #: On the backend; default: the same.
    to_port: int | None = Field(default=None, ge=1, le=65535)


class Backend(Model):
    endpoint: Name
    #: Share of the new connections, relative to the others. 0: none; what it has it keeps.
    weight: int = Field(default=1, ge=0, le=100)


class CheckKind(StrEnum):
    TCP = "tcp"  # a connection opens
    HTTP = "http"  # a GET is answered with the expected status
    HTTPS = "https"  # the same over TLS, whoever signed the certificate
    UDP = "udp"  # a datagram is answered


class StatusRange(Model):
    first: int = Field(ge=100, le=599)
    last: int = Field(ge=100, le=599)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first > self.last:
            raise ValueError("first is above last")
        return self


class Health(Model):
    """How the node of a backend finds out whether it serves."""

    kind: CheckKind = CheckKind.TCP
    #: On the backend; default: where the first listener of the same protocol goes.
    port: int | None = Field(default=None, ge=1, le=65535)
    #: Of http and https.
    path: str = Field(default="/", pattern=r"^/[!-~]*$", max_length=1024)
    #: Name in the Host header of http and https; default: the virtual address.
    host: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.:\[\]-]+$", max_length=255)
    #: Of http and https.
    status: int | StatusRange = Field(default=StatusRange(first=200, last=399))
    #: What a udp check says; characters up to U+00FF are bytes.
    send: str | None = Field(default=None, min_length=1, max_length=1024)
    interval_s: float = Field(default=5.0, ge=0.2, le=3600)
    #: At most the interval.
    timeout_s: float = Field(default=1.0, ge=0.1, le=60)
    #: So many good checks in a row make a backend that is down up again.
    rise: int = Field(default=2, ge=1, le=100)
    #: So many bad ones in a row make it down.
    fall: int = Field(default=3, ge=1, le=100)


class LoadBalancer(Model):
    name: Name
    #: Bridge whose subnets hold the addresses; who is on it finds them there.
    bridge: Name
    addresses: tuple[Address, ...] = Field(min_length=1)
    listeners: tuple[Listener, ...] = Field(min_length=1)
    #: Every endpoint of this group is a backend of weight 1 ...
    group: Name | None = None
    #: ... or has the weight it is given here, in the group or not.
    backends: tuple[Backend, ...] = ()
    affinity: Affinity = Affinity.NONE
    #: Without it every backend counts as up.
    health: Health | None = None
