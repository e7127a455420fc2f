"""Requests that another node has to answer: changes, which directors make, and whatever
names a node in its Plum-Node header.

What is sent on carries the caller's token, and the director judges that: the word of this
node about its local users changes nothing in the zone. It is sent on once; a node that gets
a request which was meant for another one refuses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI, Request, Response

from daemon.api.backend import Backend, BackendDep
from daemon.api.client import NotAskedError, PeerError, Question, Reply
from daemon.api.errors import RefusedError, error_response
from daemon.api.peer import Peer
from daemon.api.principal import ON_BEHALF_HEADER, Principal

NODE_HEADER = "plum-node"
#: A change of a thousand endpoints takes one second.
ANSWER_S = 25.0
#: What a request may ask for itself, and what an answer may say.
_UP = ("accept", "content-type", "authorization")
_DOWN = (b"content-type", b"www-authenticate")


class ElsewhereError(Exception):
    """This request is for one of these nodes: the first that can be reached."""

    def __init__(self, nodes: Sequence[str]) -> None:
        super().__init__(f"for {', '.join(nodes)}")
        self.nodes = tuple(nodes)


async def stay_or_go(request: Request, backend: BackendDep) -> None:
    """A dependency of every route, after `authorize`. Raises ElsewhereError to send it on."""
    named = request.headers.get(NODE_HEADER)
    here = backend.node.name
    peer = request.state.peer
    local = isinstance(peer, Peer) or peer.node is None  # a user's plumctl, not a node's
    if named and named != here:
        if not local:
            raise RefusedError(f"this is {here}, not {named}", "a request is sent on only once")
        raise ElsewhereError([named])
    member = backend.member
    if request.method in ("GET", "HEAD") or member is None or member.is_director:
        return
    directors = sorted(member.directors())
    if not local:
        hint = f"ask a director: {', '.join(directors) or 'none is known'}"
        raise NoDirectorError(f"{here} is no director, and only those change the zone", hint)
    if "authorization" not in request.headers:
        raise RefusedError(
            f"{here} is no director: a change from here needs a token",
            "plumctl --token-file FILE, or run plumctl on a director "
            f"({', '.join(directors) or 'none is known'})",
        )
    raise ElsewhereError(directors)


class NoDirectorError(Exception):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def install(app: FastAPI) -> None:
    @app.exception_handler(NoDirectorError)
    async def no_director(request: Request, error: NoDirectorError) -> Response:
        request.state.summary = error.message
        return error_response(HTTPStatus.MISDIRECTED_REQUEST, error.message, error.hint)

    @app.exception_handler(ElsewhereError)
    async def send_on(request: Request, error: ElsewhereError) -> Response:
        backend = cast(Backend, app.state.backend)
        return await _send_on(request, backend, error.nodes)


async def _send_on(request: Request, backend: Backend, nodes: Sequence[str]) -> Response:
    question = await _question(request)
    said: list[str] = []
    for node in nodes:
        try:
            reply = await backend.peers.ask(node, question, ANSWER_S)
        except NotAskedError as error:
            said.append(str(error))
            continue
        except PeerError as error:  # it may have heard us: no other one is asked
            request.state.summary = str(error)
            read = request.method in ("GET", "HEAD")
            hint = "try again" if read else "it may have been done: look with plumctl history"
            return error_response(HTTPStatus.GATEWAY_TIMEOUT, str(error), hint)
        if reply.status == HTTPStatus.MISDIRECTED_REQUEST and node != nodes[-1]:
            said.append(f"{node} is no director any more")
            continue
        request.state.summary = f"sent on to {node}"
        request.state.sight_taken = True  # by the node that answered
        return _answer(reply)
    message = f"no answer: {'; '.join(said) or 'no director is known'}"
    request.state.summary = message
    hint = "nothing was changed; see which nodes answer: plumctl zone show"
    return error_response(HTTPStatus.SERVICE_UNAVAILABLE, message, hint)


async def _question(request: Request) -> Question:
    who = cast(Principal, request.state.principal)
    headers = [(name, request.headers[name]) for name in _UP if name in request.headers]
    behalf = f"{who.kind} {who.name}".encode("ascii", "replace").decode()
    headers.append((ON_BEHALF_HEADER.decode(), behalf))
    target = bytes(request.scope["raw_path"])
    if query := bytes(request.scope["query_string"]):
        target += b"?" + query
    return Question(request.method, target.decode("latin-1"), headers, await request.body())


def _answer(reply: Reply) -> Response:
    headers = {name.decode(): value.decode() for name, value in reply.headers if name in _DOWN}
    return Response(reply.body, reply.status, headers)
