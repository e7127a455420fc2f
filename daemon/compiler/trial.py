"""Would this connection be let through? Asked of the model: no packet is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from daemon.compiler.guest import first_packet
from daemon.compiler.lookup import Lookup
from daemon.compiler.node import compile_node
from daemon.compiler.packet import Outcome, Packet, Prediction
from daemon.compiler.predict import predict
from daemon.compiler.result import Compiled, Device, Rows, Runtime
from daemon.model.base import Address
from daemon.model.object import Endpoint
from daemon.model.snapshot import Snapshot

#: What is not in the model changes no verdict.
_RUNTIME = Runtime(underlay_ifindex=1)


@dataclass(frozen=True, slots=True)
class Attempt:
    packet: Packet
    prediction: Prediction
    nodes: Mapping[int, str]
    rules: Mapping[int, tuple[str, str]]
    """Rule id -> (domain path, "policy/ingress/rule")."""
    receiver: str | None
    """Path of the endpoint it is delivered to, or would be but for ingress policy."""


@dataclass(slots=True)
class _Zone:
    """Rows of nodes as they are needed, of one domain, as if every device were there."""

    snapshot: Snapshot
    moment: datetime | None
    compiled: dict[int, Compiled] = field(default_factory=dict)

    @property
    def names(self) -> dict[int, str]:
        return {node.id: name for name, node in self.snapshot.nodes.items()}

    def devices(self, name: str) -> dict[str, Device]:
        local = (e for e in self.snapshot.endpoints.items() if e[1].spec.node == name)
        return {path: Device(endpoint.slot + 1) for path, endpoint in local}

    def add(self, number: int) -> None:
        name = self.names[number]
        made = compile_node(self.snapshot, name, self.devices(name), _RUNTIME, moment=self.moment)
        for error in made.errors.values():
            raise error
        self.compiled[number] = made

    def rows(self) -> dict[int, Rows]:
        return {number: made.rows for number, made in self.compiled.items()}


def attempt(
    snapshot: Snapshot,
    source: str,
    target: Address,
    protocol: int,
    port: int = 0,
    icmp_type: int = 0,
    moment: datetime | None = None,
) -> Attempt:
    """The first packet from endpoint `source` (its path) to `target`, followed to its end.

    `moment`: when, for rules that have times; None: they always count.

    Raises UnsendableError if the guest would not get to send it, CompileError
    if the domain does not compile, KeyError if there is no such endpoint.
    """
    endpoint = snapshot.endpoints[source]
    zone = _Zone(_only(snapshot, endpoint), moment)
    here = snapshot.nodes[endpoint.spec.node].id
    zone.add(here)
    domain = snapshot.domains[f"{endpoint.tenant}/{endpoint.spec.domain}"]
    rows = Lookup(zone.compiled[here].rows)
    packet = first_packet(rows, domain, endpoint, target, protocol, port, icmp_type)
    made = predict(zone.rows(), here, endpoint.slot + 1, packet)
    if made.outcome is Outcome.SENT:
        zone.add(made.node)
        made = predict(zone.rows(), here, endpoint.slot + 1, packet)
    rules = {number: rule for c in zone.compiled.values() for number, rule in c.names.rules.items()}
    return Attempt(packet, made, zone.names, rules, _receiver(zone, made))


def _only(snapshot: Snapshot, endpoint: Endpoint) -> Snapshot:
    """The snapshot of the endpoint's domain alone."""
    path = f"{endpoint.tenant}/{endpoint.spec.domain}"
    members = {p: e for p, e in snapshot.endpoints.items() if p.startswith(f"{path}/")}
    one = {path: snapshot.domains[path]}
    return replace(snapshot, tenants={}, domains=one, endpoints=members)


def _receiver(zone: _Zone, made: Prediction) -> str | None:
    if not made.ifindex:
        return None
    return zone.compiled[made.node].names.slots.get(made.ifindex - 1)
