"""Loading the datapath and finding it again.

    PINS/plum_ep, plum_host, ...       data maps, shared by all generations
    PINS/gen-HASH/plum_from_ep, ...    one generation's programs, and its
                                       tail-call array (which the kernel empties
                                       when its last user reference goes)

HASH covers the object files, so the same build finds itself after a restart and
another one loads beside it. The order of an upgrade: `load`, replace the filters,
`retire`. A generation is pinned under `new-HASH` and renamed when complete, so a
`gen-` directory always is.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.resources
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon.datapath import libbpf
from daemon.datapath.libbpf import DatapathError
from daemon.datapath.maps import PROG_ARRAY, Map

log = logging.getLogger(__name__)

#: Attributes in which an existing pinned map must agree with the object's.
LAYOUT = ("type", "key_size", "value_size", "max_entries", "map_flags")


class IncompatibleMap(DatapathError):
    """A pinned map's layout is not that of the object to be loaded."""


@dataclass(frozen=True, slots=True)
class Program:
    """A loaded program. `fd` is owned by its Datapath."""

    name: str
    fd: int
    id: int
    tag: str
    map_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Datapath:
    """One generation, loaded: what to attach and which maps to write."""

    pins: Path
    generation: str
    programs: Mapping[str, Program]
    maps: Mapping[str, Map]

    def retire(self) -> list[str]:
        """Remove every other generation; call it when no filter uses them."""
        old = [
            path
            for path in self.pins.iterdir()
            if path.is_dir()
            and path.name.startswith(("gen-", "new-", "old-"))
            and path.name != self.generation
        ]
        for path in old:
            shutil.rmtree(path)
        return [path.name for path in old]

    def close(self) -> None:
        """Close descriptors. Pins stay: the kernel goes on forwarding."""
        _close(self.programs, self.maps)


def _close(programs: Mapping[str, Program], maps: Mapping[str, Map]) -> None:
    for data in maps.values():
        data.close()
    for program in programs.values():
        os.close(program.fd)


def shipped_objects() -> list[Path]:
    """The compiled objects of this installation (or checkout, after `make bpf`)."""
    folder = Path(str(importlib.resources.files("bpf")))
    objects = sorted(folder.glob("*.bpf.o"))
    if not objects:
        raise DatapathError(f"no BPF objects in {folder}: run `make bpf`")
    return objects


def load(
    pins: Path,
    objects: Sequence[Path] | None = None,
    max_entries: Mapping[str, int] | None = None,
) -> Datapath:
    """Load the objects, or find them loaded, with pins under `pins` (in a bpffs).

    `max_entries` overrides the size of maps by name; an existing pinned map must
    have it already. Raises IncompatibleMap, and DatapathError with the end of the
    verifier's log.
    """
    objects = shipped_objects() if objects is None else objects
    pins.mkdir(parents=True, exist_ok=True)
    digest = hashlib.blake2b(digest_size=8)
    for path in objects:
        digest.update(path.read_bytes())
    name = f"gen-{digest.hexdigest()}"
    with _opened(objects, pins, max_entries or {}) as handles:
        found = _find(pins, name, handles)
        if found is not None:
            return found
        log.info("loading generation %s", name)
        _load(handles, pins, name)
        found = _find(pins, name, handles)
        if found is None:
            raise DatapathError(f"generation {name} is gone as soon as loaded")
        return found


@contextmanager
def _opened(
    objects: Sequence[Path], pins: Path, max_entries: Mapping[str, int]
) -> Iterator[list[int]]:
    """Objects parsed, sizes and pin paths set, nothing in the kernel yet."""
    handles: list[int] = []
    unknown = set(max_entries)
    try:
        for path in objects:
            opened = libbpf.pointer(f"open {path}", "bpf_object__open_file", bytes(path), None)
            handles.append(opened)
            for item in libbpf.each("bpf_object__next_map", opened):
                name = libbpf.text("bpf_map__name", item)
                if name in max_entries:
                    unknown.discard(name)
                    size = max_entries[name]
                    libbpf.call(f"size {name}", "bpf_map__set_max_entries", item, size)
                if libbpf.text("bpf_map__pin_path", item):
                    pin = bytes(pins / name)
                    libbpf.call(f"pin path of {name}", "bpf_map__set_pin_path", item, pin)
        if unknown:
            raise DatapathError(f"no map is called {', '.join(sorted(unknown))}")
        yield handles
    finally:
        for handle in handles:
            libbpf.free("bpf_object__close", handle)


def _data_maps(handles: list[int]) -> dict[str, int]:
    """Handles of the maps that generations share."""
    return {
        libbpf.text("bpf_map__name", item): item
        for handle in handles
        for item in libbpf.each("bpf_object__next_map", handle)
        if libbpf.text("bpf_map__pin_path", item)
    }


def _programs(handles: list[int]) -> dict[str, int]:
    return {
        libbpf.text("bpf_program__name", item): item
        for handle in handles
        for item in libbpf.each("bpf_object__next_program", handle)
    }


def _find(pins: Path, generation: str, handles: list[int]) -> Datapath | None:
    """The generation if it is loaded, whole, and uses the pinned maps."""
    folder = pins / generation
    wanted = _programs(handles)
    if not folder.is_dir():
        return None
    if any(not (folder / name).exists() for name in wanted):
        log.warning("generation %s lacks programs, loading it again", generation)
        return None
    programs = {name: _pinned_program(folder / name) for name in wanted}
    maps: dict[str, Map] = {}
    used = {id for program in programs.values() for id in program.map_ids}
    lost = _repin(pins, set(_data_maps(handles)), used)
    if lost:
        log.warning("pinned %s lost, loading generation %s again", sorted(lost), generation)
        _close(programs, maps)
        return None
    for name, item in _data_maps(handles).items():
        maps[name] = Map.pinned(pins / name)
        _check_layout(maps[name], item)
    for path in folder.iterdir():
        if path.name not in programs:
            maps[path.name] = Map.pinned(path)
    found = Datapath(pins, generation, programs, maps)
    foreign = _foreign(maps, used)
    if foreign:
        log.warning("generation %s does not use pinned %s, loading it again", generation, foreign)
        found.close()
        return None
    return found


def _repin(pins: Path, names: set[str], used: set[int]) -> set[str]:
    """Pin again what somebody unlinked if a program still holds it; answers the rest."""
    missing = {name for name in names if not (pins / name).exists()}
    for id in used if missing else ():
        held = Map(libbpf.call(f"open map {id}", "bpf_map_get_fd_by_id", id))
        if held.name in missing:
            log.warning("pin of %s was missing, made again", held.name)
            libbpf.call(f"pin {held.name}", "bpf_obj_pin", held.fd, bytes(pins / held.name))
            missing.discard(held.name)
        held.close()
    return missing


def _foreign(maps: Mapping[str, Map], used: set[int]) -> list[str]:
    """Maps of ours that the programs use another copy of."""
    ours = {m.id for m in maps.values()}
    names: list[str] = []
    for id in used - ours:
        held = Map(libbpf.call(f"open map {id}", "bpf_map_get_fd_by_id", id))
        if held.name in maps:
            names.append(held.name)
        held.close()
    return names


def _check_layout(pinned: Map, item: int) -> None:
    for attribute in LAYOUT:
        want = libbpf.raw(f"bpf_map__{attribute}", item)
        have = pinned.flags if attribute == "map_flags" else getattr(pinned, attribute)
        if have != want:
            raise IncompatibleMap(
                f"pinned map {pinned.name} has {attribute} {have}, this build wants {want};"
                " migration between layouts is not supported yet: unpin it to start afresh"
            )


def _load(handles: list[int], pins: Path, generation: str) -> None:
    """Load, pin into `new-HASH`, rename to `gen-HASH`."""
    for name, item in _data_maps(handles).items():
        if (pins / name).exists():
            pinned = Map.pinned(pins / name)
            try:
                _check_layout(pinned, item)
            finally:
                pinned.close()
    for handle in handles:
        libbpf.call("load the datapath", "bpf_object__load", handle)
    new = pins / generation.replace("gen-", "new-")
    if new.exists():
        shutil.rmtree(new)
    new.mkdir()
    for name, item in _programs(handles).items():
        _pin(libbpf.raw("bpf_program__fd", item), new / name)
    for handle in handles:
        for item in libbpf.each("bpf_object__next_map", handle):
            name = libbpf.text("bpf_map__name", item)
            array = libbpf.raw("bpf_map__type", item) == PROG_ARRAY
            if array and not libbpf.text("bpf_map__pin_path", item):
                _pin(libbpf.raw("bpf_map__fd", item), new / name)
    broken = pins / generation
    if broken.exists():
        # Filters may still run it: keep it, and its tail calls, until `retire`.
        broken.rename(pins / f"old-{os.getpid()}-{broken.stat().st_ino}")
    new.rename(pins / generation)


def _pin(fd: int, path: Path) -> None:
    libbpf.call(f"pin {path}", "bpf_obj_pin", fd, bytes(path))


def _pinned_program(path: Path) -> Program:
    fd = libbpf.call(f"open pinned program {path}", "bpf_obj_get", bytes(path))
    info = libbpf.ProgramInfo()
    libbpf.info(fd, info)
    ids = (ctypes.c_uint32 * info.nr_map_ids)()
    again = libbpf.ProgramInfo(nr_map_ids=info.nr_map_ids, map_ids=ctypes.addressof(ids))
    libbpf.info(fd, again)
    # The kernel cuts names at 15 characters; the pin has the whole one.
    return Program(path.name, fd, info.id, bytes(info.tag).hex(), tuple(ids))
