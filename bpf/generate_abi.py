"""Generate daemon/abi.py from bpf/lib/*.h: layouts are written once, in C.

    python3 bpf/generate_abi.py [OUTPUT]      default: daemon/abi.py; `-`: stdout

clang compiles a source that names every struct and enum of the shared headers;
their layout is read from the object's BTF (Documentation/bpf/btf.rst in the
kernel tree). Only the standard library is needed.
"""

from __future__ import annotations

import platform
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BPF = Path(__file__).resolve().parent
HEADERS = ("abi.h", "maps.h", "drops.h", "stages.h")
CLANG = ("clang", "-target", "bpf", f"-I/usr/include/{platform.machine()}-linux-gnu")

# BTF kinds, enum in include/uapi/linux/btf.h.
INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT = range(9, 17)
DECL_TAG, TYPE_TAG, ENUM64 = range(17, 20)

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
    count: int = 0  # of an array


class Btf:
    """The types of an ELF object's .BTF section, by id."""

    def __init__(self, elf: bytes) -> None:
        data = section(elf, ".BTF")
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
        if kind in (INT, VAR, DECL_TAG):
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


def camel(name: str) -> str:
    return "".join(part.title() for part in name.removeprefix("plum_").split("_"))


def clang(*arguments: str, source: str) -> str:
    result = subprocess.run(
        [*CLANG, f"-I{BPF}/lib", *arguments, "-x", "c", "-"],
        input=source,
        text=True,
        capture_output=True,
    )
    if result.returncode:
        sys.exit(f"clang failed:\n{result.stderr}")
    return result.stdout


def declared(keyword: str) -> list[str]:
    """Names of the structs or enums the headers define, in their order."""
    pattern = re.compile(rf"^{keyword} (\w+) \{{", re.M)
    return [name for h in HEADERS for name in pattern.findall((BPF / "lib" / h).read_text())]


def includes() -> str:
    return "".join(f'#include "{header}"\n' for header in HEADERS)


def compile_btf() -> Btf:
    names = [f"{k} {name}" for k in ("struct", "enum") for name in declared(k)]
    fields = "".join(f"\t{name} f{i};\n" for i, name in enumerate(names))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "abi.o")
        anchor = f"{includes()}struct anchor {{\n{fields}}} anchor;\n"
        clang("-O2", "-g", "-c", "-o", str(out), source=anchor)
        return Btf(out.read_bytes())


def constants() -> Iterator[tuple[str, str]]:
    text = (BPF / "lib/abi.h").read_text()
    for name, value in re.findall(r"^#define (\w+)[ \t]+(\w+)", text, re.M):
        number = value.rstrip("uUlL")
        yield name, f"0x{number[2:].upper()}" if number.startswith("0x") else number


def drop_texts() -> list[tuple[str, str]]:
    source = '#include "drops.h"\n#define X(name, text) @name text\nPLUM_DROPS(X)\n'
    return re.findall(r'@(\w+) "((?:[^"\\]|\\.)*)"', clang("-E", "-P", source=source))


def struct_class(btf: Btf, name: str) -> Iterator[str]:
    found = btf.named(STRUCT, name)
    layout, at = "<", 0
    fields: list[tuple[str, str]] = []  # name, Python type
    swapped: set[str] = set()
    # A field named like a built-in hides it from the annotations after it.
    octets = "Octets" if any(m.name == "bytes" for m in found.members) else "bytes"
    for member in found.members:
        kind, alias = btf.resolve(member.type)
        size, bare = kind.size, INTEGERS.get(kind.size)
        if kind.kind == ARRAY:
            element, _ = btf.resolve(kind.size)
            size, bare = element.size * kind.count, None
        if member.offset != at:
            raise ValueError(f"struct {name}: implicit padding before {member.name}")
        at += size
        if PADDING.fullmatch(member.name):
            layout += f"{size}x"
        elif alias == "__be16" and kind.kind == INT:
            layout += "2s"
            swapped.add(member.name)
            fields.append((member.name, "int"))
        elif bare is None or alias in ("__be32", "__be64"):
            layout += f"{size}s"
            fields.append((member.name, octets))
        else:
            layout += bare
            fields.append((member.name, "int"))
    if at != found.size:
        raise ValueError(f"struct {name}: implicit padding at the end")
    code = f"_{name.upper()}"
    yield f'\n\n{code} = struct.Struct("{layout}")'
    yield f"\n\nclass {camel(name)}(NamedTuple):"
    yield f'    """`struct {name}`, {found.size} bytes."""\n'
    for field, python in fields:
        yield f"    {field}: {python}" + "  # type: ignore[assignment]" * hasattr(tuple, field)
    if fields:
        yield ""
    yield f"    def pack(self) -> {octets}:"
    if swapped:
        yield f"        return {code}.pack("
        for field, _ in fields:
            yield f"            self.{field}" + (
                '.to_bytes(2, "big"),' if field in swapped else ","
            )
        yield "        )"
    else:
        yield f"        return {code}.pack(*self)"
    yield "\n    @classmethod"
    yield f"    def unpack(cls, data: {octets}) -> Self:"
    if swapped:
        yield f"        raw = {code}.unpack(data)"
        yield "        return cls("
        for index, (field, _) in enumerate(fields):
            value = f"int.from_bytes(raw[{index}])" if field in swapped else f"raw[{index}]"
            yield f"            {value},"
        yield "        )"
    else:
        yield f"        return cls._make({code}.unpack(data))"


def enum_class(btf: Btf, name: str) -> Iterator[str]:
    members = [m for m in btf.named(ENUM, name).members if not m.name.endswith("_MAX")]
    prefix = members[0].name.partition("_")[0] + "_"
    if not all(m.name.startswith(prefix) for m in members):
        raise ValueError(f"enum {name}: members need one prefix")
    base = "IntFlag" if name.endswith("_flag") else "IntEnum"
    yield f"\n\nclass {camel(name)}({base}):"
    yield f'    """`enum {name}`."""\n'
    yield from (f"    {m.name.removeprefix(prefix)} = {m.offset}" for m in members)


def generate() -> str:
    """The text of daemon/abi.py."""
    btf = compile_btf()
    lines = [PREAMBLE]
    lines += [f"{name} = {value}" for name, value in constants()]
    for name in declared("enum"):
        lines += enum_class(btf, name)
    lines.append("\n\nDROP_TEXT: dict[Drop, str] = {")
    lines += [f'    Drop.{name}: "{text}",' for name, text in drop_texts()]
    lines += ["}", INDEX]
    for name in declared("struct"):
        lines += struct_class(btf, name)
    lines.append("\n\n#: Key and value of every map with rows, by its name.")
    lines.append("MAPS: dict[str, tuple[type[Row], type[Row]]] = {")
    for name, key, value in btf.maps():
        key_class = camel(key.name) if key.kind == STRUCT else "Index"
        lines.append(f'    "{name}": ({key_class}, {camel(value.name)}),')
    lines.append("}")
    return "\n".join(lines) + "\n"


PREAMBLE = '''"""What the daemon shares with the datapath.

Generated by make bpf from bpf/lib/abi.h; change it there. Integers are in host
order; addresses and MACs are bytes as on the wire. Padding is no field: it
packs as zeros.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple, Protocol, Self

Octets = bytes


class Row(Protocol):
    """A map's key or value."""

    def pack(self) -> bytes: ...

    @classmethod
    def unpack(cls, data: bytes) -> Self: ...

'''

INDEX = '''
_INDEX = struct.Struct("<I")


class Index(NamedTuple):
    """Key of an array map."""

    index: int  # type: ignore[assignment]

    def pack(self) -> bytes:
        return _INDEX.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        return cls._make(_INDEX.unpack(data))'''


if __name__ == "__main__":
    output = sys.argv[1] if len(sys.argv) > 1 else str(BPF.parent / "daemon/abi.py")
    generated = generate()
    if output == "-":
        sys.stdout.write(generated)
    else:
        Path(output).write_text(generated)
