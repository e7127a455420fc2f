"""From a compiled domain to the same with a few endpoints changed.

A remote endpoint is a row or two of plum_host and one of plum_mac. As long as nobody
else claims its addresses or its MAC, and nothing shared (a class of peers, a policy
set, a backend list) begins or ends with it, all other rows stay. Everything rarer is
left to a whole compilation: `step` then answers None. What it does answer is equal to
what `compile_whole` gives (tests/compiler/test_incremental.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

from daemon.abi import Host, HostKey, MacKey, Port, Row
from daemon.compiler.domain import (
    CompiledDomain,
    DomainRows,
    bridge_mtus,
    endpoint_mtus,
    ep_rows,
    epoch_rows,
    slots,
    table_sum,
)
from daemon.compiler.limits import limit_rows
from daemon.compiler.members import Changed
from daemon.compiler.result import Device, Packed, Rows, Table, pack
from daemon.compiler.seat import Seat, seats
from daemon.compiler.switching import flood_rows, source_rows
from daemon.compiler.wide import narrow
from daemon.model.derive import uplinks_of
from daemon.model.object import Endpoint

#: Of a domain's endpoints; with more changed than this a whole compilation is not dearer.
FEW = 64

_GROWING = ("plum_host", "plum_mac")


def step(
    old: CompiledDomain, changed: Changed, devices: Mapping[str, Device]
) -> CompiledDomain | None:
    """The domain with `changed` endpoints and these local devices, or None: compile it whole.

    `changed` has every endpoint that is another object than it was, and those whose
    device changed. Raises CompileError where `compile_whole` would.
    """
    if len(changed) > FEW:
        return None
    given = replace(old.given, devices=devices)
    gone = _seats(old, old.given.devices, ((path, was) for path, (was, _) in changed.items()))
    come = _seats(old, devices, ((path, now) for path, (_, now) in changed.items()))
    if any(_shares(old, seat) for seat in (*gone, *come)):
        return None
    edit = _Edit(old)
    if not (all(map(edit.take_out, gone)) and all(map(edit.put_in, come))):
        return None
    local = old.local
    if any(not seat.node for seat in (*gone, *come)):
        staying = (seat for seat in old.local if seat.path not in changed)
        mine = (seat for seat in come if not seat.node)
        local = tuple(sorted((*staying, *mine), key=lambda seat: seat.path))
        if _sets(old, local) != _sets(old, old.local):
            return None
    if not edit.keeps_classes():
        return None
    return _finish(replace(old, given=given, local=local), edit)


def _seats(
    old: CompiledDomain,
    devices: Mapping[str, Device],
    endpoints: Iterable[tuple[str, Endpoint | None]],
) -> list[Seat]:
    given = old.given
    there = [(path, endpoint) for path, endpoint in endpoints if endpoint is not None]
    return seats(given.domain, there, given.node, given.node_ids, devices, given.groups)


def _shares(old: CompiledDomain, seat: Seat) -> bool:
    """Whether rows beyond its own follow from the endpoint."""
    if seat.pairs:
        return True
    names = {backend.endpoint for lb in old.balancers for backend in lb.spec.backends}
    groups = {lb.spec.group for lb in old.balancers}
    for _, _, uplink in uplinks_of(old.given.domain.spec):
        names |= {floating.endpoint for floating in uplink.floating if floating.endpoint}
        names |= {forward.endpoint for forward in uplink.forwards}
        if any(narrow(a) in prefix.inside for a in seat.addresses for prefix in uplink.prefixes):
            return True
    return seat.endpoint.name in names or not groups.isdisjoint(seat.groups)


def _sets(old: CompiledDomain, local: Iterable[Seat]) -> set[tuple[int, ...]]:
    """Policy sets in use."""
    return {old.policies.applying(seat.groups) for seat in local if seat.ifindex}


class _Edit:
    """Rows of plum_host and plum_mac that go and come."""

    def __init__(self, old: CompiledDomain) -> None:
        self._old = old
        self._rows = {name: old.output.rows[name] for name in _GROWING}
        self.out: dict[str, list[Row]] = {name: [] for name in _GROWING}
        self.into: dict[str, Table] = {name: {} for name in _GROWING}
        self.remote: Counter[tuple[int, int]] = Counter(old.remote)
        self._classes: Counter[int] = Counter()
        silent = [seat for seat in old.local if not seat.ifindex]
        self._silent = {key for seat in silent for key in self._keys(seat)}

    def _keys(self, seat: Seat) -> list[tuple[str, Row]]:
        """Of the rows the endpoint has, or would have if it had a device."""
        domain = self._old.given.domain.id
        hosts = [("plum_host", HostKey(domain, addr)) for addr in seat.addresses]
        return [*hosts, ("plum_mac", MacKey(seat.vni, seat.mac))]

    def take_out(self, seat: Seat) -> bool:
        """False if another endpoint, a router or a balancer may want what gets free."""
        for name, key in self._keys(seat):
            if key in self._old.contested[name]:
                return False
            if not seat.reachable:
                self._silent.discard((name, key))
                continue
            self.out[name].append(key)
            if name == "plum_host":
                self._classes[cast(Host, self._rows[name][key]).peer_class] -= 1
        if seat.node:
            self.remote[seat.vni, seat.node] -= 1
        return True

    def put_in(self, seat: Seat) -> bool:
        """False if somebody has one of its addresses, or its MAC."""
        for name, key in self._keys(seat):
            held = key in self._rows[name] and key not in self.out[name]
            if held or key in self.into[name] or (name, key) in self._silent:
                return False
            if key in self._old.contested[name]:
                return False
            if not seat.reachable:
                self._silent.add((name, key))
                continue
            self.into[name][key] = self._row(name, key, seat)
        if seat.node:
            self.remote[seat.vni, seat.node] += 1
        return True

    def _row(self, name: str, key: Row, seat: Seat) -> Row:
        if name == "plum_mac":
            return Port(seat.node, seat.ifindex, 0, 0)
        peer_class = self._old.peers.of_host(cast(HostKey, key).addr, seat.groups)
        self._classes[peer_class] += 1
        return Host(peer_class, seat.vni, seat.node, seat.ifindex, 0, seat.mac, 0)

    def keeps_classes(self) -> bool:
        """Rows of policies are made for the classes there are: none may begin or end."""
        before = self._old.classes
        return all(
            not number or (before[number] > 0) == (before[number] + more > 0)
            for number, more in self._classes.items()
        )

    @property
    def classes(self) -> Counter[int]:
        after = Counter(self._old.classes)
        after.update(self._classes)
        return after


def _finish(new: CompiledDomain, edit: _Edit) -> CompiledDomain:
    """`new` has the old rows still."""
    given, local = new.given, new.local
    rows, packed = dict(new.output.rows), dict(new.output.packed)
    sums = dict(new.sums)
    for name in _GROWING:
        _patch(name, edit, rows, packed, sums)
    remote = +edit.remote
    mtus = bridge_mtus(given)
    small: Rows = {
        "plum_flood": flood_rows(given.path, given.domain, local, remote),
        "plum_source": source_rows(local),
        "plum_limit": limit_rows(local),
        "plum_ep": ep_rows(given.domain, local, new.policies, mtus),
    }
    for name, table in pack(small).items():
        if table != packed[name]:
            rows[name], packed[name], sums[name] = small[name], table, table_sum(name, table)
    rows["plum_epoch"] = epoch_rows(local, sums)
    packed |= pack({"plum_epoch": rows["plum_epoch"]})
    names = replace(new.output.names, slots=slots(local))
    output = DomainRows(rows, packed, names, endpoint_mtus(local, mtus))
    return replace(new, output=output, remote=remote, classes=edit.classes, sums=sums)


def _patch(name: str, edit: _Edit, rows: Rows, packed: Packed, sums: dict[str, int]) -> None:
    """Take rows out of a large table and put some in, in copies: the old one stays good."""
    out, into = edit.out[name], edit.into[name]
    if not out and not into:
        return
    table, bytes_ = dict(rows[name]), dict(packed[name])
    gone: dict[bytes, bytes] = {}
    for key in out:
        del table[key]
        raw = key.pack()
        gone[raw] = bytes_.pop(raw)
    come = pack({name: into})[name]
    table.update(into)
    bytes_.update(come)
    rows[name], packed[name] = table, bytes_
    sums[name] += table_sum(name, come) - table_sum(name, gone)
