"""Routes about the zone as a whole: its backup."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from daemon.api.answers import Restored
from daemon.api.backend import ActorDep, BackendDep
from daemon.model import backup as file
from daemon.zone import backup as zone
from daemon.zone.errors import ZoneError

router = APIRouter(prefix="/v1/zone", tags=["zone"])

LINES = "application/jsonl"


# Not a GET: what it shows is for administrators, and that somebody took it is on record.
@router.post(
    "/backup",
    operation_id="backup",
    summary="Everything that lasts, at one revision",
    response_class=StreamingResponse,
    responses={200: {"content": {LINES: {}}, "description": "Lines of JSON, the last a checksum"}},
)
async def backup(request: Request, backend: BackendDep) -> StreamingResponse:
    """For a file: restore takes it as it is."""
    header, items = await zone.take(backend.store, request.app.version)
    request.state.summary = f"backup: {header.keys} keys at revision {header.revision}"

    def lines() -> Iterator[bytes]:
        yield from file.write(header, ((item.key, item.value) for item in items))

    return StreamingResponse(lines(), media_type=LINES)


@router.post(
    "/restore",
    operation_id="restore",
    summary="Bring the zone to what a backup holds",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {LINES: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def restore(
    request: Request,
    backend: BackendDep,
    actor: ActorDep,
    replace: bool = False,
    other_zone: bool = False,
) -> Restored:
    """Only into an empty store, unless `replace`; of another zone only with `other_zone`.

    Nodes wait until it is done, forwarding as they did, and then take what changed.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
    try:
        # A large zone takes a second: not on the event loop.
        _, items = await asyncio.to_thread(file.read, bytes(body))
    except file.BackupError as error:
        raise ZoneError(error.message, error.hint) from error
    restored = await zone.restore(
        backend.store, items, actor=actor, replace=replace, other_zone=other_zone
    )
    request.state.summary = (
        f"restore: {restored.keys} keys; {restored.written} written, {restored.deleted} deleted"
    )
    return Restored(
        keys=restored.keys,
        written=restored.written,
        deleted=restored.deleted,
        revision=restored.revision,
    )
