"""How a map's keys or values are laid out, and turning rows of one layout into another's.

Fields are matched by name. What both have is copied, with the other's width; a
field only the new layout has gets its declared default, which is zero unless the
header says `__attribute__((btf_decl_tag("carry_default:N")))`; what only the old
one has is dropped. So a layout needs to know nothing of later ones.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from bpf.btf import ARRAY, DECL_TAG, ENUM, INT, INTEGERS, PADDING, STRUCT, Btf

DEFAULT_TAG = "carry_default:"


class NotConvertible(Exception):
    """`field` cannot be carried from one layout to the other."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"field {field!r} {why}")


@dataclass(frozen=True, slots=True)
class Field:
    offset: int  # bytes
    size: int
    integer: bool  # in host order: its width may change


@dataclass(frozen=True, slots=True)
class Layout:
    """Fields by name. A plain integer, or bytes of which nothing is known, is one: `""`."""

    size: int
    fields: Mapping[str, Field]
    defaults: Mapping[str, int]


def layout_of(btf: Btf | None, type_id: int, size: int) -> Layout:
    """Of a key or value; `size` counts when the kernel knows no type of it."""
    if btf is None or not type_id:
        return Layout(size, {"": Field(0, size, size in INTEGERS)}, {})
    found, _ = btf.resolve(type_id)
    if found.kind != STRUCT:
        return Layout(found.size, {"": _field(btf, type_id, 0)}, {})
    fields = {
        member.name: _field(btf, member.type, member.offset)
        for member in found.members
        if not PADDING.fullmatch(member.name)
    }
    about = btf.types.index(found)
    defaults = {
        found.members[tag.count].name: int(tag.name.removeprefix(DEFAULT_TAG), 0)
        for tag in btf.types
        if tag.kind == DECL_TAG and tag.size == about and tag.name.startswith(DEFAULT_TAG)
    }
    return Layout(found.size, fields, defaults)


def _field(btf: Btf, type_id: int, offset: int) -> Field:
    found, alias = btf.resolve(type_id)
    if found.kind == ARRAY:
        return Field(offset, btf.resolve(found.size)[0].size * found.count, False)
    # Numbers in network order are bytes to us: no wire format changes its width.
    plain = found.kind in (INT, ENUM) and not alias.startswith("__be")
    return Field(offset, found.size, plain and found.size in INTEGERS)


class Conversion:
    """Turns bytes of layout `old` into bytes of layout `new`.

    A number too large for a narrower field becomes the largest it can hold. Raises
    NotConvertible, unless `lenient`: then such a field is as one that is new.
    """

    def __init__(self, old: Layout, new: Layout, *, lenient: bool = False) -> None:
        carried = _carried(old, new, lenient)
        self._unpack = _codec(old.size, {name: old.fields[name] for name in carried})
        values = {name: new.defaults.get(name, 0) for name in new.defaults if name not in carried}
        written = {name: new.fields[name] for name in (*carried, *values)}
        self._pack = _codec(new.size, written)
        source = sorted(carried, key=lambda name: old.fields[name].offset)
        self._constants = tuple(values.values())
        source += values
        target = sorted(written, key=lambda name: new.fields[name].offset)
        self._order = [source.index(name) for name in target]
        self._limits = [
            (target.index(name), (1 << 8 * new.fields[name].size) - 1)
            for name in carried
            if new.fields[name].size < old.fields[name].size
        ]
        self.identical = old.size == new.size and old.fields == new.fields

    def __call__(self, data: bytes) -> bytes:
        values = self._unpack.unpack(data) + self._constants
        ordered = [values[at] for at in self._order]
        for at, limit in self._limits:
            ordered[at] = min(ordered[at], limit)
        return self._pack.pack(*ordered)


def _carried(old: Layout, new: Layout, lenient: bool) -> list[str]:
    carried = []
    for name, field in old.fields.items():
        other = new.fields.get(name)
        if other is None:
            continue
        if other.integer == field.integer and (field.integer or other.size == field.size):
            carried.append(name)
        elif not lenient:
            was, now = _said(field), _said(other)
            raise NotConvertible(name, f"was {was} and is {now} in this build")
    return carried


def _said(field: Field) -> str:
    return f"a number of {field.size} bytes" if field.integer else f"{field.size} bytes"


def _codec(size: int, fields: Mapping[str, Field]) -> struct.Struct:
    """Those fields of a layout of `size` bytes, in their order there; the rest is skipped."""
    code, at = "<", 0
    for field in sorted(fields.values(), key=lambda field: field.offset):
        code += f"{field.offset - at}x"
        code += INTEGERS[field.size] if field.integer else f"{field.size}s"
        at = field.offset + field.size
    return struct.Struct(f"{code}{size - at}x")
