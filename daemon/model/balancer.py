"""Load balancer: virtual addresses, and the endpoints that answer for them."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

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
