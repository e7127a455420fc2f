"""Checks of external networks, and of the routers that lead there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from daemon.model.base import Address, Network
from daemon.model.derive import joins_only, uplinks_of
from daemon.model.domain import DomainSpec, Uplink
from daemon.model.external import ExternalSpec
from daemon.model.node import Role
from daemon.model.object import Kind
from daemon.model.prefix import MAX_PREFIX_BITS
from daemon.zone.addresses import covers, not_a_host
from daemon.zone.edit import Edit
from daemon.zone.errors import Problems

_DEFAULTS = ("0.0.0.0/0", "::/0")


def check_externals(edit: Edit, problems: Problems) -> None:
    """External networks that are written, and what routers say of any."""
    written = edit.written_paths(Kind.EXTERNAL)
    for name in written:
        _check_external(name, edit, problems)
    concerned = set(edit.touched_domains)
    for path in edit.domains:
        uplinks = list(uplinks_of(edit.domains[path]))
        if path in concerned or any(uplink.network in written for _, _, uplink in uplinks):
            _check_uplinks(path, edit, problems)
    _check_public_addresses(edit, problems)


def _check_external(name: str, edit: Edit, problems: Problems) -> None:
    spec = edit.externals[name]
    at = f"external {name}: spec"
    if spec.block_ports & (spec.block_ports - 1):
        problems.add(f"{at}.block_ports", f"{spec.block_ports} is no power of two")
    segments = [address.network for one in spec.gateways for address in one.addresses]
    seen: set[str] = set()
    if joins_only(spec):
        for field in ("vlan", "routes"):
            if getattr(spec, field):
                problems.add(f"{at}.{field}", "leads nowhere: no gateway has a device")
    for i, gateway in enumerate(spec.gateways):
        where = f"{at}.gateways[{i}]"
        if not joins_only(spec) and gateway.device is None:
            problems.add(f"{where}.device", "is missing; other gateways have one")
        if gateway.device is not None and not gateway.addresses:
            problems.add(f"{where}.addresses", "is empty; a gateway has an address of its own")
        node = edit.nodes.get(gateway.node)
        if node is None and not edit.is_broken(Kind.NODE, gateway.node):
            problems.add(f"{where}.node", f"there is no node {gateway.node}")
        elif node is not None and Role.GATEWAY not in node.roles:
            problems.add(f"{where}.node", f"node {gateway.node} has no gateway role")
        if gateway.node in seen:
            problems.add(f"{where}.node", f"node {gateway.node} is in this list already")
        seen.add(gateway.node)
        if gateway.device is not None:
            _check_device(where, name, gateway.node, gateway.device, spec.vlan, edit, problems)
    for i, route in enumerate(spec.routes):
        for j, via in enumerate(route.via):
            if not any(via.version == net.version and via in net for net in segments):
                message = f"{via} is in no network of the gateways' own addresses"
                problems.add(f"{at}.routes[{i}].via[{j}]", message)
    _check_pools(at, name, edit, problems)


def _check_device(
    at: str, name: str, node: str, device: str, vlan: int | None, edit: Edit, problems: Problems
) -> None:
    for other, spec in edit.externals.items():
        if other == name or spec.vlan != vlan:
            continue
        if any(one.node == node and one.device == device for one in spec.gateways):
            tag = f"tag {vlan}" if vlan else "untagged"
            message = f"{device} of node {node} is external {other}'s, {tag} as well"
            problems.add(f"{at}.device", message)


def _check_pools(at: str, name: str, edit: Edit, problems: Problems) -> None:
    """No address is in two pools, or a gateway's own or a next hop's."""
    spec = edit.externals[name]
    pools: list[tuple[str, Network]] = [
        *((f"nat[{i}]", net) for i, net in enumerate(spec.nat)),
        *((f"floating[{i}]", net) for i, net in enumerate(spec.floating)),
    ]
    others = [
        (f"external {path}", net)
        for path, other in edit.externals.items()
        if path != name
        for net in (*other.nat, *other.floating)
    ]
    fixed = [address.ip for one in spec.gateways for address in one.addresses]
    fixed += [via for route in spec.routes for via in route.via]
    for i, (field, net) in enumerate(pools):
        where = f"{at}.{field}"
        for other_field, other_net in (*pools[:i], *others):
            if covers(net, other_net) or covers(other_net, net):
                problems.add(where, f"{net} overlaps {other_net} of {other_field}")
        for address in fixed:
            if address.version == net.version and address in net:
                message = f"{net} holds {address}, which is a gateway's or router's own"
                problems.add(where, message)


def _check_uplinks(path: str, edit: Edit, problems: Problems) -> None:
    for index, router, uplink in uplinks_of(edit.domains[path]):
        at = f"domain {path}: spec.routers[{index}]"
        for i, route in enumerate(router.routes):
            if str(route.to) in _DEFAULTS:
                message = f"{route.to} leads to external network {uplink.network} already"
                problems.add(f"{at}.routes[{i}].to", message)
        external = edit.externals.get(uplink.network)
        if external is None:
            if not edit.is_broken(Kind.EXTERNAL, uplink.network):
                message = f"there is no external network {uplink.network}"
                problems.add(f"{at}.uplink.network", message)
            continue
        if uplink.source_nat and not external.nat:
            message = f"external network {uplink.network} has no addresses for it (nat)"
            problems.add(f"{at}.uplink.source_nat", message)
        _check_targets(f"{at}.uplink", edit.domains[path], uplink, problems)
        _check_prefixes(f"{at}.uplink", uplink, external, problems)
        for where, address, endpoint in public_uses(uplink):
            place = f"{at}.uplink.{where}"
            pool = next((n for n in external.floating if _holds(n, address)), None)
            if pool is None:
                message = f"{address} is in no floating pool of external {uplink.network}"
                problems.add(f"{place}.address", message)
            elif words := not_a_host(address, pool):
                problems.add(f"{place}.address", f"{address} {words}")
            if endpoint is None:
                continue
            target = f"{path}/{endpoint}"
            if target not in edit.endpoints and not edit.is_broken(Kind.ENDPOINT, target):
                message = f"there is no endpoint {endpoint} in this domain"
                problems.add(f"{place}.endpoint", message)


def _check_targets(at: str, spec: DomainSpec, uplink: Uplink, problems: Problems) -> None:
    """A floating address leads to an endpoint or to a load balancer of the domain."""
    names = {balancer.name for balancer in spec.load_balancers}
    for i, floating in enumerate(uplink.floating):
        where = f"{at}.floating[{i}]"
        if (floating.endpoint is None) == (floating.load_balancer is None):
            problems.add(where, "leads to an endpoint or to a load_balancer: name one of them")
        elif floating.load_balancer is not None and floating.load_balancer not in names:
            message = f"there is no load balancer {floating.load_balancer} in this domain"
            problems.add(f"{where}.load_balancer", message)


def _check_prefixes(at: str, uplink: Uplink, external: ExternalSpec, problems: Problems) -> None:
    for i, prefix in enumerate(uplink.prefixes):
        where, inside, outside = f"{at}.prefixes[{i}]", prefix.inside, prefix.outside
        if inside.prefixlen != outside.prefixlen:
            problems.add(where, f"{inside} and {outside} are not of the same length")
        elif inside.prefixlen > MAX_PREFIX_BITS:
            message = f"{inside} is longer than /{MAX_PREFIX_BITS}, the longest that is translated"
            problems.add(where, message)
        if not any(covers(pool, outside) for pool in external.floating):
            message = f"{outside} is in no floating pool of external {uplink.network}"
            problems.add(f"{where}.outside", message)
        for earlier in uplink.prefixes[:i]:
            if inside.overlaps(earlier.inside):
                message = f"{inside} overlaps {earlier.inside}, which is translated already"
                problems.add(f"{where}.inside", message)


def public_uses(uplink: Uplink) -> Iterator[tuple[str, Address, str | None]]:
    """Where, which public address, for which endpoint; None: for a load balancer."""
    for i, floating in enumerate(uplink.floating):
        yield f"floating[{i}]", floating.address, floating.endpoint
    for i, forward in enumerate(uplink.forwards):
        yield f"forwards[{i}]", forward.address, forward.endpoint


def _check_public_addresses(edit: Edit, problems: Problems) -> None:
    """A floating address is one endpoint's; a forwarded port one endpoint's; of one tenant."""
    written = set(edit.written_paths(Kind.DOMAIN))
    if not written:
        return
    whole: dict[Address, str] = {}
    ports: dict[tuple[Address, str, int], str] = {}
    routers: dict[Address, str] = {}
    prefixes: list[tuple[Network, str]] = []
    for path in _written_last(edit.domains, written):
        for index, router, uplink in uplinks_of(edit.domains[path]):
            at = f"domain {path}: spec.routers[{index}].uplink"
            owner = f"router {router.name} of domain {path}"
            for field, address, _ in public_uses(uplink):
                _not_in_a_prefix(f"{at}.{field}.address", address, prefixes, problems)
            for i, floating in enumerate(uplink.floating):
                where = f"{at}.floating[{i}].address"
                _claim(where, floating.address, owner, whole, routers, problems)
            for i, forward in enumerate(uplink.forwards):
                where = f"{at}.forwards[{i}]"
                holder = routers.setdefault(forward.address, owner)
                key = (forward.address, forward.protocol, forward.port)
                if holder != owner or forward.address in whole:
                    problems.add(f"{where}.address", f"{forward.address} is {holder}'s")
                elif key in ports:
                    message = f"{forward.protocol} port {forward.port} is forwarded already"
                    problems.add(f"{where}.port", message)
                ports[key] = owner
            for i, prefix in enumerate(uplink.prefixes):
                where = f"{at}.prefixes[{i}].outside"
                _claim_prefix(where, prefix.outside, owner, prefixes, routers, problems)


def _claim(
    where: str,
    address: Address,
    owner: str,
    whole: dict[Address, str],
    routers: dict[Address, str],
    problems: Problems,
) -> None:
    if address in whole or address in routers:
        problems.add(where, f"{address} is {whole.get(address) or routers[address]}'s already")
    whole.setdefault(address, owner)
    routers.setdefault(address, owner)


def _claim_prefix(
    where: str,
    prefix: Network,
    owner: str,
    prefixes: list[tuple[Network, str]],
    routers: dict[Address, str],
    problems: Problems,
) -> None:
    for address, holder in routers.items():
        if _holds(prefix, address):
            problems.add(where, f"{prefix} holds {address}, which is {holder}'s already")
    for other, holder in prefixes:
        if covers(prefix, other) or covers(other, prefix):
            problems.add(where, f"{prefix} overlaps {other}, which is {holder}'s already")
    prefixes.append((prefix, owner))


def _not_in_a_prefix(
    where: str, address: Address, prefixes: list[tuple[Network, str]], problems: Problems
) -> None:
    for prefix, holder in prefixes:
        if _holds(prefix, address):
            problems.add(where, f"{address} is in {prefix}, which is {holder}'s already")


def _written_last(paths: Iterable[str], written: set[str]) -> list[str]:
    return [*(path for path in paths if path not in written), *(p for p in paths if p in written)]


def check_uplinks_of_removed(edit: Edit, problems: Problems) -> None:
    """Nothing goes while a router relies on it."""
    for ref in edit.removed:
        match ref.kind:
            case Kind.EXTERNAL:
                users = [
                    path
                    for path, spec in edit.domains.items()
                    if any(uplink.network == ref.name for _, _, uplink in uplinks_of(spec))
                ]
                for path in users:
                    problems.add(ref.text, f"domain {path} leads there", conflict=True)
            case Kind.NODE:
                for name, spec in edit.externals.items():
                    if any(one.node == ref.name for one in spec.gateways):
                        message = f"is a gateway of external network {name}"
                        problems.add(ref.text, message, conflict=True)
            case Kind.ENDPOINT:
                domain = edit.domains.get(ref.path.rpartition("/")[0])
                for _, _, uplink in uplinks_of(domain) if domain else ():
                    for _, address, endpoint in public_uses(uplink):
                        if endpoint == ref.name:
                            problems.add(ref.text, f"{address} leads to it", conflict=True)
            case _:
                pass


def _holds(net: Network, address: Address) -> bool:
    return net.version == address.version and address in net
