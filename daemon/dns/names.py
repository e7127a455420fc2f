"""The names of one domain: what its zone and its reverse zones hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset
from dns.name import Name
from dns.rdatatype import RdataType
from dns.rrset import RRset

from daemon.model.base import Address, Network
from daemon.model.derive import zone_name
from daemon.model.dns import Record, RecordType
from daemon.model.object import Domain, Endpoint

#: Of the zone's SOA; the negative answers' lifetime is the names' own (RFC 2308).
_REFRESH = "7200 900 1209600"
_WILD = dns.name.Name([b"*"])
_NAME_TYPES = frozenset({RecordType.CNAME, RecordType.MX, RecordType.SRV})

Sets = Mapping[RdataType, RRset]


@dataclass(frozen=True, slots=True)
class Zone:
    """Names under `origin`, each with its sets; those between it and a name are there too."""

    origin: Name
    soa: RRset
    names: Mapping[Name, Sets]

    def find(self, name: Name) -> Sets | None:
        """None: there is no such name, nor a wildcard for it (RFC 4592)."""
        found = self.names.get(name)
        if found is not None:
            return found
        while name != self.origin:
            name = name.parent()
            if name in self.names:  # the closest name there is, whose wildcard alone counts
                wild = self.names.get(_WILD.concatenate(name))
                return wild
        return None


@dataclass(frozen=True, slots=True)
class Names:
    """Zones by origin, and who is asked about others."""

    zones: Mapping[Name, Zone]
    forwarders: tuple[Address, ...]

    def zone_of(self, name: Name) -> Zone | None:
        """The closest one around it."""
        while True:
            zone = self.zones.get(name)
            if zone is not None or name == dns.name.root:
                return zone
            name = name.parent()


def names_of(domain: Domain, endpoints: Iterable[Endpoint]) -> Names | None:
    """None: the domain answers for no names. An explicit record goes before an endpoint of
    its name, that before a load balancer, a router, a group."""
    spec = domain.spec
    if spec.dns is None:
        return None
    ttl = spec.dns.ttl_s
    origin = dns.name.from_text(zone_name(domain))
    members = sorted(endpoints, key=lambda endpoint: endpoint.name)
    hosts: dict[str, tuple[Address, ...]] = {}
    for group in spec.groups:
        wanted = group.labels.items()
        inside = [one for one in members if wanted and wanted <= one.spec.labels.items()]
        hosts[group.name] = tuple(address for one in inside for address in one.addresses)
    for router in spec.routers:
        faces = [face for interface in router.interfaces for face in interface.addresses]
        hosts[router.name] = tuple(face.ip for face in faces)
    hosts |= {balancer.name: balancer.addresses for balancer in spec.load_balancers}
    hosts |= {endpoint.name: endpoint.addresses for endpoint in members}
    forward = _Draft(origin, ttl)
    for record in spec.dns.records:
        forward.record(record)
    named = frozenset(forward.names)
    for host, addresses in hosts.items():
        if forward.under(host) not in named:
            forward.host(host, addresses)
    zones = {origin: forward.zone()}
    subnets = {net for bridge in spec.bridges for net in bridge.subnets}
    owners = [(router.name, hosts[router.name]) for router in spec.routers]
    owners += [(endpoint.name, endpoint.addresses) for endpoint in members]
    for net in sorted(subnets, key=str):
        for reverse in _reverse(net, owners, origin, ttl):
            zones[reverse.origin] = reverse
    return Names(zones, spec.dns.forwarders)


class _Draft:
    def __init__(self, origin: Name, ttl: int) -> None:
        self._origin = origin
        self._ttl = ttl
        self.names: dict[Name, dict[RdataType, RRset]] = {}

    def under(self, label: str) -> Name:
        return self._origin if label == "@" else dns.name.from_text(label, self._origin)

    def put(self, name: Name, kind: str, values: Iterable[str], ttl: int) -> None:
        made = dns.rrset.from_text_list(name, ttl, "IN", kind, list(values))
        self.names.setdefault(name, {})[made.rdtype] = made

    def record(self, record: Record) -> None:
        values = [_in_zone_file(record.type, value) for value in record.values]
        self.put(self.under(record.name.lower()), record.type, values, record.ttl_s)

    def host(self, name: str, addresses: Iterable[Address]) -> None:
        by_type: dict[str, list[str]] = {}
        for address in dict.fromkeys(addresses):
            kind = "A" if isinstance(address, IPv4Address) else "AAAA"
            by_type.setdefault(kind, []).append(str(address))
        for kind, values in by_type.items():
            self.put(self.under(name), kind, values, self._ttl)

    def zone(self) -> Zone:
        server = self._origin.to_text()
        # The serial is for secondaries, which there are none of.
        soa = f"{server} hostmaster.{server} 1 {_REFRESH} {self._ttl}"
        self.put(self._origin, "SOA", [soa], self._ttl)
        self.put(self._origin, "NS", [server], self._ttl)
        apex = self.names[self._origin]
        for name in list(self.names):
            while name != self._origin:  # what has names below it is there (RFC 8020)
                name = name.parent()
                self.names.setdefault(name, {})
        return Zone(self._origin, apex[dns.rdatatype.SOA], self.names)


def _in_zone_file(kind: RecordType, value: str) -> str:
    if kind is RecordType.TXT:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return f"{value}." if kind in _NAME_TYPES else value


def _reverse(
    net: Network,
    owners: Iterable[tuple[str, tuple[Address, ...]]],
    origin: Name,
    ttl: int,
) -> Iterator[Zone]:
    """Zones that together hold the subnet, and nothing else (RFC 2317 needs no delegation
    here: inside the domain these are the only answers)."""
    step = 8 if isinstance(net, IPv4Network) else 4
    held = list(owners)
    # A prefix within a label makes several zones; more than that says nobody.
    for part in net.subnets(new_prefix=-(-net.prefixlen // step) * step):
        labels = dns.reversename.from_address(str(part.network_address)).labels
        whole = (net.max_prefixlen - part.prefixlen) // step
        draft = _Draft(Name(labels[whole:]), ttl)
        for name, addresses in held:
            for address in addresses:
                if address in part:
                    target = dns.name.from_text(name, origin).to_text()
                    pointer = dns.reversename.from_address(str(address))
                    draft.put(pointer, "PTR", [target], ttl)
        yield draft.zone()
