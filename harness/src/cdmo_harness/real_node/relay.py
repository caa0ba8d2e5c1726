"""The API server's port inside a real node: `python -m cdmo_harness.real_node.relay NETWORK PORT READY`.

The control plane listens on 127.0.0.1 alone. This process listens on the same port inside the node's network
namespace NETWORK, which has no link to the outside, and carries every connection over, so that addresses,
certificates and kubeconfigs are the same on both sides. It listens on every address there: pods come by that of their
bridge.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from cdmo_harness.control_plane_arguments import LOOPBACK
from cdmo_harness.namespaces import NEW_NETWORK, enter

_CHUNK = 1 << 16
_WAITING = 64  # connections that may wait to be accepted


def main(arguments: list[str]) -> int:
    """Entry point; serves until it is killed."""
    network, port, ready = Path(arguments[0]), int(arguments[1]), Path(arguments[2])
    try:
        listener = _listen(network, port)
    except OSError as error:
        sys.stderr.write(f"error: no port {port} inside {network}: {error}\n")
        return 1
    with listener:
        asyncio.run(_serve(listener, port, ready))
    return 0


def _listen(network: Path, port: int) -> socket.socket:
    """A socket keeps the namespace that it was made in, wherever its process goes on."""
    outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(network, NEW_NETWORK)
        listener = socket.create_server(("", port), backlog=_WAITING)
        enter(Path(f"/proc/self/fd/{outside}"), NEW_NETWORK)
    finally:
        os.close(outside)
    return listener


async def _serve(listener: socket.socket, port: int, ready: Path) -> None:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(LOOPBACK, port)
        except OSError:  # the API server is away: the client sees its connection end
            writer.close()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, back))
            group.create_task(_copy(there, writer))

    server = await asyncio.start_server(carry, sock=listener)
    ready.touch()
    async with server:
        await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either side ends; then the other side hears of it too."""
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
