"""Endpoint: a vNIC, where a VM, container or appliance attaches."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from daemon.model.base import Address, Labels, Mac, Model, Name, Network
from daemon.model.qos import Qos


class AttachKind(StrEnum):
    NETNS = "netns"  # plumd makes a veth pair and puts one end in a namespace
    VETH = "veth"  # an existing device whose peer the workload holds
    TAP = "tap"  # an existing tap device


class Configure(StrEnum):
    STATIC = "static"  # plumd sets addresses, routes and MTU inside
    DHCP = "dhcp"  # the workload asks


class Attach(Model):
    kind: AttachKind = AttachKind.NETNS
    #: netns: name under /run/netns; made if absent. Default: the endpoint's.
    namespace: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}$")
    #: netns: device inside the namespace (default eth0). veth, tap: device on the node.
    device: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$")
    configure: Configure = Configure.STATIC


class AllowedPair(Model):
    """A further source the endpoint may use: a virtual address, a routed net."""

    address: Network
    mac: Mac | None = None  # default: the endpoint's


class EndpointSpec(Model):
    domain: Name
    bridge: Name
    node: Name
    mac: Mac | None = None  # default: allocated
    #: Default: one of each subnet of the bridge, allocated.
    addresses: tuple[Address, ...] = ()
    allowed_pairs: tuple[AllowedPair, ...] = ()
    labels: Labels = {}
    attach: Attach = Attach()
    #: Connections it may hold at once on its node.
    flow_quota: int = Field(default=16384, ge=16, le=1_000_000)
    qos: Qos = Qos()
