"""Rows of one layout in maps of another, while both generations are in use."""

from __future__ import annotations

import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.abi import MAPS
from daemon.compiler.order import APPLY_ORDER
from daemon.datapath.carry import STATE, CannotCarry
from daemon.datapath.loader import Datapath, load

pytestmark = pytest.mark.privileged
Compile = Callable[..., Path]

EARLIER_KEY, LATER_KEY = struct.Struct("<I2s2x"), struct.Struct("<2s2xI")
EARLIER_FLOW = struct.Struct("<QQQ6sH")  # seen, packets, dropped, mac, state
LATER_FLOW = struct.Struct("<B3xIQI6sH4x")  # state, packets, seen, added, mac, other
MAC, PORT = b"\x02\x65\x00\x00\x00\x07", b"\x14\x51"


@pytest.fixture(scope="session")
def earlier(compile_carried: Compile) -> Path:
    return compile_carried()


@pytest.fixture(scope="session")
def later(compile_carried: Compile) -> Path:
    return compile_carried("-DLATER")


class Generations:
    """Loads, and closes at the end."""

    def __init__(self, pins: Path) -> None:
        self.pins = pins
        self._loaded: list[Datapath] = []

    def load(self, build: Path) -> Datapath:
        self._loaded.append(load(self.pins, [build]))
        return self._loaded[-1]

    def close(self) -> None:
        for datapath in self._loaded:
            datapath.close()


@pytest.fixture
def generations(pins: Path) -> Iterator[Generations]:
    made = Generations(pins)
    yield made
    made.close()


def put(datapath: Datapath, number: int, seen: int, packets: int = 5, state: int = 2) -> None:
    value = EARLIER_FLOW.pack(seen, packets, 9, MAC, state)
    datapath.maps["plum_flow4"].update(EARLIER_KEY.pack(number, PORT), value)


def put_later(datapath: Datapath, number: int, seen: int, packets: int) -> None:
    value = LATER_FLOW.pack(2, packets, seen, 1, MAC, 3)
    datapath.maps["plum_flow4"].update(LATER_KEY.pack(PORT, number), value)


def flow(datapath: Datapath, number: int) -> tuple[object, ...] | None:
    """A row of the later layout."""
    value = datapath.maps["plum_flow4"].lookup(LATER_KEY.pack(PORT, number))
    return LATER_FLOW.unpack(value) if value is not None else None


def test_every_map_is_compiled_or_says_how_it_is_carried() -> None:
    assert set(APPLY_ORDER) | set(STATE) == set(MAPS)
    assert not set(APPLY_ORDER) & set(STATE)


def test_fields_go_by_name_and_numbers_change_their_width(
    generations: Generations, earlier: Path, later: Path
) -> None:
    old = generations.load(earlier)
    put(old, 1, seen=100)
    put(old, 2, seen=1 << 40, packets=1 << 33, state=0x1FF)
    new = generations.load(later)
    assert flow(new, 1) == (2, 5, 100, 7, MAC, 0)
    assert flow(new, 2) == (0xFF, 0xFFFFFFFF, 1 << 40, 7, MAC, 0)
    assert new.maps["plum_same"].id == old.maps["plum_same"].id


def test_the_old_generation_goes_on_and_what_it_does_is_carried_later(
    generations: Generations, earlier: Path, later: Path
) -> None:
    old = generations.load(earlier)
    put(old, 1, seen=100)
    put(old, 2, seen=100)
    new = generations.load(later)
    put(old, 1, seen=200, packets=8)
    put(old, 2, seen=200, packets=8)
    put(old, 3, seen=200)
    put_later(new, 2, seen=201, packets=99)  # its device was switched first
    new.carry.state()
    assert [flow(new, n)[1:3] for n in (1, 2, 3)] == [(8, 200), (99, 201), (5, 200)]  # type: ignore[index]
    assert new.retire() == [old.generation]
    assert new.maps["plum_flow4"].id == generations.load(later).maps["plum_flow4"].id
    assert {p.name for p in generations.pins.iterdir() if not p.is_dir()} == {
        "plum_flow4", "plum_ep_stat", "plum_drop", "plum_same",
    }  # fmt: skip


def test_counters_never_go_back(generations: Generations, earlier: Path, later: Path) -> None:
    old = generations.load(earlier)
    index, name, later_name = bytes(4), EARLIER_KEY.pack(3, PORT), LATER_KEY.pack(PORT, 3)
    old.maps["plum_ep_stat"].update(index, struct.pack("<QQ", 10, 1000))
    old.maps["plum_drop"].update(name, struct.pack("<QQ", 4, 400))
    new = generations.load(later)
    old.maps["plum_drop"].update(name, struct.pack("<QQ", 5, 500))
    new.carry.state()
    new.maps["plum_ep_stat"].update(index, struct.pack("<QQQ", 1100, 11, 1))
    new.carry.state(counters=False)
    new.carry.state()
    assert new.maps["plum_ep_stat"].lookup(index) == struct.pack("<QQQ", 1100, 11, 1)
    assert new.maps["plum_drop"].lookup(later_name) == struct.pack("<QQQ", 500, 5, 0)
    new.carry.forget("plum_drop", [later_name])
    new.maps["plum_drop"].delete(later_name)
    new.carry.state()
    assert new.maps["plum_drop"].lookup(later_name) is None


def test_back_to_the_earlier_build_at_any_point_loses_nothing(
    generations: Generations, earlier: Path, later: Path
) -> None:
    old = generations.load(earlier)
    put(old, 1, seen=100)
    new = generations.load(later)
    put_later(new, 1, seen=150, packets=6)  # half switched, and then the daemon dies
    put_later(new, 2, seen=150, packets=7)
    put(old, 3, seen=150)
    back = generations.load(earlier)
    assert back.generation == old.generation
    back.carry.state()
    rows = back.maps["plum_flow4"].dump()
    found = {
        number: EARLIER_FLOW.unpack(rows[EARLIER_KEY.pack(number, PORT)]) for number in (1, 2, 3)
    }
    assert found == {1: (150, 6, 0, MAC, 2), 2: (150, 7, 0, MAC, 2), 3: (150, 5, 9, MAC, 2)}
    assert back.retire() == [new.generation]


def test_a_daemon_that_dies_while_it_retires_is_followed_by_either_build(
    generations: Generations, earlier: Path, later: Path
) -> None:
    for successor in (later, earlier):
        old = generations.load(earlier)
        put(old, 1, seen=100)
        new = generations.load(later)
        pins = generations.pins
        (pins / new.generation / "plum_flow4").rename(pins / "plum_flow4")
        again = generations.load(successor)
        again.carry.state()
        keys = {later: LATER_KEY.pack(PORT, 1), earlier: EARLIER_KEY.pack(1, PORT)}
        assert again.maps["plum_flow4"].lookup(keys[successor]) is not None
        again.retire()
        again.carry.state()
        assert generations.load(successor).maps["plum_flow4"].id == again.maps["plum_flow4"].id
        for path in pins.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_what_does_not_fit_is_named_and_the_old_generation_stays(
    generations: Generations, earlier: Path, compile_carried: Compile
) -> None:
    old = generations.load(earlier)
    for number in range(40):
        put(old, number, seen=100)
    before = sorted(path.name for path in generations.pins.rglob("*"))
    with pytest.raises(CannotCarry, match=r"plum_flow4: 40 rows in use .* 64 entries"):
        generations.load(compile_carried("-DLATER", "-DENTRIES=64"))
    with pytest.raises(CannotCarry, match="plum_flow4: field 'mac' was 6 bytes and is 8 bytes"):
        generations.load(compile_carried("-DWIDE_MAC"))
    assert sorted(path.name for path in generations.pins.rglob("*")) == before
    assert generations.load(earlier).maps["plum_flow4"].id == old.maps["plum_flow4"].id


def test_a_hundred_thousand_flows_are_carried_in_moments(
    generations: Generations, earlier: Path, later: Path
) -> None:
    old = generations.load(earlier)
    value = EARLIER_FLOW.pack(100, 5, 9, MAC, 2)
    rows = [(EARLIER_KEY.pack(number, PORT), value) for number in range(100_000)]
    old.maps["plum_flow4"].update_many(rows)
    started = time.monotonic()
    new = generations.load(later)
    copied = time.monotonic()
    put(old, 17, seen=200)
    new.carry.state()
    caught_up = time.monotonic()
    print(f"copied in {copied - started:.2f} s, caught up in {caught_up - copied:.2f} s")
    assert len(new.maps["plum_flow4"].dump()) == 100_000
    assert flow(new, 17) == (2, 5, 200, 7, MAC, 0)
    assert caught_up - started < 10  # a quarter of a second each when nothing else runs
