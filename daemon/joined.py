"""A plumd that is in a zone: what serves and keeps it, on top of the unix socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from daemon.api.app import create_app, guarded
from daemon.api.audit import Audit
from daemon.api.backend import Backend, LocalNode
from daemon.api.between import between_nodes
from daemon.api.front import Front
from daemon.api.listen import Listener
from daemon.api.server import ApiServer
from daemon.api.tls import TlsListener
from daemon.api.upkeep import Upkeep
from daemon.model.object import Node
from daemon.options import Options, program_version
from daemon.store.interface import Store
from daemon.trust.contexts import PORT
from daemon.trust.credentials import Credentials, Member
from daemon.trust.errors import TrustError
from daemon.trust.folder import TrustFolder
from daemon.trust.records import check_identity


@dataclass(frozen=True, slots=True)
class Api:
    server: ApiServer
    upkeep: Upkeep | None  # None: in no zone


def credentials_of(options: Options) -> Credentials | None:
    """None: this machine is in no zone. Raises TrustError when what it has is not good."""
    folder = TrustFolder(options.trust_dir)
    if not folder.exists():
        return None
    credentials = Credentials(folder)
    if credentials.trust.node != options.node:
        raise TrustError(
            f"this machine is node {credentials.trust.node} of its zone, not {options.node}",
            "leave --node (PLUM_NODE) out, or remove the trust folder and join again",
        )
    return credentials


async def enter(
    credentials: Credentials | None, store: Store, nodes: Callable[[], Mapping[str, Node]]
) -> Member | None:
    """Raises TrustError when the store is another zone's, StoreError when it does not say."""
    if credentials is None:
        return None
    await check_identity(store, credentials.trust.zone_id)
    return Member(credentials, store, nodes)


def api_url(options: Options, credentials: Credentials | None) -> str:
    """Where other nodes reach this one, for its status."""
    if credentials is None:
        return f"unix://{options.socket.absolute()}"
    vtep = credentials.trust.membership.vtep
    return f"https://[{vtep}]:{PORT}" if vtep.version == 6 else f"https://{vtep}:{PORT}"


def make_api(
    options: Options, store: Store, node: LocalNode, listener: Listener, member: Member | None
) -> Api:
    backend = Backend(store, node, member=member)
    audit = Audit(options.state_dir / "audit.log")
    app = guarded(create_app(backend, program_version()), audit)
    if member is None:
        return Api(ApiServer(app, listener), None)
    tls = TlsListener(member)
    front = Front(app, between_nodes(member, audit), member, audit)
    upkeep = Upkeep(member, backend.peers)
    return Api(ApiServer(front, listener, tls, member.zone_id), upkeep)
