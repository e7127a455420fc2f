"""Users in the store: made, changed, deleted with their tokens."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Sequence

from daemon.model.object import Kind, Ref
from daemon.model.problem import Problem
from daemon.model.user import AccessRole, Token, User, role_problem
from daemon.store.interface import Compare, Delete, Item, Put, Store
from daemon.zone.errors import CONFLICT, NOT_FOUND, ZoneError
from daemon.zone.keys import MEMBERS, RESTORE, TOKENS, USERS, object_key
from daemon.zone.restoring import check_not_restoring

ATTEMPTS = 20
UNTOUCHED = Compare(RESTORE, 0)  # no restore or move is under way

Writes = list[Put | Delete]


def user_key(name: str) -> str:
    return f"{USERS}{name}"


def token_key(token_id: str) -> str:
    return f"{TOKENS}{token_id}"


def members_key(tenant: str) -> str:
    return f"{MEMBERS}{tenant}"


async def list_users(store: Store) -> list[User]:
    return [_user(item) for item in (await store.list(USERS)).items]


async def get_user(store: Store, name: str) -> User:
    """Raises ZoneError."""
    return _user(await _item(store, name))


async def create_user(
    store: Store, name: str, role: AccessRole, tenant: str | None, comment: str, now: float
) -> User:
    """Raises ZoneError."""
    user = User(
        name=name,
        role=role,
        tenant=tenant,
        comment=comment,
        created=now,
        id=secrets.token_hex(8),
    )

    async def attempt() -> User | None:
        if await store.get(user_key(name)) is not None:
            hint = f"change it with plumctl user set {name}, or choose another name"
            raise ZoneError(f"there is a user {name} already", hint, code=CONFLICT)
        compares = [Compare(user_key(name), 0), UNTOUCHED, *await _check(store, user)]
        writes: Writes = [_put(user)]
        await _move(store, name, None, tenant, compares, writes)
        return user if (await store.commit(compares, writes)).succeeded else None

    return await _until_done(store, attempt)


async def set_user(
    store: Store,
    name: str,
    role: AccessRole | None = None,
    tenant: str | None = None,
    comment: str | None = None,
) -> User:
    """Change what is given. A role without a tenant of its own ends the old one's.

    Tokens stay good, for the new role. Raises ZoneError.
    """

    async def attempt() -> User | None:
        item = await _item(store, name)
        before = _user(item)
        given = {"role": role, "tenant": tenant, "comment": comment}
        update: dict[str, str | None] = {
            key: value for key, value in given.items() if value is not None
        }
        if role is not None and role is not AccessRole.TENANT_OPERATOR and tenant is None:
            update["tenant"] = None
        after = before.model_copy(update=update)
        compares = [
            Compare(item.key, item.mod_revision),
            UNTOUCHED,
            *await _check(store, after),
        ]
        writes: Writes = [_put(after)]
        await _move(store, name, before.tenant, after.tenant, compares, writes)
        return after if (await store.commit(compares, writes)).succeeded else None

    return await _until_done(store, attempt)


async def delete_user(store: Store, name: str) -> User:
    """With all tokens. Raises ZoneError."""

    async def attempt() -> User | None:
        item = await _item(store, name)
        user = _user(item)
        compares = [Compare(item.key, item.mod_revision), UNTOUCHED]
        writes: Writes = [Delete(item.key)]
        await _move(store, name, user.tenant, None, compares, writes)
        return user if (await store.commit(compares, writes)).succeeded else None

    user = await _until_done(store, attempt)
    # Worthless already: they name this user's id. So they need not go in the same
    # transaction, which could not hold any number of them.
    for token in await list_tokens(store):
        if token.user_id == user.id:
            await store.commit([], [Delete(token_key(token.id))])
    return user


async def list_tokens(store: Store) -> list[Token]:
    return [Token.model_validate_json(item.value) for item in (await store.list(TOKENS)).items]


async def members(store: Store, tenant: str) -> tuple[Sequence[str], Compare]:
    """The tenant's users, and what must still hold when somebody relies on that."""
    key = members_key(tenant)
    item = await store.get(key)
    names: list[str] = json.loads(item.value) if item else []
    return names, Compare(key, item.mod_revision if item else 0)


async def _item(store: Store, name: str) -> Item:
    item = await store.get(user_key(name))
    if item is None:
        raise no_user(name)
    return item


def no_user(name: str) -> ZoneError:
    """Also for one that the asker is not to see: the two must look the same."""
    return ZoneError(f"there is no user {name}", "see all: plumctl user get", code=NOT_FOUND)


async def _check(store: Store, user: User) -> list[Compare]:
    """Raises ZoneError. Returns what must hold for the user to be right."""
    where = f"user {user.name}: role"
    if problem := role_problem(user.role, user.tenant):
        raise ZoneError(problem, "see plumctl user create --help", [Problem(where, problem)])
    if user.tenant is None:
        return []
    item = await store.get(object_key(Ref(kind=Kind.TENANT, name=user.tenant)))
    if item is None:
        hint = "make it first: plumctl apply; see which there are: plumctl get tenant"
        raise ZoneError(f"there is no tenant {user.tenant}", hint)
    return [Compare(item.key, item.mod_revision)]


async def _move(
    store: Store,
    name: str,
    before: str | None,
    after: str | None,
    compares: list[Compare],
    writes: Writes,
) -> None:
    """Take the name out of one tenant's members and into the other's."""
    for tenant in {before, after} - {None}:
        assert tenant is not None
        names, compare = await members(store, tenant)
        wanted = sorted({*names, name} if tenant == after else set(names) - {name})
        if wanted == names:
            continue
        compares.append(compare)
        if wanted:
            writes.append(Put(compare.key, json.dumps(wanted).encode()))
        else:
            writes.append(Delete(compare.key))


def _put(user: User) -> Put:
    return Put(user_key(user.name), user.model_dump_json().encode())


def _user(item: Item) -> User:
    return User.model_validate_json(item.value)


async def _until_done(store: Store, attempt: Callable[[], Awaitable[User | None]]) -> User:
    for _ in range(ATTEMPTS):
        user = await attempt()
        if user is not None:
            return user
        await check_not_restoring(store)
    raise ZoneError(
        f"others changed this user {ATTEMPTS} times meanwhile",
        "nothing was written; try again",
        code=CONFLICT,
    )
