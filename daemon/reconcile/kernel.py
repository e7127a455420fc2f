"""The host as it is: devices over netlink, rows and programs over bpf(2)."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from daemon.abi import DROP_SLOT_NODE, DropKey, GcArgs, Index
from daemon.abi import Path as PathRow
from daemon.compiler.result import Outside
from daemon.datapath.loader import Datapath
from daemon.datapath.maps import ARRAYS
from daemon.datapath.testrun import run_syscall
from daemon.drivers import netns, underlay
from daemon.drivers.filters import Filters
from daemon.drivers.links import Link, Links, Veth, alias
from daemon.drivers.netlink import Netlink, NetlinkError
from daemon.drivers.netns import Namespaces
from daemon.drivers.nexthop import NextHops
from daemon.drivers.underlay import Underlay
from daemon.model.base import Address
from daemon.model.endpoint import AttachKind
from daemon.reconcile.host import Found, HostError, Want
from daemon.reconcile.status import State

log = logging.getLogger(__name__)

FROM_ENDPOINT = "plum_from_ep"
FROM_UNDERLAY = "plum_from_ul"
FROM_OUTSIDE = "plum_from_ext"
COLLECT = "plum_flow_gc"


class KernelHost:
    """`Host` on the network namespace of the thread that makes it."""

    def __init__(self, node: str, datapath: Datapath, run_dir: Path, device: str = "") -> None:
        """`device` names the tunnels' device; else it is the one with the VTEP address."""
        self._node = node
        self._datapath = datapath
        self._underlay_name = device
        self._netlink = Netlink()
        self._links = Links(self._netlink)
        self._filters = Filters(self._netlink)
        self._namespaces = Namespaces(run_dir)
        self._underlay: Underlay | None = None
        self._underlay_outdated = 0  # ifindex, while an older build's program is there
        self._outside: set[int] | None = None  # ifindexes we guard; None: not looked yet
        self._outside_outdated: set[int] = set()
        self._older = datapath.older  # ids of programs of builds that still may run
        self._merged: tuple[int, Address] | None = None

    def close(self) -> None:
        self._netlink.close()

    # Devices

    def survey(self, ifindexes: Collection[int] | None = None) -> dict[str, Found]:
        links = self._links.list_owned(self._node, ifindexes)
        ours, older = self._guarded([link.index for link in links.values()], FROM_ENDPOINT)
        return {
            path: _found(link, link.index in ours | older, outdated=link.index in older)
            for path, link in links.items()
        }

    def _guarded(self, indexes: Sequence[int], program: str) -> tuple[set[int], set[int]]:
        """Those with this build's program, and those with an older one's."""
        wanted = self._datapath.programs[program].id
        attached = self._filters.attached(indexes)
        ours = {index for index, found in attached.items() if found.program_id == wanted}
        older = {
            index
            for index, found in attached.items()
            if found.name == program and found.program_id in self._older
        }
        return ours, older

    def make(self, wants: Sequence[Want]) -> dict[str, Found | HostError]:
        made: dict[str, Found | HostError] = {}
        for want in wants:
            try:
                link = self._make(want) if want.namespace else self._adopt(want)
                made[want.path] = _found(link, guarded=True)
            except HostError as error:
                made[want.path] = error
            except OSError as error:
                made[want.path] = HostError(f"{want.device}: {error.strerror or error}")
        fresh = {found.ifindex: p for p, found in made.items() if isinstance(found, Found)}
        for index, refusal in self._guard_each(fresh).items():
            made[fresh[index]] = refusal
        return made

    def _make(self, want: Want) -> Link:
        assert want.namespace is not None
        self._namespaces.ensure(want.namespace)
        pair = Veth(
            name=want.device,
            alias=alias(self._node, want.path),
            namespace=self._namespaces.path(want.namespace),
            peer_name=want.inner,
            peer_mac=want.mac,
            mtu=want.mtu,
        )
        try:
            return self._links.create(pair)
        except NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
        stale = self._links.find(want.device)  # half made by a daemon that died
        if stale is None:
            raise HostError(f"namespace {want.namespace} already has a device {want.inner}")
        if not stale.made:
            raise HostError(f"somebody else's device {want.device} is in the way")
        self._links.delete(stale.index)
        return self._links.create(pair)

    def _adopt(self, want: Want) -> Link:
        link = self._links.find(want.device)
        if link is None:
            raise HostError(f"device {want.device} is not there yet", State.PENDING)
        if (want.kind is AttachKind.TAP) != link.tap:
            raise HostError(f"device {want.device} is of kind {link.kind or 'hardware'}")
        self._links.mark(want.device, alias(self._node, want.path))
        return link

    def _guard_each(self, indexes: Collection[int]) -> dict[int, HostError]:
        """Guard all at once; if that fails one by one, to find whose fault it is."""
        try:
            self.guard(indexes)
        except NetlinkError:
            failed: dict[int, HostError] = {}
            for index in indexes:
                try:
                    self.guard([index])
                except NetlinkError as error:
                    failed[index] = HostError(f"attach our program: {error.strerror}")
            return failed
        return {}

    def guard(self, ifindexes: Collection[int]) -> None:
        fd = self._datapath.programs[FROM_ENDPOINT].fd
        self._filters.attach(dict.fromkeys(ifindexes, fd), FROM_ENDPOINT)

    def switch(self, ifindexes: Collection[int]) -> None:
        carry = self._datapath.carry
        carry.state()
        carry.state()  # what changed during the first: soon done, so that little is left
        self.guard(ifindexes)
        if self._underlay_outdated:
            program = self._datapath.programs[FROM_UNDERLAY]
            self._filters.attach({self._underlay_outdated: program.fd}, FROM_UNDERLAY)
            self._underlay_outdated = 0
        self._guard_outside(self._outside_outdated)
        self._outside_outdated = set()
        carry.state(counters=False)  # flows of the moment between

    def open(self, pairs: Iterable[tuple[Want, Found]]) -> dict[str, HostError]:
        failed: dict[str, HostError] = {}
        ready: dict[int, str] = {}
        for want, found in pairs:
            try:
                if found.mtu != want.mtu:
                    self._links.set_mtu(found.ifindex, want.mtu)
                self._links.hush(want.device)
                if want.namespace:
                    self._configure(want, found)
                ready[found.ifindex] = want.path
            except OSError as error:
                failed[want.path] = HostError(f"{want.device}: {error.strerror or error}")
        try:
            self._links.up(*ready)
        except NetlinkError:
            for index, path in ready.items():
                try:
                    self._links.up(index)
                except NetlinkError as error:
                    failed[path] = HostError(f"link up: {error.strerror}")
        return failed

    def _configure(self, want: Want, found: Found) -> None:
        assert want.namespace is not None
        path = self._namespaces.path(want.namespace)
        if found.mtu != want.mtu:
            with netns.netlink_in(path) as inside:
                Links(inside).set_mtu(found.peer_index, want.mtu)
        netns.configure(path, want.inner, found.peer_index, want.inside)

    def remove(self, found: Mapping[str, Found]) -> None:
        self._links.delete(*(device.ifindex for device in found.values() if device.made))
        adopted = [device for device in found.values() if not device.made]
        for device in adopted:  # down first: without our filter it would reach the host
            try:
                self._links.down(device.ifindex)
                self._filters.detach(device.ifindex)
                self._links.hush(device.name, quiet=False)
                self._links.mark(device.name, "")
            except NetlinkError as error:
                if error.errno != errno.ENODEV:
                    raise

    def prune(self, keep: Collection[str]) -> None:
        for name in self._namespaces.list_owned():
            if name not in keep:
                self._namespaces.delete(name)

    # The underlay

    def underlay(self, vtep: Address) -> int:
        found = self._find_underlay(vtep)
        if found is None:
            where = f"device {self._underlay_name}" if self._underlay_name else "a device"
            raise HostError(f"no tunnels: {where} with the VTEP address {vtep} is not there")
        ours, older = self._guarded([found.index], FROM_UNDERLAY)
        self._underlay_outdated = found.index if older else 0
        if not ours | older:
            program = self._datapath.programs[FROM_UNDERLAY]
            self._filters.attach({found.index: program.fd}, FROM_UNDERLAY)
        self._merge_segments(found, vtep)
        return found.index

    def _find_underlay(self, vtep: Address) -> Underlay | None:
        if self._underlay_name:
            link = self._links.find(self._underlay_name)
            return Underlay(link.index, link.name, link.mtu) if link else None
        last = self._underlay  # asking for one device's addresses spares a list of all
        if last is not None:
            held = netns.addresses(self._netlink, last.index)
            if any(address == vtep for _, address in held):
                return last
        self._underlay = underlay.find(self._netlink, vtep)
        return self._underlay

    def _merge_segments(self, found: Underlay, vtep: Address) -> None:
        """Receive offload for tunnels: speed only, so it may fail."""
        if self._merged == (found.index, vtep):
            return
        program = self._datapath.programs[FROM_ENDPOINT]
        try:
            underlay.enable_gro(found.name)
            underlay.ensure_gro_device(self._netlink, vtep, program.fd, FROM_ENDPOINT)
        except OSError as error:
            log.warning(
                "bulk TCP over tunnels will be slow: receive offload is not available",
                extra={"object": found.name, "step": "underlay", "error": str(error)},
            )
        self._merged = (found.index, vtep)

    def check_underlay(self, vtep: Address) -> int:
        found = self._find_underlay(vtep)
        if found is None:
            return 0
        ours, _ = self._guarded([found.index], FROM_UNDERLAY)
        return found.index if ours else 0

    # External networks

    def outside(self, wants: Mapping[str, str]) -> dict[str, Outside | HostError]:
        if not wants and self._outside == set():
            return {}
        links = {network: self._links.find(device) for network, device in wants.items()}
        there = {link.index for link in links.values() if link is not None}
        if self._outside is None:  # what another plumd of this node has left
            every = [link.index for link in self._links.list()]
            ours, older = self._guarded(every, FROM_OUTSIDE)
            self._outside = ours | older
        ours, older = self._guarded(sorted(there), FROM_OUTSIDE)
        self._outside_outdated = older
        self._guard_outside(there - ours - older)
        self._filters.detach(*(self._outside - there))
        self._outside = there
        found: dict[str, Outside | HostError] = {}
        for network, link in links.items():
            if link is None:
                reason = f"device {wants[network]} is not there yet"
                found[network] = HostError(reason, State.PENDING)
            elif not (link.up and link.running):
                reason = f"device {link.name} is down or has no carrier"
                found[network] = HostError(reason, State.PENDING)
            else:
                found[network] = Outside(network, link.index, link.mac)
        return found

    def _guard_outside(self, indexes: Collection[int]) -> None:
        fd = self._datapath.programs[FROM_OUTSIDE].fd
        self._filters.attach(dict.fromkeys(indexes, fd), FROM_OUTSIDE)

    def check_outside(self, wants: Mapping[str, str]) -> tuple[Outside, ...]:
        links = {network: self._links.find(device) for network, device in wants.items()}
        good = {n: link for n, link in links.items() if link and link.up and link.running}
        ours, _ = self._guarded([link.index for link in good.values()], FROM_OUTSIDE)
        return tuple(
            Outside(network, link.index, link.mac)
            for network, link in sorted(good.items())
            if link.index in ours
        )

    def refresh(self, nodes: Mapping[int, Address]) -> set[int]:
        hops = NextHops(self._netlink).resolve(nodes.values())
        now = time.monotonic_ns()
        rows = {
            Index(node).pack(): PathRow(now, hop.ifindex, hop.source_mac, hop.mac).pack()
            for node, address in nodes.items()
            if (hop := hops.get(address))
        }
        if rows:
            self.write("plum_path", rows)
        return {node for node, address in nodes.items() if address not in hops}

    # Rows

    def dump(self, table: str) -> dict[bytes, bytes]:
        return self._datapath.maps[table].dump()

    def image(self, table: str, keys: Iterable[bytes]) -> bytes:
        data = self._datapath.maps[table]
        if data.type not in ARRAYS:
            return data.digest()
        # Behind them nothing refers to a row, and thousands of zeros are slow to read.
        return data.digest(max((Index.unpack(key).index for key in keys), default=-1) + 1)

    def write(self, table: str, rows: Mapping[bytes, bytes]) -> None:
        self._datapath.maps[table].update_many(rows.items())

    def erase(self, table: str, keys: Sequence[bytes]) -> None:
        self._datapath.maps[table].delete_many(keys)

    def forget(self, slots: Collection[int]) -> None:
        drops = self._datapath.maps["plum_drop"]
        counters = {
            "plum_ep_stat": [Index(slot).pack() for slot in slots],
            "plum_drop": [key for key in drops.dump() if DropKey.unpack(key).slot in slots],
        }
        for table, keys in counters.items():
            self._datapath.maps[table].delete_many(keys)
            self._datapath.carry.forget(table, keys)

    def collect(self, slot: int | None = None) -> None:
        arguments = GcArgs(DROP_SLOT_NODE if slot is None else slot, 0, 0)
        run_syscall(self._datapath.programs[COLLECT].fd, arguments.pack())

    def settle(self) -> None:
        self._datapath.retire()
        self._older = frozenset()


def _found(link: Link, guarded: bool, *, outdated: bool = False) -> Found:
    return Found(
        name=link.name,
        ifindex=link.index,
        mac=link.mac,
        mtu=link.mtu,
        up=link.up,
        guarded=guarded,
        tap=link.tap,
        peer_index=link.peer_index,
        made=link.made,
        outdated=outdated,
    )
