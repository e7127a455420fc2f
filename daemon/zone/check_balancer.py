"""Checks of a domain's load balancers."""

from __future__ import annotations

from daemon.model.balancer import BalancedProtocol, CheckKind, Health, LoadBalancer
from daemon.model.base import Address
from daemon.model.domain import Bridge, DomainSpec
from daemon.zone.addresses import not_a_host, subnet_of
from daemon.zone.errors import Problems


def check_balancers(at: str, spec: DomainSpec, problems: Problems) -> None:
    """`at` is the path of the spec: `domain acme/shop: spec`."""
    bridges = {bridge.name: bridge for bridge in spec.bridges}
    groups = {group.name for group in spec.groups}
    holders: dict[Address, str] = {
        address.ip: f"router {router.name}"
        for router in spec.routers
        for interface in router.interfaces
        for address in interface.addresses
    }
    names: set[str] = set()
    for i, balancer in enumerate(spec.load_balancers):
        where = f"{at}.load_balancers[{i}]"
        if balancer.name in names:
            message = f"there is another {balancer.name} in this list"
            problems.add(f"{where}.name", message)
        names.add(balancer.name)
        bridge = bridges.get(balancer.bridge)
        if bridge is None:
            message = f"there is no bridge {balancer.bridge} in this domain"
            problems.add(f"{where}.bridge", message)
        else:
            _check_addresses(where, balancer, bridge, holders, problems)
        _check_listeners(where, balancer, problems)
        _check_backends(where, balancer, groups, problems)
        if balancer.health is not None:
            _check_health(f"{where}.health", balancer, balancer.health, problems)


def _check_addresses(
    at: str,
    balancer: LoadBalancer,
    bridge: Bridge,
    holders: dict[Address, str],
    problems: Problems,
) -> None:
    for i, address in enumerate(balancer.addresses):
        where = f"{at}.addresses[{i}]"
        subnet = subnet_of(address, bridge.subnets)
        if subnet is None:
            problems.add(where, f"{address} is in no subnet of bridge {bridge.name}")
        elif words := not_a_host(address, subnet):
            problems.add(where, f"{address} {words}")
        elif holder := holders.get(address):
            problems.add(where, f"{address} is the address of {holder}")
        holders.setdefault(address, f"load balancer {balancer.name}")


def _check_listeners(at: str, balancer: LoadBalancer, problems: Problems) -> None:
    seen: set[tuple[str, int]] = set()
    for i, listener in enumerate(balancer.listeners):
        key = (listener.protocol, listener.port)
        if key in seen:
            message = f"there is another listener on {listener.protocol} port {listener.port}"
            problems.add(f"{at}.listeners[{i}]", message)
        seen.add(key)


def _check_backends(at: str, balancer: LoadBalancer, groups: set[str], problems: Problems) -> None:
    if balancer.group is None and not balancer.backends:
        problems.add(f"{at}.backends", "is empty; name a group or at least one backend")
    if balancer.group is not None and balancer.group not in groups:
        problems.add(f"{at}.group", f"there is no group {balancer.group} in this domain")
    seen: set[str] = set()
    for i, backend in enumerate(balancer.backends):
        if backend.endpoint in seen:
            message = f"there is another {backend.endpoint} in this list"
            problems.add(f"{at}.backends[{i}].endpoint", message)
        seen.add(backend.endpoint)


def _check_health(at: str, balancer: LoadBalancer, health: Health, problems: Problems) -> None:
    kind = health.kind
    if kind not in (CheckKind.HTTP, CheckKind.HTTPS):
        for name in ("path", "host", "status"):
            if name in health.model_fields_set:
                problems.add(f"{at}.{name}", f"is of http and https checks, not of {kind}")
    else:
        codes = health.status
        if isinstance(codes, int) and not 100 <= codes <= 599:
            problems.add(f"{at}.status", f"{codes} is no HTTP status (100 to 599)")
    if kind is CheckKind.UDP and health.send is None:
        message = "is missing: a udp check sends something that the backend answers"
        problems.add(f"{at}.send", message)
    if kind is not CheckKind.UDP and health.send is not None:
        problems.add(f"{at}.send", f"is of udp checks, not of {kind}")
    if health.send is not None and max(map(ord, health.send)) > 255:
        problems.add(f"{at}.send", "has a character above U+00FF, which is no byte")
    if health.timeout_s > health.interval_s:
        message = f"{health.timeout_s:g} s is longer than interval_s, {health.interval_s:g} s"
        problems.add(f"{at}.timeout_s", message)
    protocol = BalancedProtocol.UDP if kind is CheckKind.UDP else BalancedProtocol.TCP
    if health.port is None and all(one.protocol != protocol for one in balancer.listeners):
        message = f"is missing, and there is no {protocol} listener to take it from"
        problems.add(f"{at}.port", message)
