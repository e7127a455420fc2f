"""The members of an etcd cluster: who they are, one more, one less.

A new one begins as a learner, which has no vote: a member that never comes up costs a
cluster of one its quorum otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from daemon.store.etcd_client import EtcdClient
from daemon.store.etcd_messages import MESSAGES

_CLUSTER = "/etcdserverpb.Cluster/Member"


@dataclass(frozen=True, slots=True)
class ClusterMember:
    id: int
    name: str  # empty until it has started once
    peers: tuple[str, ...]  # URLs
    clients: tuple[str, ...]  # URLs; none until it has started once
    learner: bool

    @classmethod
    def read(cls, found: Any) -> Self:
        peers, clients = tuple(found.peer_urls), tuple(found.client_urls)
        return cls(found.id, found.name, peers, clients, found.learner)

    @property
    def serves(self) -> bool:
        return bool(self.clients) and not self.learner

    @property
    def endpoint(self) -> str:
        """HOST:PORT for clients; empty until it has started once."""
        return urlsplit(self.clients[0]).netloc if self.clients else ""


@dataclass(frozen=True, slots=True)
class MemberStatus:
    version: str
    db_bytes: int
    leads: bool


async def members(client: EtcdClient) -> list[ClusterMember]:
    request = MESSAGES["MemberListRequest"]()
    answer = await client.read(f"{_CLUSTER}List", request, "MemberListResponse")
    return [ClusterMember.read(found) for found in answer.members]


async def add_learner(client: EtcdClient, peers: Sequence[str]) -> ClusterMember:
    """Raises StoreError: etcd lets in one at a time."""
    request = MESSAGES["MemberAddRequest"](peer_urls=peers, learner=True)
    answer = await client.write(f"{_CLUSTER}Add", request, "MemberAddResponse")
    return ClusterMember.read(answer.member)


async def promote(client: EtcdClient, member_id: int) -> None:
    """Give a learner its vote. Raises StoreError while it has not caught up."""
    request = MESSAGES["MemberPromoteRequest"](id=member_id)
    await client.write(f"{_CLUSTER}Promote", request, "MemberPromoteResponse")


async def remove(client: EtcdClient, member_id: int) -> None:
    """Raises StoreError where the others would be too few without it."""
    request = MESSAGES["MemberRemoveRequest"](id=member_id)
    await client.write(f"{_CLUSTER}Remove", request, "MemberRemoveResponse")


async def status(client: EtcdClient) -> MemberStatus:
    """Of the member that the client is connected to."""
    request = MESSAGES["StatusRequest"]()
    answer = await client.read("/etcdserverpb.Maintenance/Status", request, "StatusResponse")
    leads = answer.leader == answer.header.member_id
    return MemberStatus(answer.version, answer.db_size, leads)
