"""Ways in which an API server, or what lies between, goes wrong. Each handles one request (see api_server.py)."""

from __future__ import annotations

from tests.fakes.api_server import Exchange, Fault
from tests.fakes.api_store import Refused, line


def answer(code: int, reason: str = "", message: str = "", retry_after: int | None = None) -> Fault:
    """Refuse with a status."""

    async def fault(exchange: Exchange) -> None:
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        await exchange.refuse(Refused(code, reason, message or f"scripted {code}"), headers)

    return fault


def body(content: bytes, code: int = 200) -> Fault:
    """Answer with these bytes."""

    async def fault(exchange: Exchange) -> None:
        await exchange.reply(code, content)

    return fault


async def reset(exchange: Exchange) -> None:
    """Cut the connection without an answer."""
    exchange.reset()


async def carry_out_and_reset(exchange: Exchange) -> None:
    """Do what was asked for; the connection breaks before the answer."""
    exchange.server.carry_out(exchange.request)
    exchange.reset()


async def hang(exchange: Exchange) -> None:
    """Take the request and never answer."""
    await exchange.hang()


async def silent_stream(exchange: Exchange) -> None:
    """Begin a stream and never say anything."""
    await exchange.send(b"")
    await exchange.hang()


async def end_at_once(exchange: Exchange) -> None:
    """A watch that ends properly before anything happened."""
    await exchange.end()


async def end_after_an_event(exchange: Exchange) -> None:
    """A watch that ends properly after one event."""
    await exchange.send(b"")
    await exchange.send(await exchange.next_event())
    await exchange.end()


async def reset_within_an_event(exchange: Exchange) -> None:
    """Half an event, then the connection is cut."""
    await exchange.send(b"")
    event = await exchange.next_event()
    await exchange.send(event[: len(event) // 2])
    exchange.reset()


async def end_within_an_event(exchange: Exchange) -> None:
    """Half an event, then a proper end: a truncated line."""
    await exchange.send(b"")
    event = await exchange.next_event()
    await exchange.send(event[: len(event) // 2])
    await exchange.end()


async def event_in_small_pieces(exchange: Exchange) -> None:
    """Every event byte by byte, as a bad network may deliver it."""
    await exchange.send(b"")
    while True:
        for byte in await exchange.next_event():
            await exchange.send(bytes([byte]))


def stream(*lines: bytes) -> Fault:
    """A watch that says these lines and ends."""

    async def fault(exchange: Exchange) -> None:
        for one in lines:
            await exchange.send(one)
        await exchange.end()

    return fault


def stream_then_serve(*lines: bytes) -> Fault:
    """A watch that says these lines first and is a good one afterwards."""

    async def fault(exchange: Exchange) -> None:
        for one in lines:
            await exchange.send(one)
        await exchange.serve_watch()

    return fault


def error_in_stream(code: int, reason: str) -> Fault:
    """Success, and then a failure inside the stream."""
    return stream(line("ERROR", Refused(code, reason, f"scripted {code}").body))


GARBAGE = b'\x00\x01{"type": nonsense}\n'
