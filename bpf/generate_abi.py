"""Generate daemon/abi.py from bpf/lib/*.h: layouts are written once, in C.

    python3 bpf/generate_abi.py [OUTPUT]      default: daemon/abi.py; `-`: stdout

clang compiles a source that names every struct and enum of the shared headers;
their layout is read from the object's BTF (Documentation/bpf/btf.rst in the
kernel tree). Only the standard library is needed.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from btf import ARRAY, ENUM, INT, INTEGERS, PADDING, STRUCT, Btf, section

BPF = Path(__file__).resolve().parent
HEADERS = ("abi.h", "maps.h", "drops.h", "stages.h")
CLANG = ("clang", "-target", "bpf", f"-I/usr/include/{platform.machine()}-linux-gnu")


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
        return Btf(section(out.read_bytes(), ".BTF"))


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
