"""The rules of ARCHITECTURE.md that a machine can check."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import abi

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path for top in ("daemon", "plumctl", "bench") for path in (ROOT / top).rglob("*.py")
)
#: Who may import what, by top-level module; everybody else may not.
ONLY = {
    "pyroute2": ("daemon/drivers/", "plumctl/sandbox/"),
    "paramiko": ("plumctl/toolbox/ssh",),
    "cryptography": ("daemon/trust/", "plumctl/sandbox/"),
    "dns": ("daemon/dns/",),
    "textual": ("plumctl/tui/",),
    "scapy": (),
}
#: Packages that decide without doing: no I/O, no kernel, no clock.
PURE = ("daemon/model/", "daemon/compiler/", "daemon/abi.py")
IO = {
    "asyncio", "ctypes", "os", "pathlib", "select", "shutil", "signal", "socket", "sqlite3",
    "subprocess", "tempfile", "threading", "time",
}  # fmt: skip


#: What each part of the daemon may import of the others. Modules directly in
#: daemon/ are the wiring: they may import all of it, and no part imports them.
LAYERS: dict[str, set[str]] = {
    "model": set(),
    "store": set(),
    "compiler": {"abi", "model"},
    "zone": {"model", "store"},
    "trust": {"model", "store", "zone"},
    "drivers": {"model"},
    "mesh": {"abi", "model"},
    "datapath": {"abi"},
    "responders": {"abi", "model"},
    "dns": {"model", "responders"},
    "health": {"abi", "model", "store", "zone", "drivers", "responders"},
    "reconcile": {
        "abi", "model", "store", "zone", "compiler", "drivers", "datapath", "responders",
    },
    "api": {"abi", "model", "store", "zone", "trust", "compiler", "mesh", "health", "reconcile"},
}  # fmt: skip


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "daemon":
            yield from (f"daemon.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_one_way(path: Path) -> None:
    where = name(path)
    for module in imports(path):
        top = module.split(".")[0]
        if top in ONLY:
            assert where.startswith(ONLY[top]), f"{where} imports {module}"
        if where.startswith("daemon/"):
            assert top not in ("plumctl", "bench", "tests"), f"{where} imports {module}"
        if where.startswith("plumctl/") and top == "daemon":
            assert module.startswith("daemon.model"), f"{where} imports {module}"
        if where.startswith(PURE):
            assert top not in IO, f"{where} imports {module}: it must stay pure"
        if "libbpf" in module:
            assert where.startswith("daemon/datapath/"), f"{where} imports {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "daemon").glob("*/**/*.py")), ids=name)
def test_parts_of_the_daemon_import_only_the_layers_below(path: Path) -> None:
    own = path.relative_to(ROOT / "daemon").parts[0]
    assert own in LAYERS, "a new part of the daemon: say what it may import"
    for module in imports(path):
        if module.startswith("daemon."):
            other = module.split(".")[1]
            assert other == own or other in LAYERS[own], f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_modules_stay_small_and_plain(path: Path) -> None:
    text = path.read_text()
    assert path.name not in ("utils.py", "helpers.py", "manager.py")
    assert "shell=True" not in text
    if path.name != "abi.py":  # generated
        assert len(text.splitlines()) <= 400


@pytest.mark.parametrize("kind", ["stage", "drop"])
def test_every_stage_and_drop_has_its_heading(kind: str) -> None:
    page = (ROOT / "bpf/PIPELINE.md").read_text()
    members = abi.Stage if kind == "stage" else abi.Drop
    level = "###" if kind == "stage" else "####"
    wanted = [m.name for m in members if m.name not in ("NONE", "MAX")]
    assert re.findall(rf"^{level} ([A-Z_0-9]+)$", page, re.MULTILINE) == wanted


def test_every_map_is_described_and_well_named() -> None:
    page = (ROOT / "bpf/PIPELINE.md").read_text()
    for map_name in abi.MAPS:
        assert map_name.startswith("plum_")
        assert len(map_name) <= 15
        assert re.search(rf"^\|.*\b{map_name}\b", page, re.MULTILINE), map_name


def test_headers_of_the_datapath_stay_readable() -> None:
    for path in set((ROOT / "bpf").rglob("*.[ch]")) - {ROOT / "bpf/lib/abi.h"}:  # one list
        assert len(path.read_text().splitlines()) <= 400, name(path)
