"""What this node proves itself with, and its place in the zone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping

from daemon.model.base import Address
from daemon.model.node import Role
from daemon.model.object import Node
from daemon.store.interface import Store
from daemon.store.open import ETCD_PORT, endpoint, relies_on_zone
from daemon.trust.contexts import client_context, server_context
from daemon.trust.folder import Trust, TrustFolder
from daemon.trust.records import Roster


class Credentials:
    """The trust folder as it is in use. Connections that are open keep what they began with."""

    def __init__(self, folder: TrustFolder) -> None:
        """Raises TrustError."""
        self.folder = folder
        self.trust: Trust = folder.read()
        self.client: ssl.SSLContext = client_context(folder)
        self.generation = 0

    def reload(self) -> None:
        """Take what the folder holds now. Raises TrustError, and keeps the old then."""
        trust, client = self.folder.read(), client_context(self.folder)
        self.trust, self.client = trust, client
        self.generation += 1

    def server(self, *, strangers: bool) -> ssl.SSLContext:
        return server_context(self.folder, strangers=strangers)


class Member:
    """This node among the nodes of its zone."""

    def __init__(
        self, credentials: Credentials, store: Store, nodes: Callable[[], Mapping[str, Node]]
    ) -> None:
        """`nodes`: those of the zone, as last seen; empty until the store was read."""
        self.credentials = credentials
        self.store = store
        self.roster = Roster(store)
        self.rotation = asyncio.Event()  # a new certificate is wanted now
        self._nodes = nodes

    @property
    def node(self) -> str:
        return self.credentials.trust.node

    @property
    def zone_id(self) -> str:
        return self.credentials.trust.zone_id

    @property
    def vtep(self) -> Address:
        return self.credentials.trust.membership.vtep

    @property
    def size(self) -> int:
        """How many nodes the zone has, as last seen."""
        return len(self._nodes())

    @property
    def is_director(self) -> bool:
        return self.node in self.directors()

    def directors(self) -> dict[str, Address]:
        """VTEP addresses by name: as the store says, or, before it was read, as it said last."""
        nodes = self._nodes()
        if not nodes:
            return dict(self.credentials.trust.membership.directors)
        return directors_of(nodes)

    def address(self, node: str) -> Address | None:
        found = self._nodes().get(node)
        return found.spec.vtep if found else self.directors().get(node)

    def remember_directors(self) -> None:
        """Write down who they are, for a start without the store."""
        known, trust = self.directors(), self.credentials.trust
        if known and known != trust.membership.directors:
            self._write_down({"directors": known})

    async def follow_members(self) -> None:
        """Reach the zone's own etcd through all its members, after a restart too.

        Raises StoreError.
        """
        if not relies_on_zone(self.credentials.trust.membership.store):
            return  # the URL is the operator's
        nearest = endpoint(self.vtep, ETCD_PORT)
        found = sorted(await self.store.follow_members(), key=lambda one: (one != nearest, one))
        url = f"etcd://{','.join(found)}"
        if url != self.credentials.trust.membership.store:
            self._write_down({"store": url})

    def _write_down(self, update: dict[str, object]) -> None:
        membership = self.credentials.trust.membership.model_copy(update=update)
        self.credentials.folder.replace_membership(membership)
        self.credentials.reload()


def directors_of(nodes: Mapping[str, Node]) -> dict[str, Address]:
    return {
        name: node.spec.vtep
        for name, node in sorted(nodes.items())
        if Role.DIRECTOR in node.spec.roles
    }
