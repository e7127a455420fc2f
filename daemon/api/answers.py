"""What the API answers, as models: OpenAPI is generated from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from daemon.health.verdict import Verdict
from daemon.model.object import Kind
from daemon.model.user import AccessRole
from daemon.reconcile.status import Exceptional, ObjectStatus, Repair
from daemon.zone.liveness import Liveness


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProblemAnswer(Answer):
    path: str = Field(description="Where: `file: kind path: field`")
    message: str


class ErrorBody(Answer):
    message: str
    hint: str = Field(description="The next step")
    problems: tuple[ProblemAnswer, ...] = ()


class ErrorAnswer(Answer):
    error: ErrorBody


class View(Answer):
    """One object: what was said, what was allocated, how it fares."""

    kind: Kind
    tenant: str | None
    domain: str | None
    name: str
    spec: dict[str, Any]
    allocated: dict[str, Any]
    revision: int = Field(description="Of the store, when the object was last written")
    status: ObjectStatus
    liveness: Liveness | None = Field(default=None, description="Of a node; null: not judged yet")
    used: dict[str, int] | None = Field(
        default=None, description="Of a tenant: what counts against its quota"
    )
    health: dict[str, dict[str, Verdict]] | None = Field(
        default=None,
        description="Of a domain, asked for by itself: by balancer and endpoint, what the"
        " backends' health checks say",
    )
    public: dict[str, str] | None = Field(
        default=None,
        description="Of an endpoint, asked for by itself: public addresses that are its alone,"
        " each with its own address behind it",
    )


class Listing(Answer):
    items: tuple[View, ...]
    revision: int


class Change(Answer):
    action: Literal["created", "changed", "unchanged", "deleted"]
    kind: Kind
    path: str
    diff: str = Field(default="", description="Unified diff of the specs as YAML")


class Applied(Answer):
    history: int | None = Field(description="Number of the new revision; null if nothing changed")
    revision: int = Field(description="Of the store: what /v1/wait takes")
    changes: tuple[Change, ...]


class Revision(Answer):
    """One applied revision."""

    seq: int
    revision: int = Field(description="Of the store")
    time: str = Field(description="RFC 3339")
    who: str
    verb: Literal["apply", "delete", "rollback", "revert"]
    of: int | None = Field(description="The revision rolled back to or reverted")
    comment: str
    confirm_by: str | None = Field(description="Reverts at this time unless confirmed")
    changes: tuple[Change, ...]


class History(Answer):
    items: tuple[Revision, ...]


class Confirmed(Answer):
    seq: int


class Missing(Answer):
    """An object that a node has not programmed."""

    node: str
    kind: Kind
    path: str
    state: Literal["pending", "error"]
    reason: str


class Waited(Answer):
    done: bool = Field(description="Every node concerned has programmed the revision")
    revision: int
    pending: tuple[Missing, ...]
    errors: tuple[Missing, ...]


class NodeReport(Answer):
    node: str
    version: str
    revision: int = Field(description="Of the store, through which everything is programmed")
    ready: bool = Field(description="The first full sync is done")
    reason: str = Field(description="Why not, otherwise")
    exceptions: tuple[Exceptional, ...]
    repairs: tuple[Repair, ...]


class EndpointCounters(Answer):
    path: str
    rx_packets: int = Field(description="Delivered to the endpoint")
    rx_bytes: int
    tx_packets: int = Field(description="Accepted from the endpoint")
    tx_bytes: int
    drop_packets: int
    flows: int = Field(description="Connections charged to it now")


class RuleCounters(Answer):
    domain: str
    policy: str | None = Field(description="null: the domain's default")
    direction: Literal["ingress", "egress"] | None
    rule: str
    action: str
    hits: int = Field(description="Connections it decided")


class DropCounters(Answer):
    reason: str
    text: str
    endpoint: str | None
    packets: int
    bytes: int


class NodeCounters(Answer):
    node: str
    endpoints: tuple[EndpointCounters, ...] = ()
    rules: tuple[RuleCounters, ...] = ()
    drops: tuple[DropCounters, ...] = ()
    error: str | None = Field(default=None, description="Why the node did not answer")


class ZoneCounters(Answer):
    nodes: dict[str, NodeCounters]


class PolicyLogLine(Answer):
    """A new connection that a rule with a log decided."""

    node: str
    number: int
    time: str = Field(description="RFC 3339, UTC")
    domain: str
    rule: str = Field(description="POLICY/DIRECTION/RULE")
    verdict: Literal["allowed", "refused"]
    direction: Literal["ingress", "egress"]
    endpoint: str = Field(description="Whose rule it is")
    source: str | None = Field(description="Endpoint that has the address; null: none")
    target: str | None
    source_address: str
    target_address: str
    protocol: str
    source_port: int | None
    target_port: int | None
    icmp_type: int | None
    icmp_code: int | None
    lost: int = Field(description="Further ones of this endpoint since its last line, not logged")


class NodePolicyLog(Answer):
    node: str
    items: tuple[PolicyLogLine, ...] = Field(default=(), description="Oldest first")
    read: int = Field(default=0, description="Number of the newest line there is")
    error: str | None = Field(default=None, description="Why the node did not answer")


class ZonePolicyLog(Answer):
    items: tuple[PolicyLogLine, ...] = Field(description="Of all nodes, oldest first")
    read: tuple[str, ...] = Field(description="How far: ask with `after` for what comes then")
    errors: dict[str, str] = Field(description="Nodes that did not answer, with the reason")


class TrialRule(Answer):
    direction: Literal["egress", "router", "ingress"]
    node: str = Field(description="Where it is asked")
    name: str = Field(description="POLICY/DIRECTION/RULE, or `default`: the domain's")


class TrialStage(Answer):
    node: str
    stage: str = Field(description="As in bpf/PIPELINE.md")
    detail: str


class Trial(Answer):
    """One connection, as the rows compiled from the model would treat it."""

    source: str
    target: str
    source_address: str | None = Field(description="null: it has none of that family")
    target_address: str
    allowed: bool = False
    outcome: Literal["delivered", "answered", "dropped", "unsendable"] = Field(
        default="unsendable", description="unsendable: the guest itself gives up"
    )
    drop: str | None = Field(default=None, description="Drop reason of bpf/PIPELINE.md")
    reason: str = Field(default="", description="Why it does not get there")
    receiver: str | None = Field(default=None, description="Endpoint it reaches, or nearly")
    rules: tuple[TrialRule, ...] = Field(default=(), description="The last one had the last word")
    stages: tuple[TrialStage, ...] = ()


class Trials(Answer):
    """One for each address of the target."""

    items: tuple[Trial, ...]
    revision: int = Field(description="Of the store, that was asked")


class Whoami(Answer):
    """Who asked, as the daemon understands it."""

    kind: Literal["local", "node", "user"]
    name: str
    role: AccessRole
    tenant: str | None
    source: str = Field(description="Where the request came from")
    expires: str | None = Field(description="RFC 3339; of the token shown")


class UserAnswer(Answer):
    name: str
    role: AccessRole
    tenant: str | None
    comment: str
    created: str = Field(description="RFC 3339")


class Users(Answer):
    items: tuple[UserAnswer, ...]


class TokenAnswer(Answer):
    """A token without its secret: only its hash is kept."""

    id: str
    user: str
    comment: str
    created: str = Field(description="RFC 3339")
    expires: str = Field(description="RFC 3339")
    valid: bool = Field(description="Neither expired nor of a user who is gone")


class Tokens(Answer):
    items: tuple[TokenAnswer, ...]


class AuditLine(Answer):
    """One request, as the node that got it wrote it down."""

    node: str
    time: str = Field(description="RFC 3339, UTC")
    kind: str = Field(description="How the asker was known: local, node or user")
    user: str = Field(description="Empty: nobody could tell")
    role: str | None
    tenant: str | None = Field(description="Of the asker")
    on_behalf: str = Field(description="For whom, in the words of the node that asked")
    source: str = Field(description="Where the request came from")
    token: str = Field(description="Id of the token shown")
    operation: str
    method: str
    path: str
    outcome: Literal["done", "refused", "failed"]
    status: int = Field(description="HTTP")
    objects: tuple[str, ...] = Field(description="KIND PATH each")
    summary: str


class NodeAudit(Answer):
    node: str
    items: tuple[AuditLine, ...] = Field(default=(), description="Newest first")
    more: bool = Field(default=False, description="There are older ones than the limit allows")
    unreadable: int = Field(default=0, description="Lines of the log that are no entries")
    error: str | None = Field(default=None, description="Why the node did not answer")


class ZoneAudit(Answer):
    items: tuple[AuditLine, ...] = Field(description="Of all nodes, newest first")
    more: bool
    unreadable: int
    errors: dict[str, str] = Field(description="Nodes that did not answer, with the reason")


class NewToken(Answer):
    token: TokenAnswer
    secret: str = Field(description="The token itself; it cannot be shown again")


class ZoneNode(Answer):
    name: str
    vtep: str | None = Field(description="null: it has a certificate, but no node object")
    roles: tuple[str, ...]
    certificate_expires: str | None = Field(description="RFC 3339; null: it has none")


class AuthorityChange(Answer):
    phase: str = Field(description="spread, switch or settled")
    authority_fingerprint: str = Field(description="SHA-256 of the newer one's certificate")
    hold: bool = Field(description="The switch waits until an administrator says go-on")
    since: str = Field(description="RFC 3339")
    by: str
    waiting_for: tuple[str, ...] = Field(description="Nodes that have not taken this step yet")


class ZoneAnswer(Answer):
    id: str
    created: str = Field(description="RFC 3339")
    store: str = Field(description="URL, without its credentials")
    node: str = Field(description="The one that answers")
    authority_fingerprint: str = Field(description="SHA-256 of the authority's certificate")
    authority_expires: str = Field(description="RFC 3339")
    authority_change: AuthorityChange | None = Field(description="null: there never was one")
    nodes: tuple[ZoneNode, ...]


class InvitationAnswer(Answer):
    id: str
    node: str
    expires: str = Field(description="RFC 3339")
    token: str = Field(description="For `plumctl node join`; never shown again")


class Rotated(Answer):
    node: str
    certificate_expires: str = Field(description="RFC 3339")


class NodeEndpoints(Answer):
    node: str
    cordoned: bool = Field(description="No new ones are placed there")
    endpoints: tuple[str, ...] = Field(description="Their paths")


class Restored(Answer):
    keys: int = Field(description="In the backup")
    written: int
    deleted: int
    revision: int = Field(description="Of the store: wait for this one")


class MeshPeer(Answer):
    """The way to another VTEP and back, over the last 60 probes."""

    sent: int = Field(description="Probes that were answered or given up")
    loss_percent: float
    median_ms: float | None = Field(description="Round trip; null: nothing came back")
    p99_ms: float | None
    reachable: bool = Field(description="false: the last three probes were lost")


class NodeMesh(Answer):
    node: str
    peers: dict[str, MeshPeer] = {}
    error: str | None = Field(default=None, description="Why the node did not answer")


class ZoneMesh(Answer):
    nodes: dict[str, NodeMesh]
