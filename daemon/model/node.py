"""Node: a Linux host running plumd."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from daemon.model.base import Address, Labels, Model


class Role(StrEnum):
    DIRECTOR = "director"
    EDGE = "edge"
    GATEWAY = "gateway"


class NodeSpec(Model):
    #: Address of this node on the underlay; the outer source of its tunnels.
    vtep: Address
    #: Bytes of the largest IP packet the underlay carries.
    underlay_mtu: int = Field(default=1500, ge=1280, le=65535)
    roles: tuple[Role, ...] = (Role.EDGE,)
    labels: Labels = {}
