"""Rows in and out of every kind of map we use."""

from __future__ import annotations

import struct
import time

import pytest

from daemon.datapath import libbpf
from daemon.datapath.libbpf import DatapathError
from daemon.datapath.loader import Datapath
from daemon.datapath.maps import Map
from daemon.datapath.testrun import run_packet

pytestmark = pytest.mark.privileged

FRAME = bytes(12) + b"\x08\x00" + bytes(50)
LPM = [struct.pack("<I4B", 8 * i, *([10] * i + [0] * (4 - i))) for i in range(5)]


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


ROWS = {
    "t_hash": {u64(i): u64(i) + u64(7) for i in range(500)},
    "t_lru": {u64(i): u64(i) for i in range(500)},
    "t_lpm": {key: u64(i) for i, key in enumerate(LPM)},
    "t_array": {struct.pack("<I", i): u64(i + 1) for i in range(64)},
    "t_pcarray": {struct.pack("<I", i): u64(i + 1) + u64(2) for i in range(64)},
    "t_pchash": {u64(i): u64(i) + u64(3) for i in range(500)},
}


@pytest.mark.parametrize("batches", [True, False], ids=["batched", "one by one"])
@pytest.mark.parametrize("name", ROWS)
def test_rows_are_read_as_written_and_gone_when_deleted(
    datapath: Datapath, name: str, batches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not batches:
        call = libbpf.raw
        monkeypatch.setattr(
            libbpf, "raw", lambda n, *a: -524 if n.endswith("_batch") else call(n, *a)
        )
    table, rows = datapath.maps[name], ROWS[name]
    table.update_many(rows.items())
    assert table.dump() == rows
    image = table.digest()
    assert table.digest() == image
    some = list(rows)[1:3]
    assert table.lookup(some[0]) == rows[some[0]]
    table.delete_many(some)
    table.delete_many(some)  # again: no error
    assert table.digest() != image
    assert table.dump() == {key: value for key, value in rows.items() if key not in some}
    table.delete_many(list(rows))
    assert table.dump() == {}


def test_the_image_of_an_array_can_stop_before_its_end(datapath: Datapath) -> None:
    table = datapath.maps["t_array"]
    first, last = struct.pack("<I", 3), struct.pack("<I", 40)
    whole, head = table.digest(), table.digest(10)
    table.update(last, u64(77))
    assert table.digest() != whole
    assert table.digest(10) == head
    table.update(first, u64(78))
    assert table.digest(10) != head
    table.delete_many([first, last])
    assert (table.digest(), table.digest(10)) == (whole, head)


def test_missing_rows_in_the_middle_of_a_delete_are_stepped_over(datapath: Datapath) -> None:
    table = datapath.maps["t_hash"]
    table.update_many((u64(i), bytes(16)) for i in range(10))
    table.delete_many(u64(i) for i in (0, 99, 1, 98, 97, 2))
    assert sorted(table.dump()) == sorted(u64(i) for i in range(3, 10))


def test_full_map_says_so(datapath: Datapath) -> None:
    table = datapath.maps["t_pchash"]
    with pytest.raises(DatapathError, match=r"t_pchash is full \(1024 rows\)"):
        table.update_many((u64(i), bytes(16)) for i in range(1025))
    with pytest.raises(DatapathError, match="t_array has only 64 rows"):
        datapath.maps["t_array"].update(struct.pack("<I", 64), bytes(8))


def test_row_of_the_wrong_size_is_refused(datapath: Datapath) -> None:
    with pytest.raises(ValueError, match=r"t_hash: row of 7 \+ 16 bytes, not 8 \+ 16"):
        datapath.maps["t_hash"].update(bytes(7), bytes(16))


def test_per_cpu_counters_are_summed(datapath: Datapath) -> None:
    for _ in range(3):
        run_packet(datapath.programs["t_entry"].fd, FRAME)
    counters = datapath.maps["t_pcarray"]
    assert counters.dump() == {bytes(4): u64(3) + u64(3 * len(FRAME))}
    assert counters.lookup(bytes(4)) == u64(3) + u64(3 * len(FRAME))


def test_hundred_thousand_rows_are_quick(datapath: Datapath) -> None:
    rows = {u64(i): u64(i) + u64(1) for i in range(100_000)}
    table = datapath.maps["t_hash"]
    start = time.perf_counter()
    table.update_many(rows.items())
    written = time.perf_counter()
    found = table.dump()
    read = time.perf_counter()
    assert found == rows
    print(f"100k rows: write {written - start:.3f} s, read {read - written:.3f} s")
    assert read - start < 5


def test_descriptor_of_no_map_is_an_error() -> None:
    with pytest.raises(DatapathError, match="object info"):
        Map(12345)
