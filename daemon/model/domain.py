"""Domain: one tenant topology of bridges, routers, groups and policies."""

from __future__ import annotations

from ipaddress import IPv6Network

from pydantic import Field

from daemon.model.balancer import BalancedProtocol, LoadBalancer
from daemon.model.base import Address, Interface, Mac, Model, Name, Network
from daemon.model.dhcp import Dhcp
from daemon.model.dns import Dns
from daemon.model.policy import Group, Policy, PolicyDefault, Rule


class Bridge(Model):
    """An L2 segment with at most one subnet in use per address and bridge."""

    name: Name
    subnets: tuple[Network, ...] = ()
    dhcp: Dhcp = Dhcp()
    #: Bytes; default: what the underlay allows (its MTU less the tunnel).
    mtu: int | None = Field(default=None, ge=576, le=65000)
    #: Replicate broadcast, multicast and unknown unicast.
    flood: bool = True


class RouterInterface(Model):
    bridge: Name
    #: Address with prefix length; the gateway of that subnet.
    addresses: tuple[Interface, ...] = Field(min_length=1)
    #: Of what is routed to the bridge. Where no rule matches, it goes on.
    ingress: tuple[Rule, ...] = ()
    #: Of what is routed from the bridge.
    egress: tuple[Rule, ...] = ()


class StaticRoute(Model):
    to: Network
    #: Next hops, several for ECMP; empty with blackhole.
    via: tuple[Address, ...] = ()
    blackhole: bool = False


class Floating(Model):
    """A public address that is one endpoint's, in both directions, or where a load
    balancer of the domain listens."""

    address: Address
    endpoint: Name | None = None
    load_balancer: Name | None = None


class Forward(Model):
    """A port of a public address that leads to an endpoint."""

    address: Address
    protocol: BalancedProtocol = BalancedProtocol.TCP
    port: int = Field(ge=1, le=65535)
    endpoint: Name
    #: On the endpoint; default: the same.
    to_port: int | None = Field(default=None, ge=1, le=65535)


class PrefixTranslation(Model):
    """Every address of `inside` is known outside by one of `outside` (NPTv6)."""

    inside: IPv6Network
    #: As long, of a floating pool of the network.
    outside: IPv6Network


class Uplink(Model):
    """A router's link to an external network: where its default route leads."""

    network: Name
    #: Endpoints without a floating address share public ones.
    source_nat: bool = True
    floating: tuple[Floating, ...] = ()
    forwards: tuple[Forward, ...] = ()
    prefixes: tuple[PrefixTranslation, ...] = ()


class Router(Model):
    name: Name
    interfaces: tuple[RouterInterface, ...] = ()
    routes: tuple[StaticRoute, ...] = ()
    mac: Mac | None = None  # default: from the router's id, the same on every node
    uplink: Uplink | None = None


class Origin(Model):
    """The template a domain was made from, and how: what an upgrade starts from."""

    template: Name
    version: int = Field(ge=1)
    parameters: dict[str, str | int | bool | list[str | int | bool]] = {}


class DomainSpec(Model):
    description: str = ""
    origin: Origin | None = None
    default: PolicyDefault = PolicyDefault()
    bridges: tuple[Bridge, ...] = ()
    routers: tuple[Router, ...] = ()
    load_balancers: tuple[LoadBalancer, ...] = ()
    groups: tuple[Group, ...] = ()
    policies: tuple[Policy, ...] = ()
    #: Names, answered by the gateways of its bridges. Default: none.
    dns: Dns | None = None
