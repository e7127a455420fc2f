"""A small server that speaks the API contract over a unix socket, with objects in memory."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Document = dict[str, Any]
Planned = tuple[str, str, str, Document | None]  # action, kind, path, manifest


class Refusal(Exception):
    def __init__(
        self, status: int, message: str, hint: str = "", problems: list[Document] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "hint": hint, "problems": problems or []}}


class Zone:
    """What the server answers from. Tests set what they need."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Document] = {}
        self.history: list[Document] = []
        self.revision = 10
        self.missing: list[Document] = []  # what /v1/wait reports
        self.refusal: Refusal | None = None  # of every write
        self.confirmed: list[int] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.counters: Document = {"nodes": {}}
        self.exceptions: list[Document] = []
        self.repairs: list[Document] = []

    def refuse(self, status: int, message: str, problems: list[Document]) -> None:
        """Refuse every write from now on."""
        self.refusal = Refusal(status, message, problems=problems)

    def put(self, manifest: Document, state: str = "programmed", reason: str = "") -> None:
        kind, spec = manifest["kind"], manifest.get("spec", {})
        self.revision += 1
        allocated: Document = {}
        if kind == "endpoint":
            allocated = {"id": 7, "slot": 1, "mac": "02:00:00:00:00:07", "addresses": ["10.0.1.7"]}
        self.objects[kind, path_of(manifest)] = {
            "kind": kind,
            "tenant": manifest.get("tenant"),
            "domain": spec.get("domain"),
            "name": manifest["name"],
            "spec": spec,
            "allocated": allocated,
            "revision": self.revision,
            "status": {"state": state, "reason": reason, "nodes": {}},
        }

    def change(self, changes: Sequence[Planned], body: Document) -> Any:
        if self.refusal:
            raise self.refusal
        shown = [
            {"action": action, "kind": kind, "path": path, "diff": "-mtu: 1400\n+mtu: 1500"}
            for action, kind, path, _ in changes
        ]
        answer = {"history": None, "revision": self.revision, "changes": shown}
        if body.get("dry_run") or all(change[0] == "unchanged" for change in changes):
            return answer
        for _, kind, path, manifest in changes:
            if manifest is None:
                del self.objects[kind, path]
            else:
                self.put(manifest)
        seq = len(self.history) + 1
        entry = {
            "seq": seq,
            "revision": self.revision,
            "time": "2026-11-23T07:00:00Z",
            "who": "root",
            "verb": "apply",
            "of": None,
            "comment": body.get("comment", ""),
            "confirm_by": "2026-11-23T07:01:00Z" if body.get("confirm_s") else None,
            "changes": shown,
        }
        self.history.insert(0, entry)
        return answer | {"history": seq, "revision": self.revision}


def path_of(manifest: Document) -> str:
    domain = manifest.get("spec", {}).get("domain") if manifest["kind"] == "endpoint" else None
    return "/".join(part for part in (manifest.get("tenant"), domain, manifest["name"]) if part)


def list_objects(zone: Zone, query: Document, body: Document, kind: str) -> Document:
    wanted = {key: query[key] for key in ("tenant", "domain") if key in query}
    items = [
        view
        for (of_kind, _), view in sorted(zone.objects.items())
        if of_kind == kind and all(view[key] == value for key, value in wanted.items())
    ]
    return {"items": items, "revision": zone.revision}


def get_object(zone: Zone, query: Document, body: Document, kind: str, path: str) -> Document:
    if (kind, path) not in zone.objects:
        raise Refusal(404, f"there is no {kind} {path}")
    return zone.objects[kind, path]


def apply(zone: Zone, query: Document, body: Document) -> Any:
    changes: list[Planned] = []
    for manifest in body["objects"]:
        path = path_of(manifest)
        there = zone.objects.get((manifest["kind"], path))
        same = there is not None and there["spec"] == manifest["spec"]
        action = "unchanged" if same else "changed" if there else "created"
        changes.append((action, manifest["kind"], path, manifest))
    return zone.change(changes, body)


def delete(zone: Zone, query: Document, body: Document) -> Any:
    for ref in body["refs"]:
        get_object(zone, {}, {}, ref["kind"], ref["path"])
    return zone.change([("deleted", ref["kind"], ref["path"], None) for ref in body["refs"]], body)


def history_entry(zone: Zone, query: Document, body: Document, seq: str) -> Document:
    for entry in zone.history:
        if entry["seq"] == int(seq):
            return entry
    raise Refusal(404, f"there is no revision {seq}", "see which there are with plumctl history")


def rollback(zone: Zone, query: Document, body: Document, seq: str) -> Any:
    return zone.change(
        [("changed", kind, path, view) for (kind, path), view in zone.objects.items()][:1], body
    )


def confirm(zone: Zone, query: Document, body: Document, seq: str) -> Document:
    history_entry(zone, {}, {}, seq)
    zone.confirmed.append(int(seq))
    return {"seq": int(seq)}


def wait(zone: Zone, query: Document, body: Document) -> Document:
    by_state: dict[str, list[Document]] = {"pending": [], "error": []}
    for item in zone.missing:
        by_state[item["state"]].append(item)
    return {
        "done": not zone.missing,
        "revision": int(query["revision"]),
        "pending": by_state["pending"],
        "errors": by_state["error"],
    }


def status(zone: Zone, query: Document, body: Document) -> Document:
    return {
        "node": "n1",
        "version": "0.1.0",
        "revision": zone.revision,
        "ready": True,
        "reason": "",
        "exceptions": zone.exceptions,
        "repairs": zone.repairs,
    }


ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", r"/v1/objects/([^/]+)", list_objects),
    ("GET", r"/v1/objects/([^/]+)/(.+)", get_object),
    ("POST", r"/v1/apply", apply),
    ("POST", r"/v1/delete", delete),
    ("GET", r"/v1/history", lambda zone, query, body: {"items": zone.history}),
    ("GET", r"/v1/history/(\d+)", history_entry),
    ("POST", r"/v1/history/(\d+)/rollback", rollback),
    ("POST", r"/v1/history/(\d+)/confirm", confirm),
    ("GET", r"/v1/wait", wait),
    ("GET", r"/v1/status", status),
    ("GET", r"/v1/counters", lambda zone, query, body: zone.counters),
    (
        "GET",
        r"/v1/nodes/([^/]+)/counters",
        lambda zone, query, body, node: {"node": node} | zone.counters["nodes"][node],
    ),
]


class Handler(BaseHTTPRequestHandler):
    zone: Zone

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        self.zone.requests.append((self.command, self.path, None))

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(body)

    def _answer(self, body: Document) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        code, document = 404, Refusal(404, f"no route {url.path}").body
        for method, pattern, route in ROUTES:
            found = re.fullmatch(pattern, unquote(url.path))
            if found and method == self.command:
                try:
                    code, document = 200, route(self.zone, query, body, *found.groups())
                except Refusal as refusal:
                    code, document = refusal.status, refusal.body
                break
        raw = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def serving(path: Path) -> Iterator[Zone]:
    """Serve a fresh zone on a unix socket while the body runs."""
    zone = Zone()
    handler = type("ZoneHandler", (Handler,), {"zone": zone})
    with Server(str(path), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield zone
        finally:
            server.shutdown()
            thread.join()
