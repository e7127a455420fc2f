"""The rules of ARCHITECTURE.md and bpf/ that a program can check."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("plumctl", "daemon", "bpf", "bench")

#: What each part of the daemon may import of the others. Arrows point one way.
LAYERS: dict[str, set[str]] = {
    "abi": set(),
    "model": set(),
    "store": set(),
    "compiler": {"abi", "model"},
    "zone": {"model", "store"},
    "drivers": {"model"},
    "datapath": {"abi"},
    "responders": {"abi", "model"},
    "reconcile": {
        "abi",
        "model",
        "store",
        "zone",
        "compiler",
        "drivers",
        "datapath",
        "responders",
    },
    "api": {"abi", "model", "store", "zone", "reconcile"},
}
#: Only the wiring may reach everything, and nothing imports the wiring.
WIRING = {"__main__", "__init__", "wiring"}

PURE = ("daemon/model", "daemon/compiler", "daemon/abi.py")
IO_MODULES = {
    *("asyncio", "ctypes", "fcntl", "http", "mmap", "multiprocessing", "os", "pathlib"),
    *("pyroute2", "random", "select", "shutil", "signal", "socket", "sqlite3", "ssl"),
    *("subprocess", "sys", "tempfile", "threading", "time", "urllib"),
}
#: Third-party modules that live in one place, and libraries that only tests use.
ONLY_IN = {
    "pyroute2": ("daemon/drivers/",),
    "sqlite3": ("daemon/store/",),
    "fastapi": ("daemon/api/",),
    "uvicorn": ("daemon/api/", "daemon/__main__.py"),
    "typer": ("plumctl/",),
    "rich": ("plumctl/",),
    "scapy": (),
    "subprocess": ("plumctl/", "bench/", "bpf/"),  # the daemon runs no commands
}
NO_NAMES = {"utils", "util", "helpers", "manager", "misc", "common"}

MAX_LINES = {".py": 400, ".c": 500, ".h": 500}
GENERATED = {"daemon/abi.py"}

MAX_BPF_NAME = 15  # BPF_OBJ_NAME_LEN - 1, include/uapi/linux/bpf.h


@dataclass(frozen=True)
class Import:
    file: str  # relative to the root
    line: int
    module: str  # absolute

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


@cache
def python_files() -> tuple[str, ...]:
    found = [ROOT / "setup.py"]
    for package in PACKAGES:
        found += (ROOT / package).rglob("*.py")
    return tuple(sorted(str(path.relative_to(ROOT)) for path in found))


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(), file)


def modules_of(node: ast.AST, file: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = file.removesuffix(".py").split("/")[: -node.level]
            base = ".".join([*package, base] if base else package)
        # `from daemon import store` names a module, `from x import y` maybe a class.
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif (
        isinstance(node, ast.Call)
        and "import_module" in ast.unparse(node.func)
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ):
        yield str(node.args[0].value)


@cache
def imports() -> tuple[Import, ...]:
    """All of them, also those inside functions."""
    return tuple(
        Import(file, getattr(node, "lineno", 0), module)
        for file in python_files()
        for node in ast.walk(tree(file))
        for module in modules_of(node, file)
    )


def listed(broken: Iterator[object]) -> str:
    return "\n".join(str(one) for one in broken)


def test_the_walk_sees_imports() -> None:
    """The other tests would pass on nothing."""
    seen = {one.module for one in imports() if one.file.startswith("daemon/")}
    assert "pydantic.BaseModel" in seen
    source = "from . import a\nfrom ..b import c\nimport_module('d.e')"
    found = [m for n in ast.walk(ast.parse(source)) for m in modules_of(n, "p/q/r.py")]
    assert found == ["p.q.a", "p.b.c", "d.e"]


def test_daemon_parts_import_only_the_layers_below() -> None:
    def broken() -> Iterator[Import]:
        for one in imports():
            parts, target = Path(one.file).parts, one.module.split(".")
            if parts[0] != "daemon" or target[0] != "daemon" or len(target) < 2:
                continue
            own, other = parts[1].removesuffix(".py"), target[1]
            if own in WIRING and len(parts) == 2:
                continue
            if other not in LAYERS.get(own, set()) | {own}:
                yield one

    assert not listed(broken())


def test_every_daemon_part_has_its_layer() -> None:
    parts = {Path(file).parts[1].removesuffix(".py") for file in python_files() if "daemon" in file}
    assert parts - WIRING <= LAYERS.keys()


def test_daemon_never_imports_the_cli_and_the_cli_only_the_model() -> None:
    assert not listed(
        one
        for one in imports()
        if (one.file.startswith("daemon/") and one.top in ("plumctl", "bench"))
        or (
            one.file.startswith("plumctl/")
            and (one.top == "bench" or (one.top == "daemon" and "daemon.model" not in one.module))
        )
    )


def test_model_compiler_and_abi_do_no_io() -> None:
    def broken() -> Iterator[str]:
        yield from (
            str(one) for one in imports() if one.file.startswith(PURE) and one.top in IO_MODULES
        )
        for file in python_files():
            if file.startswith(PURE):
                for node in ast.walk(tree(file)):
                    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "print"):
                        yield f"{file}:{node.lineno} calls {ast.unparse(node.func)}"

    assert not listed(broken())


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_stays_in_its_place(library: str) -> None:
    assert not listed(
        one
        for one in imports()
        if one.top == library and not one.file.startswith(ONLY_IN[library] or "nowhere")
    )


def test_libbpf_is_touched_only_by_the_datapath() -> None:
    # A literal: naming the library in a text or a docstring is fine.
    assert not listed(
        file
        for file in python_files()
        if file.startswith(("daemon/", "plumctl/"))
        and not file.startswith("daemon/datapath/")
        and any(
            isinstance(node, ast.Constant) and re.match(r"libbpf\.so", str(node.value))
            for node in ast.walk(tree(file))
        )
    )


def test_no_shell_is_started() -> None:
    def broken() -> Iterator[str]:
        for file in python_files():
            for node in ast.walk(tree(file)):
                if not isinstance(node, ast.Call):
                    continue
                called = ast.unparse(node.func)
                shell = any(
                    k.arg == "shell" and getattr(k.value, "value", True) for k in node.keywords
                )
                if shell or called in ("os.system", "os.popen", "asyncio.create_subprocess_shell"):
                    yield f"{file}:{node.lineno} {called}"

    assert not listed(broken())


def test_modules_have_telling_names() -> None:
    assert not listed(file for file in python_files() if Path(file).stem in NO_NAMES)


def test_files_stay_small() -> None:
    sources = [*python_files()]
    sources += [str(p.relative_to(ROOT)) for s in ("*.c", "*.h") for p in ROOT.glob(f"bpf/**/{s}")]

    def broken() -> Iterator[str]:
        for file in sources:
            lines = (ROOT / file).read_text().count("\n")
            if lines > MAX_LINES[Path(file).suffix] and file not in GENERATED:
                yield f"{file}: {lines} lines"

    assert not listed(broken())


def test_only_declared_dependencies_are_imported() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    declared = {name.replace("ruamel.yaml", "ruamel") for name in re.findall(r'"([\w.]+)>=', text)}
    known = declared | set(PACKAGES) | set(sys.stdlib_module_names)
    known |= {"click", "starlette", "h11"}  # typer, fastapi and uvicorn are made of them
    assert not listed(one for one in imports() if one.top not in known)


# bpf/


def bpf_text() -> str:
    paths = [*ROOT.glob("bpf/*.bpf.c"), *ROOT.glob("bpf/lib/*.h")]
    return "\n".join(path.read_text() for path in sorted(paths))


def bpf_names() -> list[str]:
    text = bpf_text()
    maps = re.findall(r"^\s*PLUM_MAP\(\s*\w+,\s*(\w+)", text, re.M)
    maps += re.findall(r'^\}\s*(\w+)\s+SEC\("\.maps"\)', text, re.M)
    programs = re.findall(r'SEC\("(?!\.maps|license)[^"]+"\)\s*int (\w+)\(', text)
    assert len(maps) > 20
    assert len(programs) > 1
    return maps + programs


def test_names_of_maps_and_programs_survive_the_kernel() -> None:
    assert not listed(
        name for name in bpf_names() if not name.startswith("plum_") or len(name) > MAX_BPF_NAME
    )


def listed_in(header: str) -> list[str]:
    """Names of an X-macro list, as bpf/lib/ has them for stages and drops."""
    text = (ROOT / "bpf/lib" / header).read_text()
    names = re.findall(r"\bX\((\w+)[,)]", text.replace("define X(name", ""))
    assert len(names) > 10
    return names


@pytest.mark.parametrize("header", ["stages.h", "drops.h"])
def test_pipeline_page_has_a_heading_for_each(header: str) -> None:
    page = (ROOT / "bpf/PIPELINE.md").read_text()
    headings = {
        heading.split()[0].strip("`:").upper()
        for heading in re.findall(r"^#{2,6} (.+)$", page, re.M)
    }
    missing = [name for name in listed_in(header) if name not in headings]
    assert not missing, "bpf/PIPELINE.md: add a heading that begins with the name"


def test_generated_abi_names_every_drop() -> None:
    from daemon import abi

    assert [drop.name for drop in abi.Drop if drop.value][: len(listed_in("drops.h"))] == listed_in(
        "drops.h"
    )
