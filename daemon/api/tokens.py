"""Routes about tokens: what a user shows where no unix socket tells who it is."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from daemon.api.answers import NewToken, TokenAnswer, Tokens
from daemon.api.audit import timestamp
from daemon.api.backend import BackendDep
from daemon.api.sight import SightDep
from daemon.model.base import Name
from daemon.model.user import Token, User
from daemon.zone import tokens as zone

router = APIRouter(prefix="/v1/tokens", tags=["access"])


class CreateToken(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user: Name
    life_s: float = Field(description="Seconds until it expires; a minute to 366 days")
    comment: str = Field(default="", max_length=1000)


@router.get("", operation_id="list_tokens", summary="List tokens, without their secrets")
async def list_tokens(backend: BackendDep, sight: SightDep, user: Name | None = None) -> Tokens:
    """Of everybody, or of one user."""
    now = time.time()
    found = await zone.tokens_and_users(backend.store)
    return Tokens(
        items=tuple(
            _answer(token, owner, now)
            for token, owner in found
            if sight.sees_user(owner.tenant if owner else None) and user in (None, token.user)
        )
    )


@router.post("", operation_id="create_token", summary="Make a token")
async def create_token(request: Request, backend: BackendDep, body: CreateToken) -> NewToken:
    """The only answer that holds the secret: keep it in a file that only you read."""
    request.state.objects = [f"user {body.user}"]
    now = time.time()
    token, secret = await zone.create_token(
        backend.store, body.user, body.life_s, body.comment, now
    )
    request.state.objects = [f"token {token.id}", f"user {token.user}"]
    request.state.summary = f"expires {timestamp(token.expires)}"
    return NewToken(token=_answer(token, None, now, valid=True), secret=secret)


@router.delete("/{token}", operation_id="revoke_token", summary="End a token now")
async def revoke_token(
    request: Request,
    backend: BackendDep,
    sight: SightDep,
    token: Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")],
) -> TokenAnswer:
    """From the next request on it is not valid."""
    request.state.objects = [f"token {token}"]
    ended = await zone.revoke_token(backend.store, token, sight.tenant)
    request.state.objects = [f"token {ended.id}", f"user {ended.user}"]
    request.state.summary = "revoked"
    return _answer(ended, None, time.time(), valid=False)


def _answer(
    token: Token, owner: User | None, now: float, *, valid: bool | None = None
) -> TokenAnswer:
    return TokenAnswer(
        id=token.id,
        user=token.user,
        comment=token.comment,
        created=timestamp(token.created),
        expires=timestamp(token.expires),
        valid=valid if valid is not None else owner is not None and token.expires > now,
    )
