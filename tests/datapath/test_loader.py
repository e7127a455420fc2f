"""Loading, finding again, upgrading."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon import abi
from daemon.datapath.libbpf import DatapathError
from daemon.datapath.loader import load, shipped_objects
from daemon.datapath.testrun import run_packet

pytestmark = pytest.mark.privileged

FRAME = bytes(12) + b"\x08\x00" + bytes(50)
Compile = Callable[..., Path]


def test_second_load_finds_the_first(pins: Path, sample: Path) -> None:
    first, second = load(pins, [sample]), load(pins, [sample])
    assert {p.name: p.id for p in first.programs.values()} == {
        p.name: p.id for p in second.programs.values()
    }
    assert {m.name: m.id for m in first.maps.values()} == {
        m.name: m.id for m in second.maps.values()
    }
    first.close()
    second.close()


def test_tail_calls_outlive_the_loader(pins: Path, sample: Path) -> None:
    load(pins, [sample]).close()
    again = load(pins, [sample])
    result = run_packet(again.programs["t_entry"].fd, FRAME)
    assert (result.retval, result.mark) == (2, 77)
    again.close()


def test_another_build_shares_the_data_and_retires_the_old(
    pins: Path, sample: Path, compile_sample: Compile
) -> None:
    old = load(pins, [sample])
    old.maps["t_hash"].update(bytes(8), b"x" * 16)
    new = load(pins, [compile_sample("-DENTRIES=131072", "-DBUILD=6")])
    assert new.generation != old.generation
    assert new.maps["t_hash"].lookup(bytes(8)) == b"x" * 16
    assert new.retire() == [old.generation]
    assert sorted(p.name for p in pins.iterdir() if p.is_dir()) == [new.generation]
    assert run_packet(new.programs["t_entry"].fd, FRAME).mark == 77
    old.close()
    new.close()


def test_size_overrides_are_set_and_changed_with_the_rows_kept(pins: Path, sample: Path) -> None:
    small = load(pins, [sample], {"t_hash": 10})
    assert small.maps["t_hash"].max_entries == 10
    small.maps["t_hash"].update(bytes(8), b"x" * 16)
    large = load(pins, [sample])
    assert large.maps["t_hash"].max_entries == 131072
    assert large.maps["t_hash"].lookup(bytes(8)) == b"x" * 16
    assert len(large.retire()) == 1
    again = load(pins, [sample])
    assert again.maps["t_hash"].id == large.maps["t_hash"].id
    for datapath in (small, large, again):
        datapath.close()


def test_override_of_an_unknown_map_is_refused(pins: Path, sample: Path) -> None:
    with pytest.raises(DatapathError, match="no map is called t_typo"):
        load(pins, [sample], {"t_typo": 10})


def test_refused_program_comes_with_the_verifiers_words(
    pins: Path, compile_sample: Compile
) -> None:
    with pytest.raises(DatapathError, match="invalid mem access 'scalar'") as caught:
        load(pins, [compile_sample("-DREFUSED")])
    assert caught.value.errno == 13
    assert not [p for p in pins.iterdir() if p.is_dir()]


def test_unlinked_map_pin_is_made_again_with_its_rows(pins: Path, sample: Path) -> None:
    first = load(pins, [sample])
    first.maps["t_hash"].update(bytes(8), b"x" * 16)
    (pins / "t_hash").unlink()
    first.close()
    again = load(pins, [sample])
    assert again.maps["t_hash"].lookup(bytes(8)) == b"x" * 16
    again.close()


def test_replaced_map_pin_and_lost_program_load_anew(pins: Path, sample: Path) -> None:
    first = load(pins, [sample])
    (pins / "t_hash").unlink()
    shutil.rmtree(pins / first.generation)  # no pin tells where the rows are
    second = load(pins, [sample])
    assert second.maps["t_hash"].id != first.maps["t_hash"].id
    (pins / second.generation / "t_punt").unlink()
    third = load(pins, [sample])
    assert third.maps["t_hash"].id == second.maps["t_hash"].id
    assert len(third.retire()) == 1
    for datapath in (first, second, third):
        datapath.close()


def test_load_killed_half_way_is_done_again(pins: Path, sample: Path) -> None:
    first = load(pins, [sample])
    (pins / first.generation).rename(pins / first.generation.replace("gen", "new"))
    second = load(pins, [sample])
    assert run_packet(second.programs["t_entry"].fd, FRAME).mark == 77
    first.close()
    second.close()


def test_shipped_datapath_loads_and_its_maps_match_the_abi(pins: Path) -> None:
    datapath = load(pins, shipped_objects())
    assert {"plum_from_ep", "plum_from_ul", "plum_flow_gc"} <= set(datapath.programs)
    assert "plum_tail" in datapath.maps
    for name, (key, value) in abi.MAPS.items():
        held = datapath.maps[name]
        assert len(key.unpack(bytes(held.key_size)).pack()) == held.key_size
        assert len(value.unpack(bytes(held.value_size)).pack()) == held.value_size
    datapath.close()
