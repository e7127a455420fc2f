"""External network: one outside the zone, and the gateways that lead there."""

from __future__ import annotations

from pydantic import Field

from daemon.model.base import Address, Interface, Model, Name, Network


class Gateway(Model):
    """A node's attachment. All of a network's gateways carry traffic at the same time."""

    node: Name
    #: Absent on all gateways: nothing is outside, the network only joins domains.
    device: str | None = Field(default=None, min_length=1, max_length=15)
    #: The gateway's own addresses there, with prefix length.
    addresses: tuple[Interface, ...] = ()


class ExternalRoute(Model):
    to: Network
    #: Routers outside; several for ECMP.
    via: tuple[Address, ...] = Field(min_length=1)


class ExternalSpec(Model):
    description: str = ""
    gateways: tuple[Gateway, ...] = Field(min_length=1)
    #: 802.1Q tag on the gateways' devices; without: untagged.
    vlan: int | None = Field(default=None, ge=1, le=4094)
    routes: tuple[ExternalRoute, ...] = ()
    #: Addresses that endpoints share (source NAT), ...
    nat: tuple[Network, ...] = ()
    #: ... and addresses that routers give to one endpoint or port (floating, forwards).
    floating: tuple[Network, ...] = ()
    #: Ports of one lease: a node's share of a shared address, for one router.
    block_ports: int = Field(default=1024, ge=64, le=16384)
    blocks_per_node: int = Field(default=1, ge=1, le=16)
    #: Bytes of the largest IP packet there.
    mtu: int = Field(default=1500, ge=1280, le=65000)


class NatBlock(Model):
    """Ports `first` to `first + block_ports - 1` of a shared address, leased to a node."""

    address: Address
    first: int
