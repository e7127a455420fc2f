"""A build that could be the version before this one: other layouts and sizes of maps.

The sources are copied, some structs in the copy's headers are laid out differently,
and the copy is compiled as it would be: objects, daemon/abi.py, plumd.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path) -> Path:
    """The other version in `folder`: what goes into PYTHONPATH to run it."""
    for part in ("daemon", "bpf"):
        ignored = shutil.ignore_patterns("__pycache__", "*.o")
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    header = folder / "bpf/lib/abi.h"
    text = header.read_text()
    for name, pairs in SWAPPED.items():
        for one, other in pairs:
            text = _edit(text, name, one, other)
    for name, field, instead in REPLACED:
        text = _edit(text, name, field, instead=instead)
    header.write_text(text)
    sizes = folder / "bpf/lib/maps.h"
    smaller = sizes.read_text().replace("struct flow, 1 << 18", "struct flow, 1 << 16")
    assert smaller != sizes.read_text()
    sizes.write_text(smaller)
    for script in ("compile.py", "generate_abi.py"):
        subprocess.run([sys.executable, str(folder / "bpf" / script)], check=True)
    return folder


#: Fields of one type that change places.
SWAPPED = {
    "flow": [("seen", "bytes"), ("slot", "mtu")],
    "flow4_key": [("saddr", "daddr")],
    "ep": [("id", "slot"), ("ingress_set", "egress_set")],
    "config": [("underlay_ifindex", "underlay_mtu")],
    "quota": [("flows", "counted")],
    "drop_key": [("slot", "reason")],
    "ep_stat": [("rx_packets", "tx_bytes")],
}

#: Narrower numbers, and fields that the present version does not know.
REPLACED = [
    ("flow", "packets", "__u32 hint;\n\t__u32 packets;"),
    ("drop_stat", "bytes", "__u32 bytes;\n\t__u32 hint;"),
    ("ep_stat", "rx_bytes", "__u64 hint;\n\t__u64 rx_bytes;"),
]


def _edit(text: str, name: str, field: str, other: str = "", instead: str = "") -> str:
    """Swap two fields of a struct, or put something in the place of one."""
    found = re.search(rf"^struct {name} \{{\n(.*?)^\}};\n", text, re.M | re.S)
    assert found, f"struct {name} is not in abi.h"
    body = re.sub(r"/\*.*?\*/", "", found[1], flags=re.S)
    if other:
        body = _named(body, field, "@first@")
        body = _named(body, other, field)
        body = body.replace("@first@", other)
    else:
        pattern = rf"^\t\w+ {field};"
        assert re.search(pattern, body, re.M), f"{name}.{field}"
        body = re.sub(pattern, f"\t{instead}", body, flags=re.M)
    text = text[: found.start(1)] + body + text[found.end(1) :]
    return re.sub(rf"^PLUM_SIZE\({name}, .*\n", "", text, flags=re.M)


def _named(body: str, field: str, name: str) -> str:
    changed, count = re.subn(rf"\b{field}(?=[;\[])", name, body)
    assert count == 1, field
    return changed
