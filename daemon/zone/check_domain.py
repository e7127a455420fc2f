"""Checks inside one domain: bridges, subnets, DHCP, routers and routes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from daemon.model.base import Address, Interface, Network
from daemon.model.dns import bridges_with_names
from daemon.model.domain import Bridge, DomainSpec, Router, StaticRoute
from daemon.zone.addresses import mapped_words, not_a_host, subnet_of, unusable, unusable_network
from daemon.zone.check_balancer import check_balancers
from daemon.zone.check_policy import check_policies
from daemon.zone.errors import Problems

_DNS_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


@dataclass(frozen=True, slots=True)
class Fixed:
    """An address of a domain that is no endpoint's, and where the manifest says so."""

    holder: str  # router edge, load balancer web
    path: str  # spec.routers[0].interfaces[1].addresses[0]


def fixed_addresses(spec: DomainSpec) -> dict[Address, Fixed]:
    """Addresses of router interfaces and load balancers."""
    routers = {
        address.ip: Fixed(
            f"router {router.name}", f"spec.routers[{r}].interfaces[{i}].addresses[{a}]"
        )
        for r, router in enumerate(spec.routers)
        for i, interface in enumerate(router.interfaces)
        for a, address in enumerate(interface.addresses)
    }
    balancers = {
        address: Fixed(f"load balancer {balancer.name}", f"spec.load_balancers[{b}].addresses[{a}]")
        for b, balancer in enumerate(spec.load_balancers)
        for a, address in enumerate(balancer.addresses)
    }
    return balancers | routers


def check_domain(path: str, spec: DomainSpec, problems: Problems) -> None:
    """Everything that can be said about a domain from its own spec."""
    at = f"domain {path}: spec"
    unique_names(f"{at}.bridges", (bridge.name for bridge in spec.bridges), problems)
    unique_names(f"{at}.routers", (router.name for router in spec.routers), problems)
    _check_subnets(at, spec, problems)
    for i, bridge in enumerate(spec.bridges):
        _check_dhcp(f"{at}.bridges[{i}].dhcp", bridge, problems)
    _check_interfaces(at, spec, problems)
    bridges = {bridge.name: bridge for bridge in spec.bridges}
    for i, router in enumerate(spec.routers):
        _check_routes(f"{at}.routers[{i}].routes", router, bridges, problems)
    if spec.dns is not None and not bridges_with_names(spec):
        hint = "give one of its bridges a router"
        problems.add(f"{at}.dns", f"no gateway of the domain could be asked for names: {hint}")
    check_balancers(at, spec, problems)
    check_policies(at, spec, problems)


def unique_names(at: str, names: Iterable[str], problems: Problems) -> None:
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            problems.add(f"{at}[{i}].name", f"there is another {name} in this list")
        seen.add(name)


def _check_subnets(at: str, spec: DomainSpec, problems: Problems) -> None:
    seen: list[tuple[Network, str]] = []
    for i, bridge in enumerate(spec.bridges):
        for j, subnet in enumerate(bridge.subnets):
            where = f"{at}.bridges[{i}].subnets[{j}]"
            if words := unusable_network(subnet):
                problems.add(where, f"{subnet} {words}")
                continue
            for other, holder in seen:
                if subnet.version == other.version and subnet.overlaps(other):
                    message = f"{subnet} overlaps {other} of bridge {holder}"
                    problems.add(where, message)
            seen.append((subnet, bridge.name))


def _check_dhcp(at: str, bridge: Bridge, problems: Problems) -> None:
    for i, server in enumerate(bridge.dhcp.dns):
        if words := unusable(server):
            problems.add(f"{at}.dns[{i}]", f"{server} {words}")
    for i, name in enumerate(bridge.dhcp.search):
        if not _DNS_NAME.fullmatch(name):
            problems.add(f"{at}.search[{i}]", f'"{name}" is no DNS name such as shop.example.com')
    for i, route in enumerate(bridge.dhcp.routes):
        if route.to.version != route.via.version:
            problems.add(f"{at}.routes[{i}].via", _mixed(route.to, route.via))
        elif subnet_of(route.via, bridge.subnets) is None:
            message = f"{route.via} is in no subnet of bridge {bridge.name}"
            problems.add(f"{at}.routes[{i}].via", message)


def _check_interfaces(at: str, spec: DomainSpec, problems: Problems) -> None:
    bridges = {bridge.name: bridge for bridge in spec.bridges}
    holders: dict[Address, str] = {}
    for r, router in enumerate(spec.routers):
        seen: set[str] = set()
        for i, interface in enumerate(router.interfaces):
            where = f"{at}.routers[{r}].interfaces[{i}]"
            bridge = bridges.get(interface.bridge)
            if interface.bridge in seen:
                message = f"router {router.name} has an interface on {interface.bridge} already"
                problems.add(f"{where}.bridge", message)
            seen.add(interface.bridge)
            if bridge is None:
                message = f"there is no bridge {interface.bridge} in this domain"
                problems.add(f"{where}.bridge", message)
            for a, address in enumerate(interface.addresses):
                place = f"{where}.addresses[{a}]"
                if holder := holders.get(address.ip):
                    problems.add(place, f"{address.ip} is the address of router {holder} already")
                holders.setdefault(address.ip, f"{router.name} on {interface.bridge}")
                if bridge is not None and (words := _interface_words(address, bridge)):
                    problems.add(place, words)


def _interface_words(address: Interface, bridge: Bridge) -> str | None:
    subnet = subnet_of(address.ip, bridge.subnets)
    if subnet is None:
        return f"{address.ip} is in no subnet of bridge {bridge.name}"
    if address.network != subnet:
        wanted = f"{address.ip}/{subnet.prefixlen}"
        return f"the subnet of bridge {bridge.name} is {subnet}; write {wanted}"
    if words := not_a_host(address.ip, subnet):
        return f"{address.ip} {words}"
    return None


def _check_routes(at: str, router: Router, bridges: dict[str, Bridge], problems: Problems) -> None:
    connected = [
        subnet
        for interface in router.interfaces
        if interface.bridge in bridges
        for subnet in bridges[interface.bridge].subnets
        if any(address in subnet for address in _of_family(interface.addresses, subnet))
    ]
    own = {address.ip for interface in router.interfaces for address in interface.addresses}
    seen: set[Network] = set()
    for i, route in enumerate(router.routes):
        where = f"{at}[{i}]"
        if route.to in seen:
            message = f"there is another route to {route.to}; list all next hops in one"
            problems.add(f"{where}.to", message)
        seen.add(route.to)
        if route.to in connected:
            problems.add(f"{where}.to", f"{route.to} is connected to this router")
        if words := mapped_words(route.to):
            problems.add(f"{where}.to", words)
        if route.blackhole and route.via:
            problems.add(f"{where}.via", "a blackhole route has no next hop; leave one of them out")
        if not route.blackhole and not route.via:
            problems.add(f"{where}.via", "is empty; name a next hop or set blackhole: true")
        _check_next_hops(where, route, connected, own, problems)


def _of_family(addresses: Iterable[Interface], subnet: Network) -> list[Address]:
    return [address.ip for address in addresses if address.version == subnet.version]


def _check_next_hops(
    where: str, route: StaticRoute, connected: list[Network], own: set[Address], problems: Problems
) -> None:
    for j, via in enumerate(route.via):
        place = f"{where}.via[{j}]"
        subnet = subnet_of(via, connected)
        if via.version != route.to.version:
            problems.add(place, _mixed(route.to, via))
        elif via in route.via[:j]:
            problems.add(place, f"{via} is listed twice")
        elif via in own:
            problems.add(place, f"{via} is this router's own address")
        elif subnet is None:
            problems.add(place, f"{via} is on no bridge this router is connected to")
        elif words := not_a_host(via, subnet):
            problems.add(place, f"{via} {words}")


def _mixed(to: Network, via: Address) -> str:
    return f"{via} is IPv{via.version}, but the route is to IPv{to.version} {to}"
