"""A call through the voice template: SIP-like signalling, then RTP-like media, marked."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.drivers.netns import entered
from daemon.model.qos import DSCP
from plumctl.sandbox.layout import UPLINK
from tests.system.test_template import plumctl
from tests.system.zone import ETH_P_ALL, Guest, Zone, tenant

pytestmark = [pytest.mark.privileged, pytest.mark.timeout(60)]

TENANT = "t-sys-voice"
SIP, RTP = 5060, 20_000
PACKETS, EVERY_S = 100, 0.02  # G.711 in packets of 20 ms, for two seconds
FRAME = bytes(160)
VXLAN_PORT = 4789


@pytest.fixture
def office(plum: Zone, tmp_path: Path) -> Iterator[dict[str, Guest]]:
    plum.apply([tenant(TENANT)])
    given = ("--set", "nodes=n1,n2,n3", "--set", "phones=2", "--wait")
    plumctl(plum, tmp_path, "template", "instantiate", "voice", f"{TENANT}/office", *given)
    yield {path.partition("/")[2]: guest for path, guest in plum.guests(TENANT).items()}
    plum.drop_tenant(TENANT)


def exchange_calls(exchange: socket.socket, stop: threading.Event) -> None:
    """Registers who says so, and puts one through to the other."""
    exchange.settimeout(0.1)
    known: dict[str, tuple[str, int]] = {}
    while not stop.is_set():
        try:
            said, sender = exchange.recvfrom(2048)
        except TimeoutError:
            continue
        words = said.decode().split()
        if words[0] == "REGISTER":
            known[words[1]] = sender
            exchange.sendto(b"SIP/2.0 200 OK", sender)
        elif words[0] == "INVITE":
            exchange.sendto(said, known[words[1]])
        else:  # an answer, to whom it names
            exchange.sendto(said, known[words[-1]])


def marks(listener: socket.socket) -> list[int]:
    """Code points of the tunnels' outer headers that were captured."""
    listener.setblocking(False)
    found = []
    while True:
        try:
            frame = listener.recv(2048)
        except BlockingIOError:
            return found
        if frame[23] == socket.IPPROTO_UDP and frame[36:38] == VXLAN_PORT.to_bytes(2):
            found.append(frame[15] >> 2)


def test_a_call_is_set_up_and_heard_whole(plum: Zone, office: dict[str, Guest]) -> None:
    one, two, exchange = office["phone-1"], office["phone-2"], office["exchange"]
    node = plum.view(f"{TENANT}/office/phone-2").spec["node"]
    with entered(plum.namespace(node)):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    wire.bind((UPLINK, ETH_P_ALL))
    stop = threading.Event()
    desk = exchange.udp(SIP)
    serving = threading.Thread(target=exchange_calls, args=(desk, stop), daemon=True)
    serving.start()
    try:
        phones = [guest.udp(SIP) for guest in (one, two)]
        for name, phone in zip(("anna", "bert"), phones, strict=True):
            phone.sendto(f"REGISTER {name}".encode(), (exchange.ip(), SIP))
            assert phone.recv(2048) == b"SIP/2.0 200 OK"
        phones[0].sendto(b"INVITE bert", (exchange.ip(), SIP))
        assert phones[1].recv(2048) == b"INVITE bert"
        phones[1].sendto(b"200 OK to anna", (exchange.ip(), SIP))
        assert phones[0].recv(2048) == b"200 OK to anna"
        media = [guest.udp(RTP) for guest in (one, two)]
        media[1].setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        marks(wire)
        for number in range(PACKETS):
            media[0].sendto(struct.pack("!I", number) + FRAME, (two.ip(), RTP))
            time.sleep(EVERY_S)
        heard = []
        for _ in range(PACKETS):
            data, ancillary, _, _ = media[1].recvmsg(2048, 64)
            heard.append((struct.unpack("!I", data[:4])[0], ancillary[0][2][0] >> 2))
        assert heard == [(number, DSCP["ef"]) for number in range(PACKETS)]
        seen = marks(wire)
        assert seen.count(DSCP["ef"]) >= PACKETS  # on the way to bert, between the nodes
        # Whoever wants more than a telephone needs gets no more.
        for _ in range(400):
            media[0].sendto(bytes(1000), (two.ip(), RTP))
        assert plum.dropped("LIMIT", f"{TENANT}/office/phone-1") > 300
    finally:
        stop.set()
        serving.join()
        for opened in (wire, desk):
            opened.close()


def test_nobody_else_calls_a_telephone(plum: Zone, office: dict[str, Guest]) -> None:
    one, two = office["phone-1"], office["phone-2"]
    with plum.drops("POLICY_INGRESS", f"{TENANT}/office/phone-2"):
        one.udp(SIP).sendto(b"INVITE", (two.ip(), SIP))
