"""One request to a daemon: sent, answered, and read, or an error that says what to do."""

from __future__ import annotations

import errno
import http.client
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlencode

from plumctl.door import Door, TlsDoor, UnixDoor
from plumctl.errors import ExitCode, PlumError, Problem

#: Seconds the daemon may take to answer anything but a wait.
ANSWER_TIMEOUT_S = 30.0

_EXIT_BY_STATUS = {
    HTTPStatus.UNAUTHORIZED: ExitCode.NO_PERMISSION,
    HTTPStatus.FORBIDDEN: ExitCode.NO_PERMISSION,
    HTTPStatus.NOT_FOUND: ExitCode.NOT_FOUND,
    HTTPStatus.CONFLICT: ExitCode.CONFLICT,
    HTTPStatus.REQUEST_TIMEOUT: ExitCode.TIMED_OUT,
    HTTPStatus.GATEWAY_TIMEOUT: ExitCode.TIMED_OUT,
}

_HINT_BY_EXIT = {
    ExitCode.NO_PERMISSION: (
        "see who you are taken for: plumctl whoami. Reading needs group plum, writing root or "
        "group plum-admin, or a token (--token-file)"
    ),
    ExitCode.NOT_FOUND: "see what there is: plumctl get tenant, domain, endpoint, node or external",
    ExitCode.CONFLICT: "somebody changed it meanwhile: look (plumctl history) and try again",
    ExitCode.TIMED_OUT: "see what is missing: plumctl status",
    ExitCode.FAILED: "see how the daemon fares: plumctl status, and its log",
}

A = TypeVar("A")


class Asker:
    """One daemon, by the path of its socket or another way in."""

    def __init__(
        self,
        door: str | Door,
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
        token: str | None = None,
        node: str | None = None,
    ) -> None:
        """`token`: shown with every request; without one the socket tells who asks.
        `node`: the one that is to answer, reached through the daemon."""
        self._door = UnixDoor(door) if isinstance(door, str) else door
        self.address = self._door.address
        self._timeout_s = timeout_s
        self._token = token
        self._node = node

    def _ask(
        self,
        method: str,
        route: str,
        read: Callable[[Any], A],
        *,
        query: Mapping[str, str | None] | None = None,
        body: object | None = None,
        lines: bytes | None = None,
        timeout_s: float | None = None,
        raw_answer: bool = False,
    ) -> A:
        given = {key: value for key, value in (query or {}).items() if value is not None}
        target = f"{route}?{urlencode(given)}" if given else route
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._node is not None:
            headers["Plum-Node"] = self._node
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        elif lines is not None:
            payload = lines
            headers["Content-Type"] = "application/jsonl"
        connection = self._door.open(timeout_s or self._timeout_s)
        try:
            connection.request(method, target, payload, headers)
            response = connection.getresponse()
            status, raw = response.status, response.read()
        except OSError as error:
            raise self._unreachable(error) from error
        except http.client.HTTPException as error:
            raise PlumError(
                f"the daemon at {self.address} broke off: {error!r}",
                "look at its log, then try again",
                ExitCode.UNREACHABLE,
            ) from error
        finally:
            connection.close()
        try:
            if raw_answer and status < 400:
                return read(raw)
            document = json.loads(raw) if raw else None
            if status >= 400:
                raise refused(status, document)
            return read(document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlumError(
                f"{method} {route}: plumctl does not understand the daemon's answer "
                f"(HTTP {status}: {error!r})",
                "plumctl and plumd must be of the same version: compare `plumctl --version` "
                "with `plumctl status`",
            ) from error

    def _unreachable(self, error: OSError) -> PlumError:
        if isinstance(error, TimeoutError):
            return PlumError(
                f"the daemon at {self.address} did not answer in time",
                "look at its log; `plumctl status` shows when it is back",
                ExitCode.TIMED_OUT,
            )
        if isinstance(self._door, TlsDoor):
            return _untrusted(self.address, error)
        if error.errno in (errno.EACCES, errno.EPERM):
            return PlumError(
                f"you may not talk to the daemon at {self.address}",
                _HINT_BY_EXIT[ExitCode.NO_PERMISSION],
                ExitCode.NO_PERMISSION,
            )
        return PlumError(
            f"no daemon answers at {self.address} ({error.strerror or error})",
            "start it (systemctl start plumd), try a zone on this machine "
            "(plumctl sandbox up), or name its socket (--socket or PLUM_SOCKET)",
            ExitCode.UNREACHABLE,
        )


def _untrusted(address: str, error: OSError) -> PlumError:
    import ssl

    if isinstance(error, ssl.SSLError):
        words = getattr(error, "verify_message", "") or error
        return PlumError(
            f"{address} could not prove to be of this zone, or speaks no TLS 1.3 ({words})",
            "nothing was sent; compare the name in --server with the director's, and --ca with "
            "the zone's ca.pem",
            ExitCode.UNREACHABLE,
        )
    return PlumError(
        f"no director answers at {address} ({error.strerror or error})",
        "try another director: --server, or PLUM_SERVER",
        ExitCode.UNREACHABLE,
    )


def refused(status: int, document: Any) -> PlumError:
    """The error that a document of the API tells of."""
    error = document.get("error") if isinstance(document, dict) else None
    error = error if isinstance(error, dict) else {}
    exit_code = _EXIT_BY_STATUS.get(HTTPStatus(status), ExitCode.FAILED)
    return PlumError(
        str(error.get("message") or f"the daemon answered HTTP {status}"),
        str(error.get("hint") or _HINT_BY_EXIT[exit_code]),
        exit_code,
        tuple(
            Problem(str(problem.get("path", "")), str(problem["message"]))
            for problem in error.get("problems") or ()
        ),
    )
