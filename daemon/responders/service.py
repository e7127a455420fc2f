"""The responders at work: punted requests in, answers out of the endpoint's device."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping

from daemon.responders import dhcp4, dhcp6, ra
from daemon.responders.facts import Facts

log = logging.getLogger(__name__)

#: Sends a frame out of a device: (ifindex, frame from its Ethernet header).
Send = Callable[[int, bytes], None]

_KINDS = {1: "dhcp4", 2: "dhcp6", 3: "ra"}  # enum punt_kind of bpf/lib/abi.h


class Responder:
    """Answers for the endpoints it was last told of. One thread calls everything but `serve`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._facts: Mapping[int, Facts] = {}

    def serve(self, facts: Mapping[int, Facts]) -> None:
        """Facts by slot, replacing all before; called from any thread."""
        self._facts = facts

    def request(self, kind: int, slot: int, ifindex: int, frame: bytes) -> None:
        """One record of plum_punt. A frame of a device that is gone is not answered."""
        facts = self._facts.get(slot)
        if facts is None or facts.ifindex != ifindex:
            return
        answers = answers_to(_KINDS.get(kind, ""), frame, facts)
        for answer in answers:
            self._transmit(facts, answer)
        if answers:
            log.debug("answered", extra={"object": facts.name, "step": _KINDS[kind]})

    def advertise(self) -> None:
        """Unsolicited router advertisements to every endpoint of a bridge with IPv6."""
        for facts in tuple(self._facts.values()):
            for frame in ra.unsolicited(facts):
                self._transmit(facts, frame)

    def _transmit(self, facts: Facts, frame: bytes) -> None:
        try:
            self._send(facts.ifindex, frame)
        except OSError as error:  # the device went away or is down: the guest asks again
            log.info(
                "answer not sent", extra={"object": facts.name, "step": "send", "error": str(error)}
            )


def answers_to(kind: str, frame: bytes, facts: Facts) -> list[bytes]:
    """What to send back for a punted frame. Pure."""
    match kind:
        case "dhcp4":
            answer = dhcp4.answer(frame, facts)
        case "dhcp6":
            answer = dhcp6.answer(frame, facts)
        case "ra":
            return ra.answer(frame, facts)
        case _:
            return []
    return [answer] if answer is not None else []


class PacketSocket:
    """AF_PACKET socket that only sends (protocol 0 receives nothing, packet(7))."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)

    def send(self, ifindex: int, frame: bytes) -> None:
        self._socket.sendto(frame, (socket.if_indextoname(ifindex), 0))

    def close(self) -> None:
        self._socket.close()
