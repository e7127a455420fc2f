"""Checks of a domain's groups, policies and rules."""

from __future__ import annotations

from daemon.model.domain import DomainSpec, RouterInterface
from daemon.model.policy import Match, Peer, Policy, Rule
from daemon.model.schedule import Window, zone_named
from daemon.zone.addresses import mapped_words
from daemon.zone.errors import Problems

_WITH_PORTS = ("tcp", "udp", "sctp")
_ICMP = ("icmp", "icmp6")


def check_policies(at: str, spec: DomainSpec, problems: Problems) -> None:
    """`at` is the path of the spec: `domain acme/shop: spec`."""
    groups: set[str] = set()
    for i, group in enumerate(spec.groups):
        if group.name in groups:
            problems.add(f"{at}.groups[{i}].name", f"there is another {group.name} in this list")
        groups.add(group.name)
    policies: set[str] = set()
    for i, policy in enumerate(spec.policies):
        where = f"{at}.policies[{i}]"
        if policy.name in policies:
            problems.add(f"{where}.name", f"there is another {policy.name} in this list")
        policies.add(policy.name)
        if policy.applies_to is not None and policy.applies_to not in groups:
            message = f"there is no group {policy.applies_to} in this domain"
            problems.add(f"{where}.applies_to", message)
        _check_rules(where, policy, groups, problems)
    for r, router in enumerate(spec.routers):
        for k, interface in enumerate(router.interfaces):
            _check_rules(f"{at}.routers[{r}].interfaces[{k}]", interface, groups, problems)


def _check_rules(
    at: str, holder: Policy | RouterInterface, groups: set[str], problems: Problems
) -> None:
    for direction, rules in (("ingress", holder.ingress), ("egress", holder.egress)):
        seen: set[str] = set()
        for j, rule in enumerate(rules):
            place = f"{at}.{direction}[{j}]"
            if rule.name in seen:
                problems.add(f"{place}.name", f"there is another {rule.name} in this list")
            seen.add(rule.name)
            _check_rule(place, rule, groups, problems)


def _check_rule(at: str, rule: Rule, groups: set[str], problems: Problems) -> None:
    for i, peer in enumerate(rule.peers or ()):
        _check_peer(f"{at}.peers[{i}]", peer, groups, problems)
    check_match(at, rule, problems)


def check_match(at: str, rule: Match, problems: Problems) -> None:
    """Protocol, ports and ICMP types of any rule."""
    if rule.log is not None and rule.log.sample & (rule.log.sample - 1):
        below = 1 << rule.log.sample.bit_length() - 1
        message = f"{rule.log.sample} is no power of two: write {below} or {2 * below}"
        problems.add(f"{at}.log.sample", message)
    for i, window in enumerate(rule.active):
        _check_window(f"{at}.active[{i}]", window, problems)
    if rule.ports and rule.protocol not in _WITH_PORTS:
        problems.add(f"{at}.ports", "ports need protocol: tcp, udp or sctp")
    for i, ports in enumerate(rule.ports):
        if ports.first > ports.last:
            message = f"the range {ports.first}-{ports.last} ends before it begins"
            problems.add(f"{at}.ports[{i}]", message)
    if rule.icmp_type is not None and rule.protocol not in _ICMP:
        problems.add(f"{at}.icmp_type", "icmp_type needs protocol: icmp or icmp6")
    if rule.icmp_code is not None and rule.icmp_type is None:
        problems.add(f"{at}.icmp_code", "icmp_code needs an icmp_type")


def _check_window(at: str, window: Window, problems: Problems) -> None:
    if zone_named(window.zone) is None:
        message = f'"{window.zone}" is no time zone; write one such as Europe/Berlin, or UTC'
        problems.add(f"{at}.zone", message)
    for i, day in enumerate(window.days):
        if day in window.days[:i]:
            problems.add(f"{at}.days[{i}]", f"{day} is listed twice")


def _check_peer(at: str, peer: Peer, groups: set[str], problems: Problems) -> None:
    if (peer.group is None) == (peer.cidr is None):
        problems.add(at, "a peer is either a group or a cidr")
    if peer.group is not None and peer.group not in groups:
        problems.add(f"{at}.group", f"there is no group {peer.group} in this domain")
    if peer.cidr is not None and (words := mapped_words(peer.cidr)):
        problems.add(f"{at}.cidr", words)
