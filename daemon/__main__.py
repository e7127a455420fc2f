"""plumd: one node of a zone. Wiring, signals, and the order of start and stop."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing

from daemon import joined, logs, purge
from daemon.abi import Punt, PuntKind, RuleLog
from daemon.api.listen import Listener, ListenError
from daemon.api.local import RunningNode
from daemon.api.server import ApiServer
from daemon.api.upkeep import Upkeep
from daemon.datapath import DatapathError, mount_bpffs
from daemon.datapath.events import PuntReader, RingReader
from daemon.datapath.loader import load
from daemon.drivers.monitor import Change, Event, Monitor
from daemon.duties import Duties
from daemon.health.service import HealthService
from daemon.naming import Naming
from daemon.notify import notify, watchdog_period_s
from daemon.options import Options, parse, program_version
from daemon.outside import OutsideDuties
from daemon.reconcile.kernel import KernelHost
from daemon.reconcile.loop import Reconciler
from daemon.reconcile.rule_log import RuleLines
from daemon.responders import ra
from daemon.responders.service import PacketSocket, Responder
from daemon.store.interface import Store, StoreError, UnreachableError
from daemon.store.open import open_store
from daemon.trust.errors import TrustError
from daemon.zone.format import check_format

log = logging.getLogger(__name__)

#: A request goes through half a dozen threads; each waits this long for one that computes.
SWITCH_S = 0.0005

#: Objects made before the garbage collector looks for cycles, and how often it looks at older
#: ones. A look at all stops everything for as long as an endpoint's first packet may take.
GARBAGE = (20_000, 20, 50)

STORE_WAIT_S = 30.0
STORE_RETRY_S = 0.5

EXIT_FAILURE = 1
EXIT_NOT_ROOT = 77  # sysexits.h: EX_NOPERM


def main(arguments: Sequence[str] | None = None) -> int:
    faulthandler.enable()  # a watchdog's SIGABRT leaves the stacks of all threads
    options = parse(sys.argv[1:] if arguments is None else arguments)
    logs.set_up(options.node, options.log_level)
    if os.geteuid() != 0:
        log.error("plumd must run as root: it loads programs and makes devices")
        return EXIT_NOT_ROOT
    try:
        if options.purge:
            with closing(Listener(options.socket)):  # no plumd runs meanwhile
                purge.purge(options.node, options.run_dir, options.pin_dir)
        else:
            asyncio.run(serve(options))
    except TrustError as error:
        words = f"{error.message}; {error.hint}"
        log.error("plumd cannot run", extra={"step": "start", "error": words})
        return EXIT_FAILURE
    except (ListenError, StoreError, DatapathError, OSError) as error:
        log.error("plumd cannot run", extra={"step": "start", "error": str(error)})
        return EXIT_FAILURE
    return 0


async def serve(options: Options) -> None:
    """Until SIGTERM or SIGINT. The kernel goes on forwarding after it."""
    _pace_python()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    options.run_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    options.state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        listener = Listener(options.socket)  # first: at most one plumd goes past it
        stack.callback(listener.close)
        credentials = joined.credentials_of(options)
        store = await stack.enter_async_context(await _open_store(options.store))
        await check_format(store)
        # Before anything is touched: the store may be another zone's.
        member = await joined.enter(credentials, store, lambda: reconciler.snapshot.nodes)
        mount_bpffs()
        sizes = {}
        if options.flow_entries is not None:
            sizes = dict.fromkeys(("plum_flow4", "plum_flow6"), options.flow_entries)
        datapath = load(options.pin_dir, max_entries=sizes)
        stack.callback(datapath.close)
        host = KernelHost(options.node, datapath, options.run_dir, options.underlay)
        stack.callback(host.close)
        packets = PacketSocket()
        stack.callback(packets.close)
        responder = Responder(packets.send)
        reconciler = Reconciler(
            options.node,
            store,
            host,
            responder,
            api=joined.api_url(options, credentials),
            version=program_version(),
        )

        neigh = datapath.maps["plum_neigh"]
        outside = OutsideDuties(
            reconciler,
            packets.send,
            lambda key, row: neigh.update(key, row) if row else neigh.delete_many([key]),
        )

        naming = Naming(reconciler, packets.send)
        stack.push_async_callback(naming.close)

        def punted(punt: Punt, frame: bytes) -> None:
            if punt.kind == PuntKind.NEIGH:
                outside.neighbours.wanted(punt.slot, frame)
            elif punt.kind == PuntKind.DNS:
                naming.request(punt.slot, punt.ifindex, frame)
            else:
                responder.request(punt.kind, punt.slot, punt.ifindex, frame)

        reader = PuntReader(datapath.maps["plum_punt"], punted)
        stack.callback(reader.close)
        lines = RuleLines(time.time_ns)

        def decided(sample: bytes) -> None:
            lines.hear(RuleLog.unpack(sample), reconciler.names, reconciler.snapshot)

        rule_log = RingReader(datapath.maps["plum_log"], decided)
        stack.callback(rule_log.close)

        def heard(event: Event) -> None:
            gone = (Change.LINK_GONE, Change.FILTER_GONE, Change.OVERRUN)
            reconciler.device_event(event.index, urgent=event.change in gone)

        monitor = Monitor(heard)
        stack.callback(monitor.close)
        duties = Duties(reconciler, store)
        health = HealthService(
            options.node,
            store,
            lambda: reconciler.snapshot,
            reconciler.ifindex_of,
            reconciler.backends_down,
        )
        node = RunningNode(
            reconciler,
            lambda table, key: datapath.maps[table].lookup(key),
            lambda table: datapath.maps[table].dump(),
            duties.prober.states,
            lines,
        )
        stack.callback(node.close)
        api = joined.make_api(options, store, node, listener, member)
        await _run(stop, api.server, reconciler, responder, duties, outside, health, api.upkeep)


async def _open_store(url: str) -> Store:
    """A cluster that boots along with us may take a while until it answers."""
    give_up = time.monotonic() + STORE_WAIT_S
    while True:
        try:
            return await open_store(url)
        except UnreachableError as error:
            if time.monotonic() > give_up:
                raise
            log.info("waiting for the store", extra={"step": "start", "error": str(error)})
            await asyncio.sleep(STORE_RETRY_S)


def _pace_python() -> None:
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()  # what was imported stays, and need not be looked at again
    gc.set_threshold(*GARBAGE)


async def _run(
    stop: asyncio.Event,
    server: ApiServer,
    reconciler: Reconciler,
    responder: Responder,
    duties: Duties,
    outside: OutsideDuties,
    health: HealthService,
    upkeep: Upkeep | None,
) -> None:
    tasks = [
        asyncio.create_task(server.serve(), name="api"),
        asyncio.create_task(reconciler.run(), name="reconcile"),
        asyncio.create_task(duties.run(), name="duties"),
        asyncio.create_task(outside.run(), name="outside"),
        asyncio.create_task(health.run(), name="health"),
        asyncio.create_task(_advertise(responder), name="advertise"),
        asyncio.create_task(_watchdog(), name="watchdog"),
    ]
    if upkeep is not None:
        tasks.append(asyncio.create_task(upkeep.run(), name="upkeep"))
    stopping = asyncio.create_task(stop.wait(), name="stop")
    log.info("plumd started", extra={"step": "start", "object": reconciler.node})
    notify("READY=1")
    try:
        await asyncio.wait([stopping, *tasks[:5]], return_when=asyncio.FIRST_COMPLETED)
    finally:
        notify("STOPPING=1")
        log.info("plumd stops, the datapath goes on", extra={"step": "stop"})
        server.stop()
        for task in (stopping, *tasks[1:]):
            task.cancel()
        results = await asyncio.gather(*tasks, stopping, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _advertise(responder: Responder) -> None:
    while True:
        await asyncio.sleep(ra.INTERVAL_S)
        responder.advertise()


async def _watchdog() -> None:
    """Says we are alive as long as the event loop turns."""
    period_s = watchdog_period_s()
    while period_s is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(period_s)


if __name__ == "__main__":
    sys.exit(main())
