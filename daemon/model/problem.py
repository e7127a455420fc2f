"""Problems of what a user wrote, in the user's words and with the place they are at."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` is `[file: ]kind path: field`, as in `shop.yaml: domain acme/shop: spec.mtu`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


#: What a pattern of the model asks for. A test requires every pattern to be here.
PATTERNS = {
    r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$": (
        "is no name: use lower-case letters, digits and inner dashes"
    ),
    r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9-]*[a-z0-9])?$": (
        "is no domain's path: write TENANT/DOMAIN"
    ),
    r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$": (
        "is no label: use letters, digits and inner dots, dashes, underscores and slashes"
    ),
    r"^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$": "is no MAC address such as 02:00:00:00:00:01",
    r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}$": (
        "is no namespace name: use letters, digits, dots, dashes and underscores"
    ),
    r"^/[!-~]*$": "is no path of a URL: it begins with / and has no blanks",
    r"^[A-Za-z0-9.:\[\]-]+$": "is no host name or address",
    r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$": "is no device name of at most 15 characters",
    r"^(tcp|udp|sctp|icmp|icmp6|[0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$": (
        "is no protocol: use tcp, udp, sctp, icmp, icmp6 or a number from 0 to 255"
    ),
}

Loc = tuple[int | str, ...]


def field_path(loc: Sequence[int | str], root: str = "spec") -> str:
    """`spec.bridges[0].subnets[1]` from a location in a document."""
    text = root
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def explain(error: ValidationError, known_keys: Sequence[str] = ()) -> list[tuple[Loc, str]]:
    """The places and plain words of everything pydantic found, one entry for each place."""
    found: dict[Loc, str] = {}
    details = error.errors(include_url=False)
    for detail in details:
        loc, family = _shorten(detail["loc"])
        if loc not in found:
            found[loc] = _address_words(detail, family) if family else _words(detail, known_keys)
    # A list whose only entry is bad also counts as too short: say the first only.
    short = {_shorten(d["loc"])[0] for d in details if d["type"] == "too_short"}
    for loc in short:
        if any(len(other) > len(loc) and other[: len(loc)] == loc for other in found):
            del found[loc]
    return sorted(found.items(), key=lambda entry: _order(entry[0]))


def _order(loc: Loc) -> tuple[tuple[int, str], ...]:
    return tuple((part, "") if isinstance(part, int) else (0, part) for part in loc)


def _shorten(loc: Loc) -> tuple[Loc, str]:
    """The location without pydantic's names of union members; and the kind of address meant."""
    for index, part in enumerate(loc):
        if isinstance(part, str) and "[" in part and "ip_v" in part:
            kind = next(k for k in ("network", "interface", "address") if f"_{k}_" in part)
            return loc[:index], kind
    if loc and loc[-1] == "[key]":
        return loc[:-1], ""
    return loc, ""


def _address_words(detail: ErrorDetails, kind: str) -> str:
    value = detail["input"]
    if not isinstance(value, str):
        return f"must be text, not {_show(value)}"
    example = {
        "network": "10.0.0.0/24 or fd00::/64",
        "interface": "10.0.0.1/24 or fd00::1/64",
        "address": "10.0.0.1 or fd00::1",
    }[kind]
    noun = {"network": "network", "interface": "address with prefix length"}.get(kind, "IP address")
    if kind == "network":
        try:
            return f"{value} has host bits set; the network is {ip_network(value, strict=False)}"
        except ValueError:
            pass
    try:
        ip = ip_interface(value) if kind != "address" else ip_address(value)
    except ValueError:
        return f"{_show(value)} is no {noun} such as {example}"
    return f"{ip} is no {noun} such as {example}"


def _words(detail: ErrorDetails, known_keys: Sequence[str]) -> str:
    kind, value = detail["type"], detail["input"]
    ctx: dict[str, Any] = detail.get("ctx", {})
    match kind:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return unknown_key(str(detail["loc"][-1]), known_keys)
        case "string_pattern_mismatch":
            return f"{_show(value)} {PATTERNS[ctx['pattern']]}"
        case "string_too_long":
            return f"is {len(value)} characters long; at most {ctx['max_length']} are allowed"
        case "enum":
            return f"must be {ctx['expected'].replace(chr(39), '')}, not {_show(value)}"
        case "greater_than_equal":
            return f"must be at least {ctx['ge']}, not {_show(value)}"
        case "less_than_equal":
            return f"must be at most {ctx['le']}, not {_show(value)}"
        case "too_short":
            return "needs at least one entry"
        case "value_error":
            return str(ctx["error"])
    wanted = {
        "string_type": "text",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "bool_type": "true or false",
        "tuple_type": "a list",
        "dict_type": "a mapping of keys to values",
        "model_type": "a mapping of keys to values",
    }.get(kind)
    return f"must be {wanted}, not {_show(value)}" if wanted else detail["msg"]


def unknown_key(key: str, known: Sequence[str]) -> str:
    """Words for a key that the model does not have, with the nearest one that it has."""
    near = difflib.get_close_matches(key, known, n=1)
    return f"unknown key; did you mean {near[0]}?" if near else "unknown key"


def _show(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 80 else f'"{value[:77]}..."'
        case int() | float():
            return f"the number {value}"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"
