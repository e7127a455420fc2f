"""A client of the real API: endpoints, domains and their policies, through any node's plumd.

Keys and tokens are recorded as the store has them, so the raw store's watchers and
the API's clients bear witness to each other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from plumctl.answers import Applied, View
from plumctl.client import Client
from plumctl.errors import ExitCode, PlumError
from tests.faults.history import Action, Cell, Outcome, Recorder, plain

A = TypeVar("A")
Document = dict[str, Any]

DOMAINS = ("churn-a", "churn-b")
ENDPOINTS = ("e1", "e2", "e3")
PATIENCE_S = 6.0
PACE_S = 0.3

#: Answers that say for certain that nothing was written.
_REFUSED = (ExitCode.NOT_FOUND, ExitCode.CONFLICT)


def key_of(kind: str, path: str) -> str:
    return f"/plum/{kind}/{path}"


def domain(tenant: str, name: str, token: str, ports: Sequence[int] = (80,)) -> Document:
    rule = {"name": "in", "protocol": "tcp", "ports": list(ports)}
    return {
        "kind": "domain",
        "tenant": tenant,
        "name": name,
        "spec": {
            "description": token,
            "default": {},
            "bridges": [{"name": "lan", "subnets": ["10.91.0.0/24"]}],
            "policies": [{"name": "some", "ingress": [rule]}],
        },
    }


def endpoint(tenant: str, of: str, name: str, token: str, node: str) -> Document:
    spec = {"domain": of, "bridge": "lan", "node": node, "labels": {"token": token}}
    return {"kind": "endpoint", "tenant": tenant, "name": name, "spec": spec}


class ApiClient:
    def __init__(
        self, sockets: Sequence[Path], tenant: str, record: Recorder, choose: random.Random
    ) -> None:
        self._clients = [Client(str(path), timeout_s=PATIENCE_S) for path in sockets]
        self._nodes = [path.parent.name for path in sockets]
        self._tenant = tenant
        self._record = record
        self._choose = choose
        self._tokens = 0

    def run(self) -> None:
        """Forever: one random operation after the other."""
        while True:
            time.sleep(self._choose.uniform(0, 2 * PACE_S))
            operation = self._choose.choice(
                [self._apply_endpoints, self._apply_domain, self._delete, self._list, self._get]
            )
            operation(self._choose.choice(self._clients))

    def _apply_endpoints(self, client: Client) -> None:
        """One or two in one change: both are there, or neither."""
        of = self._choose.choice(DOMAINS)
        names = self._choose.sample(ENDPOINTS, self._choose.choice([1, 2]))
        documents = [
            # An endpoint stays on its node: moving it is not what is tried here.
            endpoint(
                self._tenant,
                of,
                name,
                self._token(),
                self._nodes[ENDPOINTS.index(name) % len(self._nodes)],
            )
            for name in names
        ]
        cells = [
            Cell(
                key_of("endpoint", f"{self._tenant}/{of}/{one['name']}"),
                one["spec"]["labels"]["token"],
            )
            for one in documents
        ]
        self._change(cells, lambda: client.apply(documents))

    def _apply_domain(self, client: Client) -> None:
        name, token = self._choose.choice(DOMAINS), self._token()
        ports = self._choose.sample(range(80, 90), 3)
        document = domain(self._tenant, name, token, ports)
        cells = [Cell(key_of("domain", f"{self._tenant}/{name}"), token)]
        self._change(cells, lambda: client.apply([document]))

    def _delete(self, client: Client) -> None:
        path = f"{self._tenant}/{self._choose.choice(DOMAINS)}/{self._choose.choice(ENDPOINTS)}"
        cells = [Cell(key_of("endpoint", path), None)]
        self._change(cells, lambda: client.delete([("endpoint", path)]))

    def _list(self, client: Client) -> None:
        kind = self._choose.choice(["endpoint", "domain"])
        scope = key_of(kind, f"{self._tenant}/")
        number = self._record.begin(Action.LIST, scope=scope)
        listing = self._answered(number, lambda: client.list(kind, tenant=self._tenant))
        if listing is not None:
            cells = plain(_seen(listing.items))
            self._record.end(number, Outcome.OK, revision=listing.revision, found=cells)

    def _get(self, client: Client) -> None:
        kind, path = "domain", f"{self._tenant}/{self._choose.choice(DOMAINS)}"
        if self._choose.random() < 0.6:
            kind, path = "endpoint", f"{path}/{self._choose.choice(ENDPOINTS)}"
        number = self._record.begin(Action.GET, scope=key_of(kind, path))
        try:
            found = plain(_seen([client.get(kind, path)]))
        except PlumError as error:
            if error.exit_code != ExitCode.NOT_FOUND:
                self._record.end(number, Outcome.UNKNOWN, why=error.message)
                return
            found = []
        self._record.end(number, Outcome.OK, found=found)

    def _change(self, cells: Iterable[Cell], change: Callable[[], Applied]) -> None:
        number = self._record.begin(Action.COMMIT, writes=plain(cells))
        applied = self._answered(number, change)
        if applied is not None:
            self._record.end(number, Outcome.OK, revision=applied.revision)

    def _answered(self, number: int, ask: Callable[[], A]) -> A | None:
        try:
            return ask()
        except PlumError as error:
            refused = error.exit_code in _REFUSED
            outcome = Outcome.REFUSED if refused else Outcome.UNKNOWN
            self._record.end(number, outcome, why=error.message)
            return None

    def _token(self) -> str:
        self._tokens += 1
        return f"{self._record.process}-{self._tokens}"


def _seen(views: Iterable[View]) -> Iterable[Cell]:
    for view in views:
        token = view.spec.get("labels", {}).get("token") or view.spec.get("description")
        yield Cell(key_of(view.kind, view.path), str(token or "none"), view.revision)
