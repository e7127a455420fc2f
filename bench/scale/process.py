"""Processes that do one request after the other: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

#: A thousand agents' reports are one line.
LIMIT = 1 << 28
ANSWER_S = 300.0

Request = dict[str, Any]
Serve = Callable[[Request], Awaitable[Any]]


class ProcessFailed(Exception):
    """What a process of the simulation said last."""


class Process:
    """The side that asks."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, **request: Any) -> Any:
        """Raises ProcessFailed when it ends instead, or is not done in ANSWER_S."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
        except (TimeoutError, ConnectionError) as error:
            raise ProcessFailed(f"{self._name} does not answer {request}: {error!r}") from error
        if not line:
            raise ProcessFailed(f"{self._name} ended; its last words are above")
        return json.loads(line)


@asynccontextmanager
async def started(module: str, *arguments: str) -> AsyncIterator[Process]:
    """`python -m module arguments` until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LIMIT,
    )
    try:
        yield Process(process, " ".join((module, *arguments)))
    finally:
        assert process.stdin
        process.stdin.close()  # it ends by itself
        try:
            async with asyncio.timeout(3):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def serve(answer: Serve) -> None:
    """The side that is asked: until its input ends."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # as plumd
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LIMIT)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        result = await answer(json.loads(line))
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
