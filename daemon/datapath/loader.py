"""Loading the datapath and finding it again.

    PINS/plum_ep, plum_host, ...       data maps, shared by generations
    PINS/gen-HASH/plum_from_ep, ...    one generation's programs, and its
                                       tail-call array (which the kernel empties
                                       when its last user reference goes)
    PINS/gen-HASH/plum_flow4, ...      data maps whose layout or size is not that
                                       of the shared one; only during an upgrade

HASH covers the object files, so the same build finds itself after a restart and
another one loads beside it. The order of an upgrade: `load`, which also copies
rows; write the compiled rows; `carry.state`; replace the filters; `carry.state`
again; `retire`, which makes this generation's maps the shared ones. A generation is
pinned under `new-HASH` and renamed when complete, so a `gen-` directory always is.
Whatever is pinned when a daemon dies, the next one, of this build or of the
other, goes on from there: both generations stay whole until `retire`.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.resources
import logging
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bpf.btf import Btf
from daemon.datapath import libbpf
from daemon.datapath.carry import Carry, LayoutReader, Layouts, pair_up
from daemon.datapath.layout import layout_of
from daemon.datapath.libbpf import DatapathError
from daemon.datapath.maps import PROG_ARRAY, Map

log = logging.getLogger(__name__)

#: Attributes in which a pinned map must agree with the object's to be shared, beside
#: the fields of keys and values.
SHAPE = ("type", "key_size", "value_size", "max_entries", "map_flags")


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
    """One generation, loaded: what to attach and which maps to write.

    `older`: ids of other generations' programs, that may still be attached.
    """

    pins: Path
    generation: str
    programs: Mapping[str, Program]
    maps: Mapping[str, Map]
    carry: Carry
    older: frozenset[int] = frozenset()

    def retire(self) -> list[str]:
        """Remove every other generation; call it when no filter uses them."""
        self.carry.close()
        data = [name for name, held in self.maps.items() if held.type != PROG_ARRAY]
        for name in data:
            own = self.pins / self.generation / name
            if own.exists():
                own.rename(self.pins / name)
        for path in self.pins.iterdir():
            if not path.is_dir() and path.name not in data:
                path.unlink()
        old = [path for path in _folders(self.pins) if path.name != self.generation]
        for path in old:
            shutil.rmtree(path)
        return [path.name for path in old]

    def close(self) -> None:
        """Close descriptors. Pins stay: the kernel goes on forwarding."""
        self.carry.close()
        _close(self.programs, self.maps)


def _folders(pins: Path, *kinds: str) -> list[Path]:
    kinds = kinds or ("gen-", "new-", "old-")
    return [p for p in pins.iterdir() if p.is_dir() and p.name.startswith(kinds)]


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

    `max_entries` overrides the size of maps by name. Raises CannotCarry when rows of
    the generation that runs do not go into this one's maps, and DatapathError with the
    end of the verifier's log; then everything is as it was.
    """
    objects = shipped_objects() if objects is None else objects
    pins.mkdir(parents=True, exist_ok=True)
    digest = hashlib.blake2b(digest_size=8)
    for path in objects:
        digest.update(path.read_bytes())
    name = f"gen-{digest.hexdigest()}"
    with _opened(objects, pins, max_entries or {}) as handles:
        data = _data_maps(handles)
        found = _find(pins, name, handles, data)
        if found is not None:
            return found
        log.info("loading generation %s", name)
        _load(handles, data, pins, name)
        found = _find(pins, name, handles, data)
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


def _find(
    pins: Path, generation: str, handles: list[int], data: Mapping[str, int]
) -> Datapath | None:
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
    lost = _repin(pins, {name for name in data if not (folder / name).exists()}, used)
    if lost:
        log.warning("pinned %s lost, loading generation %s again", sorted(lost), generation)
        _close(programs, maps)
        return None
    for name in data:
        own = folder / name
        maps[name] = Map.pinned(own if own.exists() else pins / name)
    resized = [name for name, item in data.items() if not _same_shape(maps[name], item)]
    for path in folder.iterdir():
        if path.name not in programs and path.name not in maps:
            maps[path.name] = Map.pinned(path)
    unusable = resized or _foreign(maps, used)
    if unusable:
        log.warning("generation %s does not use pinned %s, loading it again", generation, unusable)
        _close(programs, maps)
        return None
    carry = pair_up(maps, _places(pins, data), compiled=False)
    return Datapath(pins, generation, programs, maps, carry, _older(pins, generation, wanted))


def _places(pins: Path, names: Iterable[str]) -> dict[str, list[Path]]:
    """Where maps of these names are pinned: shared, and by generations."""
    folders = [pins, *_folders(pins, "gen-", "old-")]
    return {name: [f / name for f in folders if (f / name).exists()] for name in names}


def _older(pins: Path, generation: str, names: Iterable[str]) -> frozenset[int]:
    """Ids of the programs of other generations."""
    folders = [f for f in _folders(pins, "gen-", "old-") if f.name != generation]
    paths = [folder / name for folder in folders for name in names]
    programs = [_pinned_program(path) for path in paths if path.exists()]
    for program in programs:
        os.close(program.fd)
    return frozenset(program.id for program in programs)


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


def _same_shape(pinned: Map, item: int) -> bool:
    have = (pinned.type, pinned.key_size, pinned.value_size, pinned.max_entries, pinned.flags)
    return have == tuple(libbpf.raw(f"bpf_map__{attribute}", item) for attribute in SHAPE)


def _layouts(handle: int) -> dict[str, Layouts]:
    """Layouts of an object's maps, by name."""
    btf = Btf(libbpf.btf_data(libbpf.pointer("BTF of the object", "bpf_object__btf", handle)))
    found: dict[str, Layouts] = {}
    for item in libbpf.each("bpf_object__next_map", handle):
        key, value = (
            layout_of(
                btf,
                libbpf.raw(f"bpf_map__btf_{part}_type_id", item),
                libbpf.raw(f"bpf_map__{part}_size", item),
            )
            for part in ("key", "value")
        )
        found[libbpf.text("bpf_map__name", item)] = key, value
    return found


def _share(handles: list[int], data: Mapping[str, int], pins: Path) -> list[str]:
    """Let objects share the pinned maps that are as theirs; answers those they make anew."""
    reader = LayoutReader()
    layouts = {name: pair for handle in handles for name, pair in _layouts(handle).items()}
    own: list[str] = []
    for name, item in data.items():
        if not (pins / name).exists():
            continue
        pinned = Map.pinned(pins / name)
        same = _same_shape(pinned, item) and all(
            (old.size, old.fields) == (new.size, new.fields)
            for old, new in zip(reader.of(pinned), layouts[name], strict=True)
        )
        pinned.close()
        if not same:
            libbpf.call(f"unpin {name}", "bpf_map__set_pin_path", item, None)
            own.append(name)
    return own


def _load(handles: list[int], data: Mapping[str, int], pins: Path, generation: str) -> None:
    """Load, carry rows over, pin into `new-HASH`, rename to `gen-HASH`."""
    own = _share(handles, data, pins)
    for handle in handles:
        libbpf.call("load the datapath", "bpf_object__load", handle)
    new = pins / generation.replace("gen-", "new-")
    if new.exists():
        shutil.rmtree(new)
    new.mkdir()
    try:
        _fill(new, handles, own)
        _copy(pins, new, data)
    except Exception:
        shutil.rmtree(new)
        raise
    broken = pins / generation
    if broken.exists():
        # Filters may still run it: keep it, and its tail calls, until `retire`.
        broken.rename(pins / f"old-{os.getpid()}-{broken.stat().st_ino}")
    new.rename(pins / generation)


def _fill(new: Path, handles: list[int], own: Collection[str]) -> None:
    for name, item in _programs(handles).items():
        _pin(libbpf.raw("bpf_program__fd", item), new / name)
    for handle in handles:
        for item in libbpf.each("bpf_object__next_map", handle):
            name = libbpf.text("bpf_map__name", item)
            array = libbpf.raw("bpf_map__type", item) == PROG_ARRAY
            if name in own or (array and not libbpf.text("bpf_map__pin_path", item)):
                _pin(libbpf.raw("bpf_map__fd", item), new / name)


def _copy(pins: Path, new: Path, data: Iterable[str]) -> None:
    """Rows into the maps of the generation pinned at `new`, while the old one goes on."""
    names = list(data)
    places = {name: new / name if (new / name).exists() else pins / name for name in names}
    maps = {name: Map.pinned(path) for name, path in places.items()}
    carry = pair_up(maps, _places(pins, names), compiled=True)
    try:
        carry.everything()
    finally:
        carry.close()
        _close({}, maps)


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
