"""The machine's side of joining a zone. Its private key is made here and stays here."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import h11

from daemon.api.client import CONNECT_S, PeerError, Question, Reply, exchange
from daemon.model.base import Address
from daemon.trust.certificate import (
    Certificate,
    PrivateKey,
    check,
    fingerprint,
    new_key,
    read_certificates,
    request,
    vouched,
)
from daemon.trust.contexts import PORT, PREFIX, newcomer_context
from daemon.trust.errors import TrustError
from daemon.trust.folder import Membership, Trust, TrustFolder
from daemon.trust.invitation import Invitation

ANSWER_S = 30.0


async def join(
    folder: TrustFolder,
    invitation: Invitation,
    vtep: Address | None,
    underlay_mtu: int | None,
    now: float,
    port: int = PORT,
) -> Trust:
    """Ask the directors of the token, one after the other, and write the trust folder.

    Raises TrustError: what each said, or why the one that answered refused.
    """
    if folder.exists():
        raise TrustError(
            f"this machine is in a zone already: {folder.path} exists",
            "plumctl zone show says in which; plumctl node join --again replaces it",
        )
    said: list[str] = []
    key = new_key()
    body = {
        "id": invitation.id,
        "secret": invitation.secret,
        "request": request(key, invitation.zone, invitation.node).decode(),
        "vtep": str(vtep) if vtep else None,
        "underlay_mtu": underlay_mtu,
    }
    for name, address in invitation.directors.items():
        try:
            authorities = await _authorities(str(address), port, invitation)
            context = newcomer_context(authorities)
            headers = [("Content-Type", "application/json")]
            question = Question("POST", f"{PREFIX}join", headers, json.dumps(body).encode())
            reply = await _ask(str(address), port, name, context, question)
        except (TrustError, PeerError, OSError, h11.ProtocolError, TimeoutError) as error:
            said.append(f"{name} ({address}): {str(error) or 'no answer in time'}")
            continue
        # Whoever answered is the zone: if it refuses, so would the others.
        trust = _trust(_document(reply), authorities, key, invitation, now)
        folder.write(trust)
        return trust
    raise TrustError(
        f"no director let this machine join: {'; '.join(said)}",
        "see that one runs and that TCP port 4788 reaches it, then try again",
    )


async def _authorities(address: str, port: int, invitation: Invitation) -> tuple[Certificate, ...]:
    """Fetched from whoever answers, and believed only if the token names one of them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    question = Question("GET", f"{PREFIX}authorities")
    answer = _document(await _ask(address, port, None, context, question))
    found = read_certificates(str(answer.get("authorities", "")).encode())
    known = tuple(item for item in found if fingerprint(item) == invitation.authority)
    if not known:
        raise TrustError(
            "it shows another authority than the token names: another zone's, or one that "
            "replaced it since (then make another token)"
        )
    link = str(answer.get("link", ""))
    return vouched(found, known, read_certificates(link.encode())[0] if link else None)


async def _ask(
    address: str, port: int, name: str | None, context: ssl.SSLContext, question: Question
) -> Reply:
    async with asyncio.timeout(CONNECT_S):
        reader, writer = await asyncio.open_connection(
            address, port, ssl=context, server_hostname=name or ""
        )
    try:
        async with asyncio.timeout(ANSWER_S):
            return await exchange(reader, writer, question)
    finally:
        writer.close()


def _document(reply: Reply) -> dict[str, Any]:
    """Raises TrustError in the words of whoever refused."""
    try:
        document: dict[str, Any] = json.loads(reply.body)
    except ValueError as error:
        raise TrustError(f"it answered {reply.status} with no JSON") from error
    if reply.status == 200:
        return document
    said: dict[str, Any] = document.get("error", {})
    problems = "; ".join(str(item["message"]) for item in said.get("problems", ()))
    message = str(said.get("message", f"it answered {reply.status}"))
    raise TrustError(f"{message}: {problems}" if problems else message, str(said.get("hint", "")))


def _trust(
    answer: dict[str, Any],
    authorities: tuple[Certificate, ...],
    key: PrivateKey,
    invitation: Invitation,
    now: float,
) -> Trust:
    certificate = read_certificates(str(answer["certificate"]).encode())[0]
    all_authorities = read_certificates(str(answer["authorities"]).encode())
    node = check(certificate, authorities, invitation.zone, now)
    if node != invitation.node or certificate.public_key() != key.public_key():
        raise TrustError("the director answered with somebody else's certificate")
    membership = Membership.model_validate(
        {
            "id": invitation.zone,
            "node": node,
            "vtep": answer["vtep"],
            "store": answer["store"],
            "directors": answer["directors"],
        }
    )
    return Trust(membership, all_authorities, certificate, key, None)
