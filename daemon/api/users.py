"""Routes about who may: the asker himself, and the zone's users."""

from __future__ import annotations

import time
from typing import Annotated, cast

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from daemon.api.answers import UserAnswer, Users, Whoami
from daemon.api.audit import timestamp
from daemon.api.backend import BackendDep
from daemon.api.principal import Principal
from daemon.api.sight import SightDep
from daemon.model.base import Name
from daemon.model.user import AccessRole, User
from daemon.zone import users as zone

router = APIRouter(prefix="/v1", tags=["access"])

NamePath = Annotated[Name, Path()]


class CreateUser(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    role: AccessRole
    tenant: Name | None = None
    comment: str = Field(default="", max_length=1000)


class SetUser(BaseModel):
    """What is left out stays; a role that has no tenant ends the one it had."""

    model_config = ConfigDict(extra="forbid")

    role: AccessRole | None = None
    tenant: Name | None = None
    comment: str | None = Field(default=None, max_length=1000)


@router.get("/whoami", operation_id="whoami", summary="Who asks, and in which role")
async def whoami(request: Request) -> Whoami:
    """By the connection, or by the token when one is shown."""
    who = cast(Principal, request.state.principal)
    return Whoami.model_validate(
        {
            "kind": str(who.kind),
            "name": who.name,
            "role": who.role,
            "tenant": who.tenant,
            "source": who.source,
            "expires": timestamp(who.expires) if who.expires is not None else None,
        }
    )


@router.get("/users", operation_id="list_users", summary="List users")
async def list_users(backend: BackendDep, sight: SightDep) -> Users:
    """An operator's: those of the own tenant."""
    found = await zone.list_users(backend.store)
    return Users(items=tuple(_answer(user) for user in found if sight.sees_user(user.tenant)))


@router.get("/users/{name}", operation_id="get_user", summary="Read one user")
async def get_user(
    request: Request, backend: BackendDep, sight: SightDep, name: NamePath
) -> UserAnswer:
    request.state.objects = [f"user {name}"]
    user = await zone.get_user(backend.store, name)
    if not sight.sees_user(user.tenant):
        raise zone.no_user(name)
    request.state.objects = _about(name, user.tenant)
    return _answer(user)


@router.post("/users", operation_id="create_user", summary="Make a user")
async def create_user(request: Request, backend: BackendDep, body: CreateUser) -> UserAnswer:
    """Without a token nobody can use it yet."""
    request.state.objects = _about(body.name, body.tenant)
    user = await zone.create_user(
        backend.store, body.name, body.role, body.tenant, body.comment, time.time()
    )
    request.state.summary = f"created as {_words(user)}"
    return _answer(user)


@router.patch("/users/{name}", operation_id="set_user", summary="Change a user")
async def set_user(
    request: Request, backend: BackendDep, name: NamePath, body: SetUser
) -> UserAnswer:
    """Its tokens stay good, with the new rights from the next request on."""
    request.state.objects = [f"user {name}"]
    user = await zone.set_user(backend.store, name, body.role, body.tenant, body.comment)
    request.state.objects = _about(name, user.tenant, body.tenant)
    request.state.summary = f"is now {_words(user)}"
    return _answer(user)


@router.delete("/users/{name}", operation_id="delete_user", summary="Delete a user")
async def delete_user(request: Request, backend: BackendDep, name: NamePath) -> UserAnswer:
    """With all its tokens."""
    request.state.objects = [f"user {name}"]
    user = await zone.delete_user(backend.store, name)
    request.state.objects = _about(name, user.tenant)
    request.state.summary = f"deleted, was {_words(user)}"
    return _answer(user)


def _about(name: str, *tenants: str | None) -> list[str]:
    """For the audit log: operators of the tenant see what is done about its users."""
    return [f"user {name}", *(f"tenant {tenant}" for tenant in {*tenants} - {None})]


def _words(user: User) -> str:
    return f"{user.role} of {user.tenant}" if user.tenant else str(user.role)


def _answer(user: User) -> UserAnswer:
    return UserAnswer(
        name=user.name,
        role=user.role,
        tenant=user.tenant,
        comment=user.comment,
        created=timestamp(user.created),
    )
