"""What a responder knows of the endpoint that asks. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

#: Server of a bridge without a router: an address no subnet of a guest holds.
VIRTUAL_SERVER4 = IPv4Address("169.254.169.253")
VIRTUAL_SERVER_MAC = bytes.fromhex("02706c756d01")  # locally administered, "plum"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A virtual router's interface on the endpoint's bridge."""

    mac: bytes
    addresses4: tuple[IPv4Interface, ...] = ()
    addresses6: tuple[IPv6Interface, ...] = ()

    @property
    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        return (*self.addresses4, *self.addresses6)


@dataclass(frozen=True, slots=True)
class Route4:
    to: IPv4Network
    via: IPv4Address


@dataclass(frozen=True, slots=True)
class Route6:
    to: IPv6Network
    via: IPv6Address


@dataclass(frozen=True, slots=True)
class Facts:
    """One local endpoint, as DHCP and RA see it."""

    name: str  # host name told to the guest
    ifindex: int  # host-side device answers are sent through
    mac: bytes
    addresses4: tuple[IPv4Interface, ...] = ()  # with the subnet's prefix length
    addresses6: tuple[IPv6Interface, ...] = ()
    subnets6: tuple[IPv6Network, ...] = ()  # on-link prefixes of the bridge
    gateways: tuple[Gateway, ...] = ()
    dns4: tuple[IPv4Address, ...] = ()
    dns6: tuple[IPv6Address, ...] = ()
    search: tuple[str, ...] = ()
    routes4: tuple[Route4, ...] = ()
    routes6: tuple[Route6, ...] = ()
    options4: tuple[tuple[int, bytes], ...] = ()  # further ones, code and value
    options6: tuple[tuple[int, bytes], ...] = ()
    lease_s: int = 3600
    mtu_bytes: int = 1450

    @property
    def server_mac(self) -> bytes:
        return self.gateways[0].mac if self.gateways else VIRTUAL_SERVER_MAC

    @property
    def routers4(self) -> tuple[IPv4Address, ...]:
        """Gateways of the subnet of the address that is offered."""
        if not self.addresses4:
            return ()
        net = self.addresses4[0].network
        return tuple(
            face.ip
            for gateway in self.gateways
            for face in gateway.addresses4
            if face.ip in net and face.ip != self.addresses4[0].ip
        )

    @property
    def server4(self) -> IPv4Address:
        """Server identifier: the gateway, or an address of the bridge's own."""
        return self.routers4[0] if self.routers4 else VIRTUAL_SERVER4
