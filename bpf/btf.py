"""Reading BTF (Documentation/bpf/btf.rst in the kernel tree): what C laid out, by name.

For the generator of daemon/abi.py and for the loader. Only the standard library is needed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

# BTF kinds, enum in include/uapi/linux/btf.h.
INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT = range(9, 17)
DECL_TAG, TYPE_TAG, ENUM64 = range(17, 20)

#: struct's letter of an unsigned integer, by size.
INTEGERS = {1: "B", 2: "H", 4: "I", 8: "Q"}
PADDING = re.compile(r"pad\d*|reserved\d*")


@dataclass(frozen=True)
class Member:
    name: str
    type: int
    offset: int  # bytes; of an enum member, its value


@dataclass(frozen=True)
class Type:
    kind: int
    name: str
    size: int  # bytes, or the type referred to
    members: tuple[Member, ...] = ()
    count: int = 0  # of an array; of a declaration tag, the member's number


class Btf:
    """The types of BTF data, by id: an object's section, or what the kernel keeps."""

    def __init__(self, data: bytes) -> None:
        magic, _, _, header, type_at, _, string_at, _ = struct.unpack_from("<HBBIIIII", data)
        if magic != 0xEB9F:
            raise ValueError("no little-endian BTF")
        self._strings = data[header + string_at :]
        self.types: list[Type] = [Type(0, "void", 0)]
        at, end = header + type_at, header + string_at
        while at < end:
            at = self._read(data, at)

    def _text(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _read(self, data: bytes, at: int) -> int:
        name, info, size = struct.unpack_from("<III", data, at)
        at += 12
        kind, length = info >> 24 & 0x1F, info & 0xFFFF
        members: list[Member] = []
        count = 0
        if kind in (INT, VAR):
            at += 4
        elif kind == DECL_TAG:
            (count,) = struct.unpack_from("<i", data, at)  # which member it is about
            at += 4
        elif kind == ARRAY:
            size, _, count = struct.unpack_from("<III", data, at)
            at += 12
        elif kind in (STRUCT, UNION):
            for entry in struct.iter_unpack("<III", data[at : at + 12 * length]):
                bits = entry[2] & 0xFFFFFF if info >> 31 else entry[2]
                members.append(Member(self._text(entry[0]), entry[1], bits // 8))
            at += 12 * length
        elif kind == ENUM:
            for text, value in struct.iter_unpack("<Ii", data[at : at + 8 * length]):
                members.append(Member(self._text(text), 0, value))
            at += 8 * length
        elif kind == DATASEC:
            for entry in struct.iter_unpack("<III", data[at : at + 12 * length]):
                members.append(Member("", entry[0], entry[1]))
            at += 12 * length
        elif kind == FUNC_PROTO:
            at += 8 * length
        elif kind == ENUM64:
            at += 12 * length
        self.types.append(Type(kind, self._text(name), size, tuple(members), count))
        return at

    def named(self, kind: int, name: str) -> Type:
        for found in self.types:
            if found.kind == kind and found.name == name:
                return found
        raise KeyError(f"{name} is not in the BTF")

    def resolve(self, index: int) -> tuple[Type, str]:
        """The type behind typedefs and qualifiers, and the outermost typedef's name."""
        alias = ""
        while self.types[index].kind in (TYPEDEF, CONST, VOLATILE):
            alias = alias or self.types[index].name
            index = self.types[index].size
        return self.types[index], alias

    def maps(self) -> Iterator[tuple[str, Type, Type]]:
        """(name, key, value) of every map that has both."""
        for variable in self.named(DATASEC, ".maps").members:
            var = self.types[variable.type]
            fields = {m.name: m.type for m in self.resolve(var.size)[0].members}
            if "key" in fields and "value" in fields:
                key, value = (self.types[fields[f]].size for f in ("key", "value"))
                yield var.name, self.resolve(key)[0], self.resolve(value)[0]


def section(elf: bytes, wanted: str) -> bytes:
    """One section of a 64-bit little-endian ELF file."""
    at, size, count, names = struct.unpack_from("<Q10xHHH", elf, 40)
    headers = [struct.unpack_from("<IIQQQQ", elf, at + i * size) for i in range(count)]
    strings = elf[headers[names][4] :]
    for name, _, _, _, offset, length in headers:
        if strings[name : strings.index(b"\0", name)].decode() == wanted:
            return elf[offset : offset + length]
    raise KeyError(f"no section {wanted}")
