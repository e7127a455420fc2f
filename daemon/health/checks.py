"""One check of one backend: tcp, http, https or udp."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from ipaddress import IPv6Address

from daemon.model.balancer import CheckKind, Health, StatusRange
from daemon.responders.segment import Ends, Said, Unreachable, heard, udp_frame
from daemon.responders.stream import RESEND_S, Line, Stream, StreamError

#: Of an answer's first line, in bytes (RFC 9112 leaves it open).
MAX_LINE = 8192


class CheckError(Exception):
    """Why a backend does not serve, in words for its owner."""


async def check(health: Health, line: Line, ends: Ends) -> str:
    """Empty when the backend serves, else why not."""
    stream = None if health.kind is CheckKind.UDP else Stream(line, ends)
    try:
        async with asyncio.timeout(health.timeout_s):
            if stream is None:
                await _udp(health, line, ends)
                return ""
            await stream.open()
            if health.kind is CheckKind.HTTP:
                await stream.write(_request(health, ends))
                _judge(health, await _first_line(stream))
            elif health.kind is CheckKind.HTTPS:
                _judge(health, await _over_tls(stream, _request(health, ends)))
    except TimeoutError:
        return f"no answer within {health.timeout_s:g} s"
    except (CheckError, StreamError) as error:
        return str(error)
    except ssl.SSLError as error:
        return f"TLS: {error.reason or error}"
    finally:
        if stream is not None:
            with suppress(OSError):  # the device is gone
                await stream.close()
    return ""


def _request(health: Health, ends: Ends) -> bytes:
    address = f"[{ends.address}]" if isinstance(ends.address, IPv6Address) else f"{ends.address}"
    lines = (
        f"GET {health.path} HTTP/1.1",
        f"Host: {health.host or address}",
        "User-Agent: plum-health",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


async def _first_line(stream: Stream) -> bytes:
    said = b""
    while b"\n" not in said:
        part = await stream.read()
        said += part
        if not part or len(said) > MAX_LINE:
            raise CheckError("no HTTP answer")
    return said.split(b"\n")[0]


async def _over_tls(stream: Stream, request: bytes) -> bytes:
    """The first line of the answer. Nobody vouches for a backend's certificate: it is
    asked whether it serves, not who it is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    said, asked = b"", False
    while b"\n" not in said:
        try:
            if not asked:
                tls.do_handshake()
                tls.write(request)
                asked = True
            said += tls.read(MAX_LINE)
        except ssl.SSLWantReadError:
            await stream.write(outgoing.read())
            part = await stream.read()
            if not part:
                raise CheckError("the connection ended early") from None
            incoming.write(part)
            continue
        if len(said) > MAX_LINE or not said:
            raise CheckError("no HTTP answer")
    return said.split(b"\n")[0]


def _judge(health: Health, line: bytes) -> None:
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise CheckError("no HTTP answer")
    code, want = int(words[1]), health.status
    if isinstance(want, StatusRange):
        if not want.first <= code <= want.last:
            raise CheckError(f"status {code}, not {want.first} to {want.last}")
    elif code != want:
        raise CheckError(f"status {code}, not {want}")


async def _udp(health: Health, line: Line, ends: Ends) -> None:
    """Asked again and again: a datagram may be lost."""
    question, wait_s = (health.send or "").encode("latin-1"), RESEND_S
    while True:
        await line.send(udp_frame(ends, question))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while True:
                    said = heard(ends, await line.receive())
                    if isinstance(said, Unreachable):
                        raise CheckError("port unreachable")
                    if isinstance(said, Said):
                        return
        wait_s *= 2
