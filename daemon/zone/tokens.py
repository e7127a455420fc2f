"""Tokens: made once, kept as a hash, checked on every request.

A token is 256 bits from the system's random source. A password is hashed slowly because it
can be guessed; nobody guesses 256 bits, whatever a guess costs, so plain SHA-256 keeps the
store from giving tokens away, and a request with a wrong one costs us a microsecond instead
of the tenth of a second that a key derivation would offer to whoever wants to exhaust us.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from daemon.model.user import Token, User
from daemon.store.interface import Compare, Delete, Put, Store
from daemon.zone.errors import CONFLICT, NOT_FOUND, ZoneError
from daemon.zone.restoring import check_not_restoring
from daemon.zone.users import UNTOUCHED, list_tokens, list_users, token_key, user_key

ID_BYTES, SECRET_BYTES = 8, 32
MAX_LIFE_S = 366 * 86_400
_SHAPE = re.compile(r"plumtok_([0-9a-f]{16})_[0-9a-f]{64}")
_NOBODYS_HASH = hashlib.sha256(b"").hexdigest()


class BadTokenError(Exception):
    """The token is good for nothing (any more)."""


async def create_token(
    store: Store, user_name: str, life_s: float, comment: str, now: float
) -> tuple[Token, str]:
    """The record, and the token itself: nobody can tell it again. Raises ZoneError."""
    if not 60 <= life_s <= MAX_LIFE_S:
        raise ZoneError(f"a token lives between a minute and {MAX_LIFE_S // 86_400} days")
    item = await store.get(user_key(user_name))
    if item is None:
        hint = "see all: plumctl user get"
        raise ZoneError(f"there is no user {user_name}", hint, code=NOT_FOUND)
    user = User.model_validate_json(item.value)
    token_id = secrets.token_hex(ID_BYTES)
    text = f"plumtok_{token_id}_{secrets.token_hex(SECRET_BYTES)}"
    token = Token(
        id=token_id,
        user=user.name,
        user_id=user.id,
        hash=_hash(text),
        created=now,
        expires=now + life_s,
        comment=comment,
    )
    key = token_key(token.id)
    done = await store.commit(
        [Compare(item.key, item.mod_revision), Compare(key, 0), UNTOUCHED],
        [Put(key, token.model_dump_json().encode())],
    )
    if not done.succeeded:
        await check_not_restoring(store)
        raise ZoneError(f"user {user.name} was changed meanwhile", "try again", code=CONFLICT)
    return token, text


async def revoke_token(store: Store, token_id: str, tenant: str | None = None) -> Token:
    """End a token; with `tenant` only one of that tenant's users. Raises ZoneError."""
    for token, user in await tokens_and_users(store):
        if token.id == token_id and (tenant is None or (user and user.tenant == tenant)):
            if not (await store.commit([UNTOUCHED], [Delete(token_key(token_id))])).succeeded:
                await check_not_restoring(store)
                raise ZoneError("a restore just ended", "try again", code=CONFLICT)
            return token
    hint = "see all: plumctl token get"
    raise ZoneError(f"there is no token {token_id}", hint, code=NOT_FOUND)


async def tokens_and_users(store: Store) -> list[tuple[Token, User | None]]:
    """Every token with its user; None: the user is gone, the token worthless."""
    tokens = await list_tokens(store)
    users = {user.id: user for user in await list_users(store)}
    return [(token, users.get(token.user_id)) for token in tokens]


async def user_of(store: Store, text: str, now: float) -> tuple[User, Token]:
    """Whose token this is. Raises BadTokenError that says no more than its holder may know."""
    shape = _SHAPE.fullmatch(text)
    item = await store.get(token_key(shape[1])) if shape else None
    token = Token.model_validate_json(item.value) if item else None
    # Compared also when there is none: how long it takes tells nothing.
    right = hmac.compare_digest(_hash(text), token.hash if token else _NOBODYS_HASH)
    if token is None or not right:
        raise BadTokenError("this token is not valid")
    if token.expires <= now:
        raise BadTokenError(f"token {token.id} has expired")
    holder = await store.get(user_key(token.user))
    user = User.model_validate_json(holder.value) if holder else None
    if user is None or user.id != token.user_id:
        raise BadTokenError(f"token {token.id} is of a user who is gone")
    return user, token


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
