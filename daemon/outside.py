"""What a plumd does about external networks besides rows: which gateways answer, and,
on a gateway, who its neighbours are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from daemon.abi import Neigh, NeighKey
from daemon.compiler.wide import mac_bytes, wide
from daemon.drivers.street import NeighbourListener
from daemon.mesh.gateways import GatewayProber, Gateways
from daemon.model.base import Address
from daemon.model.derive import gateways_of, uplinks_of
from daemon.model.object import External
from daemon.reconcile.loop import Reconciler
from daemon.responders.neighbours import Neighbours, Segment, Send

LOOK_S = 0.1

#: Writes or (None) erases a row of plum_neigh, both packed.
WriteNeighbour = Callable[[bytes, bytes | None], None]


class OutsideDuties:
    def __init__(self, reconciler: Reconciler, send: Send, write: WriteNeighbour) -> None:
        self._reconciler = reconciler
        self._write = write
        self._prober = GatewayProber(self._own, self._gateways, reconciler.gateways_down)
        self.neighbours = Neighbours(send, self._know, self._next_hop)
        self._listener = NeighbourListener(self.neighbours.heard)
        self._served: tuple[Segment, ...] = ()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._prober.run())
            tasks.create_task(self._keep_neighbours())

    async def _keep_neighbours(self) -> None:
        try:
            while True:
                segments = self._segments()
                if segments != self._served:
                    self._served = segments
                    self._listener.listen(segment.ifindex for segment in segments)
                    self.neighbours.serve(segments)
                elif segments:
                    self.neighbours.tick()
                await asyncio.sleep(LOOK_S)
        finally:
            self._listener.close()

    def _own(self) -> Address | None:
        own = self._reconciler.snapshot.nodes.get(self._reconciler.node)
        return own.spec.vtep if own else None

    def _gateways(self) -> Gateways:
        """Those that matter here: of networks our domains lead to, or that we serve."""
        snapshot, node = self._reconciler.snapshot, self._reconciler.node
        led = {
            uplink.network
            for domain in snapshot.domains.values()
            for _, _, uplink in uplinks_of(domain.spec)
        }
        return {
            (name, gateway): (external.vni, snapshot.nodes[gateway].spec.vtep)
            for name, external in snapshot.externals.items()
            if name in led or node in gateways_of(external.spec)
            for gateway in gateways_of(external.spec) - {node}
            if gateway in snapshot.nodes
        }

    def _segments(self) -> tuple[Segment, ...]:
        externals, claims = self._reconciler.snapshot.externals, self._reconciler.claims()
        found = []
        for here in self._reconciler.outside:
            external = externals.get(here.network)
            if external is None:
                continue
            hops = {via for route in external.spec.routes for via in route.via}
            found.append(
                Segment(
                    here.network,
                    external.vni,
                    here.ifindex,
                    mac_bytes(here.mac),
                    external.spec.vlan or 0,
                    self._own_addresses(external),
                    tuple(sorted(hops, key=str)),
                    claims.get(external.vni, frozenset()),
                )
            )
        return tuple(found)

    def _own_addresses(self, external: External) -> tuple[Address, ...]:
        node = self._reconciler.node
        gateways = (one for one in external.spec.gateways if one.node == node)
        return tuple(address.ip for one in gateways for address in one.addresses)

    def _next_hop(self, vni: int, target: Address) -> Address | None:
        """As the datapath would choose; of several next hops the first."""
        for external in self._reconciler.snapshot.externals.values():
            if external.vni != vni:
                continue
            spec = external.spec
            nets = [a.network for one in spec.gateways for a in one.addresses]
            if any(target.version == net.version and target in net for net in nets):
                return target
            routes = [r for r in spec.routes if r.to.version == target.version and target in r.to]
            best = max(routes, key=lambda route: route.to.prefixlen, default=None)
            return best.via[0] if best else None
        return None

    def _know(self, vni: int, address: Address, mac: bytes | None, now_ns: int) -> None:
        key = NeighKey(vni, wide(address)).pack()
        self._write(key, Neigh(now_ns, mac).pack() if mac else None)
