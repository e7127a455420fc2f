"""daemon/abi.py says what the C headers say."""

from __future__ import annotations

import subprocess
import sys
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import abi

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    value
    for value in vars(abi).values()
    if isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "unpack")
]


def test_committed_abi_is_what_the_headers_generate() -> None:
    command = [sys.executable, str(ROOT / "bpf/generate_abi.py"), "-"]
    generated = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert generated == (ROOT / "daemon/abi.py").read_text(), "run `make bpf`"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_bytes_survive_unpack_and_pack(row: Any) -> None:
    layout = getattr(abi, f"_{snake(row.__name__)}")

    @given(st.binary(min_size=layout.size, max_size=layout.size))
    def check(data: bytes) -> None:
        unpacked = row.unpack(data)
        again = unpacked.pack()
        assert len(again) == layout.size
        assert row.unpack(again) == unpacked
        if "x" not in layout.format:
            assert again == data

    check()


def snake(name: str) -> str:
    return "".join(f"_{c}" if c.isupper() else c for c in name).strip("_").upper()


def test_integers_are_little_endian_and_ports_are_network_order() -> None:
    key = abi.Flow4Key(
        ctx=1, saddr=b"\x0a\0\0\1", daddr=b"\x0a\0\0\2", sport=80, dport=443, proto=6
    )
    assert key.pack().hex() == "010000000a0000010a000002005001bb06000000"
    assert abi.Flow4Key.unpack(key.pack()) == key


def test_prefix_length_of_lpm_keys_comes_first_and_padding_is_zero() -> None:
    key = abi.SourceKey(prefixlen=128, slot=7, mac=b"\2\0\0\0\0\1", addr=bytes(16))
    assert key.pack().hex() == "80000000070000000200000000010000" + "00" * 16


def test_every_drop_has_a_text_and_every_map_has_classes() -> None:
    assert set(abi.DROP_TEXT) == set(abi.Drop) - {abi.Drop.NONE}
    assert issubclass(abi.Drop, IntEnum)
    assert abi.MAPS["plum_host"] == (abi.HostKey, abi.Host)
    assert abi.MAPS["plum_config"] == (abi.Index, abi.Config)
    assert "plum_punt" not in abi.MAPS
