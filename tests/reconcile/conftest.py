"""A machine in memory that keeps the kernel's promises, and may fail at any call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from daemon.compiler.order import APPLY_ORDER
from daemon.compiler.result import Outside
from daemon.drivers.links import host_mac
from daemon.model.base import Address
from daemon.model.endpoint import AttachKind
from daemon.model.object import Domain, Endpoint, Node
from daemon.model.snapshot import Snapshot
from daemon.reconcile.host import Found, HostError, Want
from daemon.reconcile.status import State
from daemon.reconcile.tables import EP, Tables, ep_key


class Broken(OSError):
    """The injected failure."""


@dataclass
class FakeHost:
    devices: dict[str, Found] = field(default_factory=dict)
    tables: Tables = field(default_factory=lambda: {table: {} for table in APPLY_ORDER})
    taps: dict[str, int] = field(default_factory=dict)  # name -> ifindex of what others made
    namespaces: set[str] = field(default_factory=set)
    forgotten: list[int] = field(default_factory=list)
    collected: list[int | None] = field(default_factory=list)
    configured: list[str] = field(default_factory=list)
    written: int = 0  # operations on rows so far
    underlay_ifindex: int = 2
    underlay_guarded: bool = False
    calls: int = 0
    fail_at: int | None = None  # number of the call that fails
    full: str = ""  # a table that takes nothing
    refuse: dict[str, str] = field(default_factory=dict)  # path -> why no device
    refuse_open: dict[str, str] = field(default_factory=dict)
    refreshed: list[Mapping[int, Address]] = field(default_factory=list)
    unresolved: set[int] = field(default_factory=set)
    settled: int = 0
    switched: list[int] = field(default_factory=list)
    needed: Tables = field(default_factory=dict)  # rows an older build refers to
    outside_devices: dict[str, int] = field(default_factory=dict)  # name -> ifindex
    _next: int = 100

    def _call(self) -> None:
        self.calls += 1
        if self.fail_at is not None and self.calls == self.fail_at:
            raise Broken(5, "injected")

    def survey(self, ifindexes: Collection[int] | None = None) -> dict[str, Found]:
        self._call()
        return {
            path: found
            for path, found in self.devices.items()
            if ifindexes is None or found.ifindex in ifindexes
        }

    def make(self, wants: Sequence[Want]) -> dict[str, Found | HostError]:
        self._call()
        made: dict[str, Found | HostError] = {}
        for want in wants:
            if want.path in self.refuse:
                made[want.path] = HostError(self.refuse[want.path])
                continue
            tap = want.kind is AttachKind.TAP
            if want.kind is not AttachKind.NETNS and want.device not in self.taps:
                made[want.path] = HostError(f"{want.device} is not there yet", State.PENDING)
                continue
            assert want.device not in {d.name for d in self.devices.values()}, "made twice"
            index = self.taps.get(want.device) or self.new_index()
            if want.namespace:
                self.namespaces.add(want.namespace)
            mac = host_mac(want.mac).hex(":")
            self.devices[want.path] = Found(
                want.device, index, mac, want.mtu, False, True, tap, index
            )
            made[want.path] = self.devices[want.path]
        return made

    def new_index(self) -> int:
        self._next += 1
        return self._next

    def guard(self, ifindexes: Collection[int]) -> None:
        self._call()
        for path, device in self.devices.items():
            if device.ifindex in ifindexes:
                self.devices[path] = replace(device, guarded=True)

    def switch(self, ifindexes: Collection[int]) -> None:
        self._call()
        for table, rows in self.needed.items():
            assert rows.items() <= self.tables[table].items(), "taken from an older build"
        for path, device in self.devices.items():
            if device.outdated and device.ifindex in ifindexes:
                assert ep_key(device.ifindex) in self.tables[EP], "switched before programmed"
                self.devices[path] = replace(device, outdated=False)
                self.switched.append(device.ifindex)

    def open(self, pairs: Iterable[tuple[Want, Found]]) -> dict[str, HostError]:
        self._call()
        failed: dict[str, HostError] = {}
        for want, found in pairs:
            device = self.devices[want.path]
            assert device.ifindex == found.ifindex
            assert device.guarded, "opened without our program"
            assert ep_key(device.ifindex) in self.tables[EP], "opened before it was programmed"
            if want.path in self.refuse_open:
                failed[want.path] = HostError(self.refuse_open[want.path])
                continue
            self.configured.append(want.path)
            self.devices[want.path] = replace(device, up=True, mtu=want.mtu)
        return failed

    def remove(self, found: Mapping[str, Found]) -> None:
        self._call()
        for path, device in found.items():
            assert ep_key(device.ifindex) not in self.tables[EP], "removed while open"
            self.devices.pop(path, None)

    def prune(self, keep: Collection[str]) -> None:
        self._call()
        self.namespaces &= set(keep)

    def underlay(self, vtep: Address) -> int:
        self._call()
        if not self.underlay_ifindex:
            raise HostError(f"no device has {vtep}")
        self.underlay_guarded = True
        return self.underlay_ifindex

    def outside(self, wants: Mapping[str, str]) -> dict[str, Outside | HostError]:
        return {network: self._outside(network, device) for network, device in wants.items()}

    def _outside(self, network: str, device: str) -> Outside | HostError:
        if device not in self.outside_devices:
            return HostError(f"device {device} is not there yet", State.PENDING)
        return Outside(network, self.outside_devices[device], "02:ee:00:00:00:01")

    def check_outside(self, wants: Mapping[str, str]) -> tuple[Outside, ...]:
        found = self.outside(wants).values()
        return tuple(one for one in found if isinstance(one, Outside))

    def check_underlay(self, vtep: Address) -> int:
        self._call()
        return self.underlay_ifindex if self.underlay_guarded else 0

    def refresh(self, nodes: Mapping[int, Address]) -> set[int]:
        self.refreshed.append(dict(nodes))
        return self.unresolved & nodes.keys()

    def dump(self, table: str) -> dict[bytes, bytes]:
        self._call()
        return dict(self.tables[table])

    def image(self, table: str, keys: Iterable[bytes]) -> bytes:
        self._call()
        return repr(sorted(self.tables[table].items())).encode()

    def write(self, table: str, rows: Mapping[bytes, bytes]) -> None:
        self._call()
        if table == self.full:
            raise Broken(28, f"{table} is full")
        if table == EP:
            guarded = {ep_key(d.ifindex) for d in self.devices.values() if d.guarded}
            assert rows.keys() <= guarded, "a row for a device without our program"
        self.written += 1
        self.tables[table].update(rows)

    def erase(self, table: str, keys: Sequence[bytes]) -> None:
        self._call()
        self.written += 1
        for key in keys:
            self.tables[table].pop(key, None)

    def forget(self, slots: Collection[int]) -> None:
        self._call()
        self.forgotten += slots

    def collect(self, slot: int | None = None) -> None:
        self._call()
        self.collected.append(slot)

    def settle(self) -> None:
        self._call()
        self.settled += 1


NODES = {
    name: Node.model_validate({"name": name, "id": number, "spec": {"vtep": f"192.0.2.{number}"}})
    for number, name in enumerate(("n1", "n2"), 1)
}


def domain(name: str = "shop", number: int = 1, **spec: object) -> Domain:
    return Domain.model_validate(
        {
            "tenant": "acme",
            "name": name,
            "id": number,
            "vnis": {"web": 100 * number},
            "router_ids": {},
            "spec": {"bridges": [{"name": "web", "subnets": ["10.0.0.0/24"]}], **spec},
        }
    )


def endpoint(
    name: str,
    number: int,
    slot: int | None = None,
    node: str = "n1",
    owner: str = "shop",
    **spec: object,
) -> Endpoint:
    return Endpoint.model_validate(
        {
            "tenant": "acme",
            "name": name,
            "id": number,
            "slot": number if slot is None else slot,
            "mac": f"02:65:00:00:00:{number:02x}",
            "addresses": [f"10.0.0.{number}"],
            "spec": {"domain": owner, "bridge": "web", "node": node, **spec},
        }
    )


def zone(
    *endpoints: Endpoint, revision: int = 1, domains: tuple[Domain, ...] | None = None
) -> Snapshot:
    return Snapshot(
        revision,
        {},
        NODES,
        {f"acme/{d.name}": d for d in domains or (domain(),)},
        {f"acme/{e.spec.domain}/{e.name}": e for e in endpoints},
    )
