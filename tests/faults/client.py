"""One client process: `python -m tests.faults.client ROLE --out FILE ...`.

It ends when its standard input does, so none outlives the run that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import threading
from pathlib import Path

from daemon.store.open import open_store
from tests.faults import store_clients
from tests.faults.api_client import ApiClient
from tests.faults.bugs import Bug, planted
from tests.faults.history import Recorder
from tests.faults.operate import operate


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["registers", "holder", "watch", "api", "operator"])
    parser.add_argument("--name", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--store", default="")
    parser.add_argument("--prefix", action="append", default=[])
    parser.add_argument("--socket", type=Path, action="append", default=[])
    parser.add_argument("--tenant", default="")
    parser.add_argument("--bug", type=Bug, default=Bug.NONE)
    given = parser.parse_args()
    if given.role != "operator":
        threading.Thread(target=_end_with_input, daemon=True).start()
    record = Recorder(given.out, given.name)
    choose = random.Random(f"{given.seed}/{given.name}")
    if given.role == "api":
        ApiClient(given.socket, given.tenant, record, choose).run()
    else:
        asyncio.run(_on_store(given, record, choose))


async def _on_store(given: argparse.Namespace, record: Recorder, choose: random.Random) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _say_where)
    async with await open_store(given.store) as opened:
        store = planted(opened, given.bug)
        client = store_clients.StoreClient(store, record, choose)
        if given.role == "registers":
            await store_clients.registers(client)
        elif given.role == "holder":
            await store_clients.Holder(client, fenced=given.bug is not Bug.UNFENCED).run()
        elif given.role == "operator":
            await operate(client)
        else:
            async with asyncio.TaskGroup() as tasks:
                for prefix in given.prefix:
                    tasks.create_task(store_clients.watch(store, record, prefix))


def _say_where() -> None:
    """Into the client's log: what each task waits for. Asked when a watcher hangs."""
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)
        print(f"  {task.get_coro()!r}", file=sys.stderr, flush=True)


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
