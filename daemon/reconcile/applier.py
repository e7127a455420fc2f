"""One cycle: devices, rows, links. Blocking; everything here runs in one thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from daemon.compiler.order import APPLY_ORDER
from daemon.compiler.result import Device, Names, Outside, Runtime
from daemon.model.base import Address
from daemon.model.derive import attach_namespace
from daemon.model.object import Endpoint, Kind
from daemon.model.snapshot import Snapshot
from daemon.reconcile.host import Found, Host, HostError, Want
from daemon.reconcile.keeping import Keeper
from daemon.reconcile.plan import Op, Write, perform, plan, summary
from daemon.reconcile.status import Exceptional, State
from daemon.reconcile.tables import EP, Tables, endpoints_by_slot, ep_key
from daemon.reconcile.wants import Memory, fits, wants_of
from daemon.responders.derive import facts_of
from daemon.responders.facts import Facts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cycle came to."""

    revision: int
    exceptions: tuple[Exceptional, ...] = ()
    names: Names = field(default_factory=Names)
    facts: Mapping[int, Facts] = field(default_factory=dict)  # by slot
    freed: tuple[int, ...] = ()  # slots whose flows are to be purged
    until: datetime | None = None  # when rules' times make another cycle due
    unknown: bool = False  # the store has no object for this node: nothing was touched


class Applier:
    """Brings the machine to a snapshot and keeps it there.

    Idempotent from any state, also from empty memory. After an exception the
    next cycle reads the kernel anew.
    """

    def __init__(self, host: Host, node: str, clock: Callable[[], float] = time.time) -> None:
        self._host = host
        self._node = node
        self._clock = clock
        self._keeper = Keeper()
        self._forget_kernel()
        self._desired: Tables | None = None
        self._images: dict[str, bytes] = {}  # of tables seen to hold what is desired
        self._vtep: Address | None = None
        self._underlay: int = 0  # ifindex
        self._owners: dict[int, int] = {}  # slot -> endpoint id
        self._opened: dict[str, Want] = {}
        self._wanted: Memory = {}
        self._settled = False
        self._outside: tuple[Outside, ...] = ()
        self._attached: dict[str, str] = {}  # devices by external network
        #: External network and gateway, of those that do not answer. Set from outside.
        self.down: frozenset[tuple[str, str]] = frozenset()
        #: Backends that fail their checks, as in Runtime. Set from outside.
        self.sick: tuple[tuple[str, frozenset[tuple[str, str]]], ...] = ()
        self._facts: dict[str, tuple[tuple[object, object, int, int], Facts | None]] = {}

    def _forget_kernel(self) -> None:
        self._found: dict[str, Found] | None = None
        self._actual: Tables | None = None
        self._namespaces: set[str | None] | None = None

    def apply(self, snapshot: Snapshot) -> Outcome:
        """Raises OSError or DatapathError when the machine as a whole refuses."""
        own = snapshot.nodes.get(self._node)
        if own is None:
            return Outcome(snapshot.revision, unknown=True)
        known, actual, namespaces = self._found, self._actual, self._namespaces
        self._forget_kernel()  # until this cycle is through
        wants, troubles = wants_of(snapshot, self._node, self._wanted)
        actual = actual if actual is not None else self._dump()
        before = endpoints_by_slot(actual)
        found = self._host.survey() if known is None else known
        found = self._drop(found, wants, actual)
        found |= self._make(wants, found, troubles)
        exceptions = []
        self._vtep, self._underlay = own.spec.vtep, 0
        try:
            self._underlay = self._host.underlay(own.spec.vtep)
        except HostError as error:
            exceptions.append(_exception(Kind.NODE, self._node, error))
        exceptions += self._attach(snapshot)
        devices = {path: Device(device.ifindex, device.tap) for path, device in found.items()}
        lame = {(n, self._node) for n in self._attached.keys() - {o.network for o in self._outside}}
        runtime = Runtime(self._underlay, self._outside, self.down | lame, self.sick)
        moment = datetime.fromtimestamp(self._clock(), UTC)
        compiled, effective, errors = self._keeper.compile(
            snapshot, self._node, devices, runtime, moment
        )
        for domain, refusal in errors.items():
            reason = HostError(f"{refusal.message}; {refusal.hint}")
            exceptions.append(_exception(Kind.DOMAIN, domain, reason))
            for path in _local(snapshot, self._node, domain):
                troubles.setdefault(path, HostError(f"domain {domain}: {refusal.message}"))
        desired = compiled.packed
        self._renew_owners(before, desired)
        self._perform(plan(desired, actual), actual, found)
        troubles |= self._open(wants, found, desired)
        self._settle(snapshot, namespaces)
        freed = tuple(sorted(before.keys() - endpoints_by_slot(desired).keys()))
        self._desired, self._actual, self._found = desired, actual, found
        exceptions += [_exception(Kind.ENDPOINT, p, error) for p, error in troubles.items()]
        return Outcome(
            snapshot.revision,
            tuple(sorted(exceptions, key=lambda e: (e.kind, e.path))),
            compiled.names,
            self._tell(effective, devices, compiled.mtu),
            freed,
            compiled.until,
        )

    def _attach(self, snapshot: Snapshot) -> list[Exceptional]:
        """Devices on the external networks this node is a gateway of."""
        self._attached = {
            name: gateway.device
            for name, external in snapshot.externals.items()
            for gateway in external.spec.gateways
            if gateway.node == self._node and gateway.device is not None
        }
        results = self._host.outside(self._attached)
        found = (one for one in results.values() if isinstance(one, Outside))
        self._outside = tuple(sorted(found, key=lambda one: one.network))
        return [
            _exception(Kind.EXTERNAL, name, result)
            for name, result in results.items()
            if isinstance(result, HostError)
        ]

    @property
    def outside(self) -> tuple[Outside, ...]:
        """The devices through which this node is a gateway now."""
        return self._outside

    def ifindex_of(self, path: str) -> int:
        """The device of a local endpoint; 0: there is none."""
        found = (self._found or {}).get(path)
        return found.ifindex if found else 0

    def keys(self, table: str) -> tuple[bytes, ...]:
        """Of the rows of a table as they should be."""
        return tuple((self._desired or {}).get(table, ()))

    def _drop(
        self, found: dict[str, Found], wants: Mapping[str, Want], actual: Tables
    ) -> dict[str, Found]:
        """Close and remove devices nobody wants or that cannot serve as they are."""
        going = {
            path: device
            for path, device in found.items()
            if path not in wants
            or not fits(wants[path], device)
            or self._moved(self._opened.get(path), wants[path])
        }
        if not going:
            return dict(found)
        keys = tuple(key for d in going.values() if (key := ep_key(d.ifindex)) in actual[EP])
        if keys:
            self._host.erase(EP, keys)
            self._images.pop(EP, None)
            for key in keys:
                del actual[EP][key]
        self._host.remove(going)
        for path in going:
            self._opened.pop(path, None)
            log.info("device removed", extra={"object": path, "step": "devices"})
        return {path: device for path, device in found.items() if path not in going}

    @staticmethod
    def _moved(before: Want | None, now: Want) -> bool:
        """Whether the inside is another one than we configured."""
        if before is None:
            return False
        return (before.namespace, before.inner, before.inside) != (
            now.namespace,
            now.inner,
            now.inside,
        )

    def _make(
        self,
        wants: Mapping[str, Want],
        found: Mapping[str, Found],
        troubles: dict[str, HostError],
    ) -> dict[str, Found]:
        """Devices that are missing; guarded from their first moment."""
        missing = [want for path, want in wants.items() if path not in found]
        made: dict[str, Found] = {}
        for path, result in (self._host.make(missing) if missing else {}).items():
            if isinstance(result, HostError):
                troubles[path] = result
            else:
                made[path] = result
                log.info("device ready", extra={"object": path, "step": "devices"})
        bare = [device.ifindex for device in found.values() if not device.guarded]
        if bare:
            self._host.guard(bare)
        return made

    def _perform(self, ops: list[Op], actual: Tables, found: dict[str, Found]) -> None:
        """An older build hands over between making rows and taking superfluous ones away:
        until then it may need these, and from then on this one needs those."""
        writes = [at for at, op in enumerate(ops) if isinstance(op, Write)]
        made = writes[-1] + 1 if writes else 0
        self._execute(ops[:made], actual)
        outdated = {path: device for path, device in found.items() if device.outdated}
        if outdated or not self._settled:
            self._host.switch([device.ifindex for device in outdated.values()])
            for path, device in outdated.items():
                found[path] = replace(device, outdated=False)
        self._execute(ops[made:], actual)

    def _execute(self, ops: list[Op], actual: Tables) -> None:
        for op in ops:
            self._images.pop(op.table, None)
            if isinstance(op, Write):
                self._host.write(op.table, op.rows)
            else:
                self._host.erase(op.table, op.keys)
            perform(op, actual)
        if ops:
            log.info("rows written", extra={"step": "rows", "counts": summary(ops)})

    def _open(
        self, wants: Mapping[str, Want], found: dict[str, Found], desired: Tables
    ) -> dict[str, HostError]:
        """Links up, last: of endpoints that are programmed."""
        pairs = [
            (want, found[path])
            for path, want in wants.items()
            if path in found
            and ep_key(found[path].ifindex) in desired[EP]
            and (self._opened.get(path) != want or not found[path].up)
        ]
        failed = self._host.open(pairs) if pairs else {}
        for want, device in pairs:
            if want.path not in failed:
                self._opened[want.path] = want
                found[want.path] = replace(device, mtu=want.mtu, up=True, guarded=True)
        return failed

    def _settle(self, snapshot: Snapshot, namespaces: set[str | None] | None) -> None:
        """Nothing is left of what went away, and of an older build."""
        needed = {
            attach_namespace(endpoint.tenant, endpoint.name, endpoint.spec)
            for endpoint in snapshot.endpoints.values()
            if endpoint.spec.node == self._node
        } - {None}
        if needed != namespaces:
            self._host.prune({name for name in needed if name})
        self._namespaces = needed
        if not self._settled:
            self._host.settle()
            self._settled = True

    def _renew_owners(self, before: Mapping[int, int], desired: Tables) -> None:
        """Counters start at zero for a slot's new owner, before it is opened."""
        after = endpoints_by_slot(desired)
        known = {**before, **self._owners}
        fresh = [slot for slot, owner in after.items() if known.get(slot) != owner]
        if fresh:
            self._host.forget(fresh)
        self._owners |= after

    def _dump(self) -> Tables:
        return {table: self._host.dump(table) for table in APPLY_ORDER}

    def _tell(
        self, snapshot: Snapshot, devices: Mapping[str, Device], mtus: Mapping[str, int]
    ) -> dict[int, Facts]:
        """Facts by slot; those of unchanged endpoints are kept."""
        fresh: dict[str, tuple[tuple[object, object, int, int], Facts | None]] = {}
        told: dict[int, Facts] = {}
        for path, device in devices.items():
            endpoint = snapshot.endpoints.get(path)
            domain = snapshot.domains.get(path.rpartition("/")[0])
            if endpoint is None or domain is None or path not in mtus:
                continue
            basis = (domain, endpoint, device.ifindex, mtus[path])
            old = self._facts.get(path)
            same = old is not None and all(
                a is b or a == b for a, b in zip(old[0], basis, strict=True)
            )
            facts = old[1] if old and same else facts_of(*basis)
            fresh[path] = (basis, facts)
            if facts is not None:
                told[endpoint.slot] = facts
        self._facts = fresh
        return told

    def verify(self, *, rows: bool = True, devices: Collection[int] | None = None) -> list[str]:
        """Compare the machine with the last cycle; what differs, in words.

        The next `apply` puts it right. `devices`: ifindexes of which something was
        heard; None: look at all. Raises OSError or DatapathError.
        """
        if self._desired is None:
            return []
        wrong = self._verify_rows(self._desired) if rows else []
        if devices is None or devices:
            wrong += self._verify_devices(devices)
        return wrong

    def _verify_rows(self, desired: Tables) -> list[str]:
        """Only a table whose image is not that of the last good look is read in full."""
        wrong: list[str] = []
        for table in APPLY_ORDER:
            rows = desired.get(table, {})
            image = self._host.image(table, rows)
            if self._images.get(table) == image:
                continue
            actual = self._host.dump(table)
            what = _differences(table, rows, actual)
            wrong += what
            if not what:
                self._images[table] = image
            elif self._actual is not None:
                self._actual[table] = actual
        return wrong

    def _verify_devices(self, heard: Collection[int] | None) -> list[str]:
        wrong: list[str] = []
        known, survey = self._found or {}, self._host.survey(heard)
        looked = known
        if heard is not None:
            looked = {p: d for p, d in known.items() if d.ifindex in heard or p in survey}
        for path, device in looked.items():
            what = _difference(path, device, survey.get(path))
            if what:
                self._opened.pop(path, None)
                wrong.append(what)
        appeared = survey.keys() - known.keys()
        wrong += [f"device of {path} was there though not wanted" for path in sorted(appeared)]
        self._found = {p: d for p, d in known.items() if p not in looked} | survey
        underlay = heard is None or self._underlay in heard
        if underlay and self._vtep and self._underlay != self._host.check_underlay(self._vtep):
            wrong.append(f"filter of the underlay device with {self._vtep} was gone or not ours")
        if self._attached and self._host.check_outside(self._attached) != self._outside:
            wrong.append("a device on an external network came, went, or lost our filter")
        return wrong


def _difference(path: str, before: Found, now: Found | None) -> str:
    """What happened to a device; empty if nothing did."""
    if now is None:
        return f"device {before.name} of {path} was gone"
    if now.ifindex != before.ifindex:
        return f"device {before.name} of {path} was another one"
    if not now.guarded or now.outdated:
        return f"filter of {before.name} ({path}) was gone or not ours"
    if before.up and not now.up:
        return f"device {before.name} of {path} was down"
    return ""


def _differences(
    table: str, desired: Mapping[bytes, bytes], actual: Mapping[bytes, bytes]
) -> list[str]:
    if desired == actual:
        return []
    missing = len(desired.keys() - actual.keys())
    foreign = len(actual.keys() - desired.keys())
    changed = sum(1 for key, value in desired.items() if actual.get(key, value) != value)
    counts = {"missing": missing, "changed": changed, "not ours": foreign}
    said = ", ".join(f"{count} rows {what}" for what, count in counts.items() if count)
    return [f"{table}: {said}"]


def _local(snapshot: Snapshot, node: str, domain: str) -> list[str]:
    def inside(endpoint: Endpoint) -> bool:
        owner = f"{endpoint.tenant}/{endpoint.spec.domain}"
        return endpoint.spec.node == node and owner == domain

    return [path for path, endpoint in snapshot.endpoints.items() if inside(endpoint)]


def _exception(kind: Kind, path: str, error: HostError) -> Exceptional:
    state = State.PENDING if error.state is State.PENDING else State.ERROR
    return Exceptional(kind=kind, path=path, state=state, reason=error.reason)
