"""Checks of endpoints against their domain, node and neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from daemon.model.base import Address, Network
from daemon.model.derive import attach_device, attach_namespace
from daemon.model.domain import Bridge, DomainSpec
from daemon.model.endpoint import AttachKind, EndpointSpec
from daemon.model.mac import router_mac
from daemon.model.node import Role
from daemon.model.object import Endpoint, Kind
from daemon.model.snapshot import Snapshot
from daemon.zone.addresses import mapped_words, not_a_host, subnet_of, unusable
from daemon.zone.check_domain import Fixed, fixed_addresses
from daemon.zone.check_zone import names
from daemon.zone.edit import Edit
from daemon.zone.errors import Problems


@dataclass(frozen=True, slots=True)
class _Scope:
    """What an endpoint's addresses are checked against."""

    bridges: dict[str, Bridge]
    fixed: dict[Address, Fixed]


def kept_addresses(
    endpoint: Endpoint | None, spec: EndpointSpec, subnets: Iterable[Network]
) -> dict[Network, Address]:
    """What an endpoint with no addresses of its own keeps: one for each subnet it still fits."""
    kept: dict[Network, Address] = {}
    if endpoint is None or endpoint.spec.bridge != spec.bridge:
        return kept
    for address in endpoint.addresses:
        subnet = subnet_of(address, subnets)
        if subnet is not None and not_a_host(address, subnet) is None:
            kept.setdefault(subnet, address)
    return kept


def check_endpoints(edit: Edit, problems: Problems) -> None:
    """Every endpoint that is written, or whose domain is."""
    for path in edit.written_paths(Kind.ENDPOINT):
        _check_places(edit, path, edit.endpoints[path], problems)
    for path in edit.touched_domains:
        if not edit.is_broken(Kind.DOMAIN, path):
            _check_in_domain(edit, path, edit.domains[path], problems)
    _check_devices(edit, problems)


def _check_places(edit: Edit, path: str, spec: EndpointSpec, problems: Problems) -> None:
    at = f"endpoint {path}: spec"
    domain = path.rpartition("/")[0]
    if domain not in edit.domains and not edit.is_broken(Kind.DOMAIN, domain):
        problems.add(f"{at}.domain", f"there is no domain {domain}")
    if edit.is_broken(Kind.NODE, spec.node):
        return
    if spec.node not in edit.nodes:
        problems.add(f"{at}.node", f"there is no node {spec.node}")
    elif Role.EDGE not in edit.nodes[spec.node].roles:
        problems.add(f"{at}.node", f"node {spec.node} has no edge role and hosts no endpoints")
    elif _is_cordoned(edit, path, spec.node):
        message = f"node {spec.node} is cordoned and takes no new endpoints"
        message += f": choose another one, or plumctl node uncordon {spec.node}"
        problems.add(f"{at}.node", message, conflict=True)


def _is_cordoned(edit: Edit, path: str, name: str) -> bool:
    """For an endpoint that is not there yet; one may always go back to where it was."""
    node, before = edit.current.nodes.get(name), edit.current.endpoints.get(path)
    if node is None or not node.cordoned or (before is not None and before.spec.node == name):
        return False
    return not any(ref.kind is Kind.ENDPOINT and ref.path == path for ref in edit.prefer)


def _check_in_domain(edit: Edit, domain: str, spec: DomainSpec, problems: Problems) -> None:
    scope = _Scope({bridge.name: bridge for bridge in spec.bridges}, fixed_addresses(spec))
    written = set(edit.written_paths(Kind.ENDPOINT))
    members = edit.endpoints_by_domain.get(domain, [])
    lost: dict[str, list[str]] = {}
    holders: dict[Address, str] = {}
    for path in sorted(members, key=lambda path: path in written):
        endpoint = edit.endpoints[path]
        bridge = scope.bridges.get(endpoint.bridge)
        if bridge is not None:
            _check_addresses(edit, path, endpoint, bridge, scope, holders, problems)
        elif path in written:
            message = f"there is no bridge {endpoint.bridge} in domain {domain}"
            problems.add(f"endpoint {path}: spec.bridge", message)
        else:
            lost.setdefault(endpoint.bridge, []).append(path)
        if path in written:
            _check_pairs(path, endpoint, scope, problems)
    _check_backends(domain, spec, set(members), problems)
    for name, paths in lost.items():
        message = f"bridge {name} cannot go: it still has endpoints {names(paths)}"
        problems.add(f"domain {domain}: spec.bridges", message, conflict=True)


def _check_backends(domain: str, spec: DomainSpec, members: set[str], problems: Problems) -> None:
    for i, balancer in enumerate(spec.load_balancers):
        for j, backend in enumerate(balancer.backends):
            if f"{domain}/{backend.endpoint}" not in members:
                at = f"domain {domain}: spec.load_balancers[{i}].backends[{j}].endpoint"
                problems.add(at, f"there is no endpoint {domain}/{backend.endpoint}")


def _check_addresses(
    edit: Edit,
    path: str,
    spec: EndpointSpec,
    bridge: Bridge,
    scope: _Scope,
    holders: dict[Address, str],
    problems: Problems,
) -> None:
    if not spec.addresses:
        kept = kept_addresses(edit.current.endpoints.get(path), spec, bridge.subnets)
        for address in kept.values():
            holders.setdefault(address, path)
            if fixed := scope.fixed.get(address):
                message = f"{address} is the address of endpoint {path}"
                where = f"domain {path.rpartition('/')[0]}: {fixed.path}"
                problems.add(where, message, conflict=True)
        return
    for i, address in enumerate(spec.addresses):
        at = f"endpoint {path}: spec.addresses[{i}]"
        subnet = subnet_of(address, bridge.subnets)
        if words := unusable(address):
            problems.add(at, f"{address} {words}")
        elif subnet is None:
            problems.add(at, f"{address} is in no subnet of bridge {bridge.name}")
        elif words := not_a_host(address, subnet):
            problems.add(at, f"{address} {words}")
        elif fixed := scope.fixed.get(address):
            problems.add(at, f"{address} is the address of {fixed.holder}")
        elif address in spec.addresses[:i]:
            problems.add(at, f"{address} is listed twice")
        elif (holder := holders.setdefault(address, path)) != path:
            problems.add(at, f"{address} is the address of endpoint {holder}", conflict=True)


def _check_pairs(path: str, spec: EndpointSpec, scope: _Scope, problems: Problems) -> None:
    for i, pair in enumerate(spec.allowed_pairs):
        at = f"endpoint {path}: spec.allowed_pairs[{i}].address"
        net = pair.address
        words = mapped_words(net) or (
            f"{net} is a multicast network; nobody sends from it" if net.is_multicast else None
        )
        if words:
            problems.add(at, words)
        elif net.prefixlen == net.max_prefixlen and net.network_address in scope.fixed:
            holder = scope.fixed[net.network_address].holder
            problems.add(at, f"{net.network_address} is the address of {holder}")


def _check_devices(edit: Edit, problems: Problems) -> None:
    """No device of a node, and none of a namespace, belongs to two endpoints."""
    written = edit.written_paths(Kind.ENDPOINT)
    for path in written:
        attach, at = edit.endpoints[path].attach, f"endpoint {path}: spec.attach"
        if attach.kind is not AttachKind.NETNS:
            if attach.device is None:
                problems.add(f"{at}.device", f"is missing: the {attach.kind} device on the node")
            if attach.namespace is not None:
                problems.add(f"{at}.namespace", f"a {attach.kind} has none; leave it out")
        if attach.device == "lo":
            problems.add(f"{at}.device", "lo is the loopback device")
    late = set(written)
    holders: dict[tuple[str, str | None, str], str] = {}
    nodes = dict.fromkeys(edit.endpoints[path].node for path in written)
    for node in nodes:
        members = edit.endpoints_by_node[node]
        for path in sorted(members, key=lambda path: path in late):
            spec = edit.endpoints[path]
            if not (device := attach_device(spec)):
                continue
            tenant, _, rest = path.partition("/")
            namespace = attach_namespace(tenant, rest.rpartition("/")[2], spec)
            holder = holders.setdefault((node, namespace, device), path)
            if holder != path and path in late:
                place = f"namespace {namespace}" if namespace else f"node {node}"
                # The name of another tenant's endpoint is nobody else's business.
                own = holder.partition("/")[0] == tenant
                whose = f"endpoint {holder}" if own else "another tenant's endpoint"
                message = f"device {device} of {place} belongs to {whose}"
                problems.add(f"endpoint {path}: spec.attach.device", message, conflict=True)


def check_macs(edit: Edit, allocated: Snapshot, problems: Problems) -> None:
    """No MAC appears twice on a bridge, whether given, allocated or a router's."""
    late = set(edit.written_paths(Kind.ENDPOINT))
    for path in edit.touched_domains:
        domain = allocated.domains[path]
        holders: dict[tuple[str, str], str] = {}
        for i, router in enumerate(domain.spec.routers):
            mac = router.mac or router_mac(domain.router_ids[router.name])
            for interface in router.interfaces:
                holder = holders.setdefault((interface.bridge, mac), f"router {router.name}")
                if holder != f"router {router.name}":
                    message = f"{mac} is the MAC of {holder} on bridge {interface.bridge}"
                    problems.add(f"domain {path}: spec.routers[{i}].mac", message)
        members = edit.endpoints_by_domain.get(path, [])
        for name in sorted(members, key=lambda name: name in late):
            endpoint = allocated.endpoints[name]
            key = (endpoint.spec.bridge, endpoint.mac)
            holder = holders.setdefault(key, f"endpoint {name}")
            if holder != f"endpoint {name}":
                message = f"{endpoint.mac} is the MAC of {holder} on bridge {key[0]}"
                problems.add(f"endpoint {name}: spec.mac", message, conflict=True)
