"""Names of a domain: its zone, records beside those of endpoints and groups, forwarders."""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from daemon.model.base import Address, Model

if TYPE_CHECKING:
    from daemon.model.domain import DomainSpec

_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
MAX_NAME = 253


def _dns_name(text: str) -> str:
    if len(text) > MAX_NAME or not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no DNS name (labels of letters, digits, - and _)")
    return text.lower()


#: Without a dot at its end; lower-case.
DnsName = Annotated[str, AfterValidator(_dns_name)]


class RecordType(StrEnum):
    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    MX = "MX"
    SRV = "SRV"
    TXT = "TXT"


#: Numbers before the name a record leads to.
_NUMBERS = {RecordType.CNAME: 0, RecordType.MX: 1, RecordType.SRV: 3}
_UINT16 = 65535
MAX_TEXT = 255


class Record(Model):
    #: Within the zone; `@` is the zone itself, `*` any name that is not there.
    name: Annotated[str, StringConstraints(max_length=MAX_NAME)]
    type: RecordType
    #: As in a zone file. Names in them are whole: `mail.example.com`.
    values: tuple[str, ...] = Field(min_length=1, max_length=64)
    ttl_s: int = Field(default=300, ge=0, le=604_800)

    @model_validator(mode="after")
    def _good(self) -> Self:
        if self.name not in ("@", "*"):
            _dns_name(self.name.removeprefix("*."))
        for value in self.values:
            _check_value(self.type, value)
        if self.type is RecordType.CNAME and len(self.values) > 1:
            raise ValueError("a name has one canonical name (CNAME), not several")
        return self


def _check_value(kind: RecordType, value: str) -> None:
    """Raises ValueError."""
    if kind is RecordType.A:
        IPv4Address(value)
    elif kind is RecordType.AAAA:
        IPv6Address(value)
    elif kind is RecordType.TXT:
        if len(value.encode()) > MAX_TEXT or not value.isascii() or not value.isprintable():
            raise ValueError(f"a text is at most {MAX_TEXT} printable ASCII characters")
    else:
        *numbers, name = value.split()
        good = all(number.isdigit() and int(number) <= _UINT16 for number in numbers)
        if len(numbers) != _NUMBERS[kind] or not good:
            form = " ".join([*["NUMBER"] * _NUMBERS[kind], "NAME"])
            raise ValueError(f"{value!r} is no {kind} record: {form}")
        _dns_name(name)


class Dns(Model):
    #: Default: DOMAIN.TENANT.internal.
    zone: DnsName | None = None
    records: tuple[Record, ...] = Field(default=(), max_length=1000)
    #: Who is asked for names of nobody here, in this order, by the node of who asks.
    #: None: they are refused.
    forwarders: tuple[Address, ...] = Field(default=(), max_length=8)
    #: Of the names of endpoints, groups, load balancers and routers.
    ttl_s: int = Field(default=30, ge=0, le=86_400)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        kinds: dict[str, set[RecordType]] = {}
        for record in self.records:
            before = kinds.setdefault(record.name.lower(), set())
            if record.type in before:
                raise ValueError(f"{record.name} {record.type} is there twice: give all its values")
            before.add(record.type)
            if RecordType.CNAME in before and len(before) > 1:
                raise ValueError(f"{record.name} has a CNAME: it can have no other record")
        return self


def bridges_with_names(spec: DomainSpec) -> frozenset[str]:
    """Bridges with a gateway that answers for names."""
    if spec.dns is None:
        return frozenset()
    return frozenset(face.bridge for router in spec.routers for face in router.interfaces)
