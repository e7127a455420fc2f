"""Carrying rows over to maps of another layout or size, while both are in use.

Compiled maps are the reconciler's: their rows are copied once, so that it finds
what it knows, and it corrects them before anything runs on them. The datapath's
own maps are carried as often as needed, by a rule that gives the same result
however often and in whichever direction it is applied. So nobody has to remember
how far a carry-over came: a daemon that dies leaves nothing to tidy up, and the
next one, of either version, carries again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bpf.btf import Btf
from daemon.datapath import libbpf
from daemon.datapath.layout import Conversion, Layout, NotConvertible, layout_of
from daemon.datapath.libbpf import DatapathError
from daemon.datapath.maps import ARRAYS, LRUS, RINGBUF, Map

log = logging.getLogger(__name__)

GROWS = ""

#: How two rows of one key are made one: that whose field says the later time stays
#: whole; GROWS: of each number the larger one. A map that is not here is compiled.
STATE: Mapping[str, str] = {
    "plum_flow4": "seen",
    "plum_flow6": "seen",
    "plum_frag": "seen",
    "plum_path": "refreshed",
    "plum_punt_rate": "window",
    "plum_log_rate": "window",
    "plum_nat": "seen",
    "plum_nat_port": "seen",
    "plum_neigh": "seen",
    "plum_meter": GROWS,
    "plum_quota": GROWS,
    "plum_ep_stat": GROWS,
    "plum_rule_stat": GROWS,
    "plum_drop": GROWS,
}

#: Free entries that each CPU keeps to itself (kernel/bpf/bpf_lru_list.c): an LRU map
#: begins to evict when it is that far from full.
LRU_SPARE = 128

#: From here on reading the whole map is cheaper than looking rows up.
MANY_ROWS = 2000


class CannotCarry(DatapathError):
    """Rows of a map do not go into the map of another build. Nothing was changed."""


Layouts = tuple[Layout, Layout]  # key, value


class LayoutReader:
    """Layouts of maps in the kernel; each BTF is read once."""

    def __init__(self) -> None:
        self._btf: dict[int, Btf] = {}

    def of(self, held: Map) -> Layouts:
        btf = self._read(held.btf_id) if held.btf_id else None
        key, value = held.btf_types
        return layout_of(btf, key, held.key_size), layout_of(btf, value, held.value_size)

    def _read(self, number: int) -> Btf:
        if number not in self._btf:
            handle = libbpf.pointer(f"BTF {number}", "btf__load_from_kernel_by_id", number)
            try:
                self._btf[number] = Btf(libbpf.btf_data(handle))
            finally:
                libbpf.free("btf__free", handle)
        return self._btf[number]


class Pair:
    """A map of ours and another generation's map of the same name, which it owns."""

    def __init__(self, ours: Map, other: Map, reader: LayoutReader) -> None:
        self.ours, self.other = ours, other
        self.rule = STATE.get(ours.name)
        (key, value), (our_key, our_value) = reader.of(other), reader.of(ours)
        try:
            self._key = Conversion(key, our_key)
            self._value = Conversion(value, our_value, lenient=self.rule is None)
        except NotConvertible as error:
            raise CannotCarry(
                f"{ours.name}: {error}: its rows cannot be carried to this build; go on with"
                " the build that runs, or purge the node (`plumd --purge`) to start afresh"
            ) from error
        if self.rule and self.rule not in our_value.fields:
            raise CannotCarry(f"{ours.name} has no field {self.rule!r} to tell which row is newer")
        self._layout = our_value
        self._known: dict[bytes, bytes] = {}  # rows of the other, when last looked at
        self._forgotten: set[bytes] = set()

    def forget(self, keys: Iterable[bytes]) -> None:
        """Do not bring rows with these keys (of ours) again."""
        self._forgotten.update(keys)

    def carry(self) -> int:
        """One pass; how many rows were written."""
        rows = self.other.dump()
        changed = [pair for pair in rows.items() if self._known.get(pair[0]) != pair[1]]
        self._check_room(rows)
        offered = {self._key(key): self._value(value) for key, value in changed}
        for key in self._forgotten & offered.keys():
            del offered[key]
        held = self._held(offered)
        better = {
            key: merged
            for key, value in offered.items()
            if (merged := self._merge(held.get(key), value)) != held.get(key)
        }
        self.ours.update_many(better.items())
        self._known = rows
        return len(better)

    def _check_room(self, rows: Mapping[bytes, bytes]) -> None:
        room = self.ours.max_entries
        if self.ours.type in ARRAYS:
            needed = max((int.from_bytes(key, "little") + 1 for key in rows), default=0)
        else:
            needed = len(rows)
            if self.ours.type in LRUS:
                cpus = libbpf.call("number of CPUs", "libbpf_num_possible_cpus")
                room = max(room - LRU_SPARE * cpus, room // 2)
        if needed > room:
            raise CannotCarry(
                f"{self.ours.name}: {needed} rows in use do not go into {self.ours.max_entries}"
                " entries without loss: give it more (flow tables: --flow-entries), or go on"
                " with the build that runs"
            )

    def _held(self, offered: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        if len(offered) > MANY_ROWS:
            return self.ours.dump()
        found = ((key, self.ours.lookup(key)) for key in offered)
        return {key: value for key, value in found if value is not None}

    def _merge(self, held: bytes | None, offered: bytes) -> bytes:
        if held is None or self.rule is None:
            return offered
        if self.rule == GROWS:
            return self._larger(held, offered)
        return offered if self._time(offered) > self._time(held) else held

    def _time(self, value: bytes) -> int:
        field = self._layout.fields[self.rule or ""]
        return int.from_bytes(value[field.offset : field.offset + field.size], "little")

    def _larger(self, held: bytes, offered: bytes) -> bytes:
        merged = bytearray(held)
        for field in self._layout.fields.values():
            place = slice(field.offset, field.offset + field.size)
            if field.integer:
                numbers = (int.from_bytes(value[place], "little") for value in (held, offered))
                merged[place] = max(numbers).to_bytes(field.size, "little")
        return bytes(merged)


class Carry:
    """What is still in other generations' maps. Empty when no upgrade is under way."""

    def __init__(self, pairs: Sequence[Pair] = ()) -> None:
        self._pairs = list(pairs)

    def everything(self) -> None:
        """Copy what the other generation holds. Raises CannotCarry."""
        self._carry(self._pairs)

    def state(self, *, counters: bool = True) -> None:
        """Bring what changed meanwhile in the datapath's own maps.

        Without `counters` when this generation counts already: writing a counter
        that the kernel counts on would lose some.
        """
        self._carry(p for p in self._pairs if p.rule or (counters and p.rule == GROWS))

    def forget(self, table: str, keys: Iterable[bytes]) -> None:
        for pair in self._pairs:
            if pair.ours.name == table:
                pair.forget(keys)

    def close(self) -> None:
        """Let go of the other generation's maps."""
        for pair in self._pairs:
            pair.other.close()
        self._pairs.clear()

    def _carry(self, pairs: Iterable[Pair]) -> None:
        started = time.monotonic()
        counts = {pair.ours.name: pair.carry() for pair in pairs}
        if counts:
            counts["took_ms"] = round((time.monotonic() - started) * 1000)
            log.info("rows carried over", extra={"step": "carry", "counts": counts})


def pair_up(
    maps: Mapping[str, Map], places: Mapping[str, Sequence[Path]], *, compiled: bool
) -> Carry:
    """Our maps with their namesakes pinned at `places`; without `compiled` only state."""
    reader = LayoutReader()
    pairs: list[Pair] = []
    for name, ours in maps.items():
        if ours.type == RINGBUF or not (compiled or name in STATE):
            continue
        known = {ours.id}
        for path in places.get(name, ()):
            other = Map.pinned(path)
            if other.id in known:
                other.close()
                continue
            known.add(other.id)
            try:
                pairs.append(Pair(ours, other, reader))
            except Exception:
                other.close()
                Carry(pairs).close()
                raise
    pairs.sort(key=lambda pair: pair.rule == GROWS)  # counters as late as possible
    return Carry(pairs)
