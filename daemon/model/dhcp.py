"""What the responders tell guests: DHCPv4, RA and DHCPv6."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from daemon.model.base import Address, Model, Network

#: Said from what the zone knows, or belonging to the exchange itself (RFC 2132; 3046: 82;
#: 3397: 119; 3442: 121; 8415).
OWN_CODES = {
    4: frozenset(
        {0, 1, 3, 6, 12, 15, 26, 28, 50, 51, 52, 53, 54, 55, 57, 58, 59, 61, 82, 119, 121, 255}
    ),
    6: frozenset({*range(1, 21), 23, 24, 25, 26, 32}),
}
MAX_CODE = {4: 254, 6: 65535}
MAX_BYTES = 255


class DhcpRoute(Model):
    to: Network
    via: Address


def _hex(text: str) -> str:
    try:
        if bytes.fromhex(text):
            return text
    except ValueError:
        pass
    raise ValueError(f"{text!r} is no sequence of hex bytes, such as 0a00002a")


class DhcpOption(Model):
    """A further option, in one of three forms."""

    family: Literal[4, 6] = 4
    code: int = Field(ge=1)
    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_BYTES)] | None = None
    addresses: tuple[Address, ...] = ()
    hex: Annotated[str, AfterValidator(_hex)] | None = None

    @model_validator(mode="after")
    def _good(self) -> Self:
        if self.code > MAX_CODE[self.family]:
            raise ValueError(f"DHCPv{self.family} has codes up to {MAX_CODE[self.family]}")
        if self.code in OWN_CODES[self.family]:
            raise ValueError(
                f"option {self.code} of DHCPv{self.family} is Plum's: it says it from what it "
                "knows (dns, search, routes, lease_s, the bridge's mtu), or it is no setting"
            )
        given = [self.text is not None, bool(self.addresses), self.hex is not None]
        if sum(given) != 1:
            raise ValueError("give one of text, addresses and hex")
        if self.text is not None and not self.text.isascii():
            raise ValueError("a text is ASCII")
        if any(isinstance(a, IPv4Address) != (self.family == 4) for a in self.addresses):
            raise ValueError(f"these are not all IPv{self.family} addresses")
        if len(self.value) > MAX_BYTES:
            raise ValueError(f"an option has at most {MAX_BYTES} bytes")
        return self

    @property
    def value(self) -> bytes:
        if self.text is not None:
            return self.text.encode()
        if self.hex is not None:
            return bytes.fromhex(self.hex)
        return b"".join(address.packed for address in self.addresses)


class Dhcp(Model):
    enabled: bool = True
    #: Default: the bridge's gateways, if the domain has names.
    dns: tuple[Address, ...] = ()
    #: Default: the domain's zone, if it has names.
    search: tuple[str, ...] = ()
    routes: tuple[DhcpRoute, ...] = ()
    options: tuple[DhcpOption, ...] = Field(default=(), max_length=64)
    lease_s: int = Field(default=3600, ge=60, le=31_536_000)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        codes = [(option.family, option.code) for option in self.options]
        for family, code in {one for one in codes if codes.count(one) > 1}:
            raise ValueError(f"option {code} of DHCPv{family} is there twice")
        return self
