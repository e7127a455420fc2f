"""Running programs and reading what they punt."""

from __future__ import annotations

import asyncio
import struct

import pytest

from daemon.abi import Punt, PuntKind
from daemon.datapath.events import PuntReader
from daemon.datapath.libbpf import DatapathError
from daemon.datapath.loader import Datapath
from daemon.datapath.testrun import run_packet, run_syscall

pytestmark = pytest.mark.privileged

FRAME = bytes(range(12)) + b"\x08\x00" + bytes(50)


def test_packet_run_answers_verdict_bytes_and_mark(datapath: Datapath) -> None:
    result = run_packet(datapath.programs["t_entry"].fd, FRAME, ifindex=1, mark=5, repeat=2)
    assert (result.retval, result.data, result.mark) == (2, FRAME, 77)
    # The second run sees the mark the first one left.
    assert datapath.maps["t_hash"].lookup(struct.pack("<Q", 1)) == struct.pack("<QQ", 1, 77)


def test_syscall_program_changes_its_context(datapath: Datapath) -> None:
    answer, context = run_syscall(datapath.programs["t_syscall"].fd, struct.pack("<QQ", 21, 0))
    assert (answer, context) == (5, struct.pack("<QQ", 21, 42))


def test_frame_shorter_than_ethernet_is_refused(datapath: Datapath) -> None:
    with pytest.raises(DatapathError):
        run_packet(datapath.programs["t_entry"].fd, b"short")


def test_punted_packets_reach_the_handler_even_after_it_failed(datapath: Datapath) -> None:
    async def scenario() -> list[tuple[Punt, bytes]]:
        seen: list[tuple[Punt, bytes]] = []
        three = asyncio.Event()

        def handler(punt: Punt, frame: bytes) -> None:
            seen.append((punt, frame))
            if len(seen) == 3:
                three.set()
            raise RuntimeError("a responder's bug")

        reader = PuntReader(datapath.maps["t_ring"], handler)
        for slot in range(3):
            run_packet(datapath.programs["t_punt"].fd, FRAME, ifindex=1, mark=slot)
        await asyncio.wait_for(three.wait(), 5)
        reader.close()
        return seen

    seen = asyncio.run(scenario())
    assert [punt.slot for punt, _ in seen] == [0, 1, 2]
    assert all(punt.kind == PuntKind.RS and punt.ifindex == 1 for punt, _ in seen)
    assert all(frame == FRAME[:14] for _, frame in seen)
