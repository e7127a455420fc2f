"""The typed API client: every method is one request. Raises PlumError, never prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from plumctl import access_answers
from plumctl.access_answers import AuditLines, NewToken, Token, User, Whoami
from plumctl.answers import (
    Applied,
    Counters,
    Document,
    Listing,
    NodeStatus,
    Restored,
    Revision,
    View,
    Waited,
)
from plumctl.asker import ANSWER_TIMEOUT_S, Asker

#: Seconds the daemon may take for what reads or writes the whole zone.
ZONE_TIMEOUT_S = 600.0


class Client(Asker):
    """What the daemon can be asked for."""

    # Objects

    def list(self, kind: str, tenant: str | None = None, domain: str | None = None) -> Listing:
        query = {"tenant": tenant, "domain": domain}
        return self._ask("GET", f"/v1/objects/{quote(kind)}", _listing, query=query)

    def get(self, kind: str, path: str) -> View:
        return self._ask("GET", f"/v1/objects/{quote(kind)}/{quote(path)}", View.read)

    def apply(
        self,
        objects: Sequence[Mapping[str, Any]],
        *,
        dry_run: bool = False,
        confirm_s: int | None = None,
        comment: str = "",
    ) -> Applied:
        body = {
            "objects": [dict(item) for item in objects],
            "dry_run": dry_run,
            "confirm_s": confirm_s,
            "comment": comment,
        }
        return self._ask("POST", "/v1/apply", Applied.read, body=body)

    def delete(self, refs: Sequence[tuple[str, str]], *, dry_run: bool = False) -> Applied:
        """`refs`: (kind, path) each."""
        body = {"refs": [{"kind": kind, "path": path} for kind, path in refs], "dry_run": dry_run}
        return self._ask("POST", "/v1/delete", Applied.read, body=body)

    # History

    def history(self) -> tuple[Revision, ...]:
        return self._ask("GET", "/v1/history", _revisions)

    def revision(self, seq: int) -> Revision:
        return self._ask("GET", f"/v1/history/{seq}", _revision)

    def rollback(self, seq: int, *, dry_run: bool = False, comment: str = "") -> Applied:
        """Back to how it was right after `seq`; 0 is the empty zone."""
        body = {"dry_run": dry_run, "comment": comment}
        return self._ask("POST", f"/v1/history/{seq}/rollback", Applied.read, body=body)

    def confirm(self, seq: int) -> None:
        self._ask("POST", f"/v1/history/{seq}/confirm", lambda _: None, body={})

    # State

    def wait(self, revision: int, timeout_s: float) -> Waited:
        """Blocks in the daemon for at most `timeout_s`; the answer says if it is done."""
        query = {"revision": str(revision), "timeout_s": f"{timeout_s:g}"}
        return self._ask(
            "GET", "/v1/wait", _waited, query=query, timeout_s=timeout_s + ANSWER_TIMEOUT_S
        )

    def mesh(self, node: str | None = None) -> Document:
        """`nodes`: the answer of one node, or of all."""
        if node is None:
            return self._ask("GET", "/v1/mesh", dict)
        route = f"/v1/nodes/{quote(node, safe='')}/mesh"
        return self._ask("GET", route, lambda answer: {"nodes": {answer["node"]: answer}})

    def status(self) -> NodeStatus:
        return self._ask("GET", "/v1/status", _status)

    def counters(self, node: str | None = None) -> Counters:
        """Of one node, or of all nodes of the zone."""
        route = f"/v1/nodes/{quote(node)}/counters" if node else "/v1/counters"
        return self._ask("GET", route, _counters)

    def trial(
        self, source: str, target: str, protocol: str, port: int, at: str | None = None
    ) -> Document:
        """What would become of a connection, for each address of the target."""
        query: dict[str, str | None] = {"source": source, "target": target, "at": at}
        query |= {"protocol": protocol, "port": str(port)}
        return self._ask("GET", "/v1/trial", dict, query=query)

    def policy_log(
        self,
        domain: str = "",
        rule: str = "",
        limit: int = 1000,
        after: Sequence[str] = (),
        node: str | None = None,
    ) -> Document:
        """Connections that rules with a log decided. `after`: `read` of the last answer."""
        query: dict[str, str | None] = {"domain": domain, "rule": rule, "limit": str(limit)}
        if node is None:
            marks = "".join(f"&after={quote(mark)}" for mark in after)
            return self._ask("GET", f"/v1/policy-log?{urlencode(query)}{marks}", dict)
        query["after"] = after[0].rpartition(":")[2] if after else "0"
        return self._ask(
            "GET", f"/v1/nodes/{quote(node, safe='')}/policy-log", _log_of_one, query=query
        )

    # Access

    def whoami(self) -> Whoami:
        return self._ask("GET", "/v1/whoami", Whoami.read)

    def users(self) -> tuple[User, ...]:
        return self._ask("GET", "/v1/users", access_answers.users)

    def user(self, name: str) -> User:
        return self._ask("GET", f"/v1/users/{quote(name, safe='')}", User.read)

    def create_user(self, name: str, role: str, tenant: str | None, comment: str) -> User:
        body = {"name": name, "role": role, "tenant": tenant, "comment": comment}
        return self._ask("POST", "/v1/users", User.read, body=body)

    def set_user(
        self, name: str, *, role: str | None, tenant: str | None, comment: str | None
    ) -> User:
        """What is None stays as it is."""
        body = {"role": role, "tenant": tenant, "comment": comment}
        return self._ask("PATCH", f"/v1/users/{quote(name, safe='')}", User.read, body=body)

    def delete_user(self, name: str) -> User:
        return self._ask("DELETE", f"/v1/users/{quote(name, safe='')}", User.read)

    def tokens(self, user: str | None = None) -> tuple[Token, ...]:
        return self._ask("GET", "/v1/tokens", access_answers.tokens, query={"user": user})

    def create_token(self, user: str, life_s: float, comment: str) -> NewToken:
        body = {"user": user, "life_s": life_s, "comment": comment}
        return self._ask("POST", "/v1/tokens", NewToken.read, body=body)

    def revoke_token(self, token_id: str) -> Token:
        return self._ask("DELETE", f"/v1/tokens/{quote(token_id, safe='')}", Token.read)

    def audit(self, node: str | None = None, **wanted: str | None) -> AuditLines:
        """Of one node, or of all. `wanted`: since (RFC 3339), user, tenant, object, outcome,
        limit."""
        route = f"/v1/nodes/{quote(node, safe='')}/audit" if node else "/v1/audit"
        return self._ask("GET", route, AuditLines.read, query=wanted)

    # Nodes

    def cordon(self, node: str, *, cordoned: bool) -> Applied:
        verb = "cordon" if cordoned else "uncordon"
        return self._ask("POST", f"/v1/nodes/{quote(node, safe='')}/{verb}", Applied.read, body={})

    def remove_node(self, node: str) -> Applied:
        return self._ask("POST", f"/v1/nodes/{quote(node, safe='')}/remove", Applied.read, body={})

    def node_endpoints(self, node: str) -> tuple[str, ...]:
        """Paths of the endpoints placed on the node."""
        route = f"/v1/nodes/{quote(node, safe='')}/endpoints"
        return self._ask("GET", route, lambda answer: tuple(map(str, answer["endpoints"])))

    def rotate(self, node: str) -> Document:
        return self._ask("POST", f"/v1/nodes/{quote(node, safe='')}/rotate", dict, body={})

    def invite(self, body: Document) -> Document:
        return self._ask("POST", "/v1/joins", dict, body=body)

    # Zone

    def zone(self) -> Document:
        return self._ask("GET", "/v1/zone", dict)

    def change_authority(self, step: str) -> Document:
        return self._ask("POST", "/v1/zone/authority", dict, body={"step": step})

    def backup(self) -> bytes:
        """The lines of a backup file."""
        return self._ask(
            "POST", "/v1/zone/backup", bytes, lines=b"", timeout_s=ZONE_TIMEOUT_S, raw_answer=True
        )

    def restore(self, lines: bytes, *, replace: bool, other_zone: bool) -> Restored:
        query = {"replace": str(replace).lower(), "other_zone": str(other_zone).lower()}
        return self._ask(
            "POST",
            "/v1/zone/restore",
            Restored.read,
            query=query,
            lines=lines,
            timeout_s=ZONE_TIMEOUT_S,
        )


def _log_of_one(answer: Any) -> Document:
    """As the answer of all nodes is."""
    node, error = str(answer["node"]), answer.get("error")
    errors = {node: error} if error else {}
    return {"items": answer["items"], "read": [f"{node}:{answer['read']}"], "errors": errors}


def _listing(document: Any) -> Listing:
    items = tuple(View.read(item) for item in document["items"])
    return Listing(items, int(document["revision"]), document)


def _revisions(document: Any) -> tuple[Revision, ...]:
    return tuple(_revision(item) for item in document["items"])


def _revision(document: Any) -> Revision:
    from plumctl.answers import Change

    return Revision(
        seq=int(document["seq"]),
        revision=int(document["revision"]),
        time=str(document["time"]),
        who=str(document["who"]),
        verb=str(document["verb"]),
        confirm_by=str(document.get("confirm_by") or ""),
        comment=str(document.get("comment") or ""),
        changes=tuple(Change.read(change) for change in document.get("changes") or ()),
        document=document,
    )


def _waited(document: Any) -> Waited:
    from plumctl.answers import Exceptional

    missing = [
        Exceptional.read(item, state)
        for state, key in (("error", "errors"), ("pending", "pending"))
        for item in document.get(key) or ()
    ]
    return Waited(bool(document["done"]), tuple(missing), document)


def _status(document: Any) -> NodeStatus:
    from plumctl.answers import Exceptional

    return NodeStatus(
        name=str(document["node"]),
        version=str(document["version"]),
        revision=int(document["revision"]),
        ready=bool(document["ready"]),
        reason=str(document.get("reason") or ""),
        exceptions=tuple(Exceptional.read(item) for item in document.get("exceptions") or ()),
        repairs=tuple(document.get("repairs") or ()),
        document=document,
    )


def _counters(document: Any) -> Counters:
    # One node's answer, or those of all by name.
    nodes = document["nodes"] if "nodes" in document else {document["node"]: document}
    merged: dict[str, list[dict[str, Any]]] = {"endpoints": [], "rules": [], "drops": []}
    unreachable = {}
    for node, answer in sorted(nodes.items()):
        if answer.get("error"):
            unreachable[node] = str(answer["error"])
            continue
        for key, rows in merged.items():
            rows.extend({"node": node, **row} for row in answer.get(key) or ())
    return Counters(
        tuple(merged["endpoints"]),
        tuple(merged["rules"]),
        tuple(merged["drops"]),
        unreachable,
        document,
    )
