"""What the proxy's process is told by whoever started it: one JSON line there, one back, over a unix socket."""

from __future__ import annotations

import msgspec

from cdmo_harness.api_proxy.faults import EVERYTHING, Fault, Scope
from cdmo_harness.api_proxy.streams import StreamOrder


class Listen(msgspec.Struct, frozen=True, tag=True):
    """Take this client's connections on a port of 127.0.0.1."""

    client: str
    port: int


class Add(msgspec.Struct, frozen=True, tag=True):
    """Let a fault stand. The answer's number is the fault's."""

    fault: Fault


class Remove(msgspec.Struct, frozen=True, tag=True):
    """Take a standing fault away."""

    number: int


class Order(msgspec.Struct, frozen=True, tag=True):
    """Do something to open streams. The answer's number is how many there were in the scope."""

    order: StreamOrder


class Drop(msgspec.Struct, frozen=True, tag=True):
    """Reset every open connection of the scope's clients. The answer's number is how many there were."""

    scope: Scope = EVERYTHING


class Clear(msgspec.Struct, frozen=True, tag=True):
    """Take all faults away, let stalled streams flow and held clients go."""


class Tell(msgspec.Struct, frozen=True, tag=True):
    """Nothing but the answer."""


Command = Listen | Add | Remove | Order | Drop | Clear | Tell


class Seen(msgspec.Struct, frozen=True):
    """How often a client has asked for something."""

    client: str
    verb: str
    resource: str
    count: int


class Answer(msgspec.Struct, frozen=True):
    """What the process says to every command."""

    number: int = 0
    error: str = ""
    held: int = 0  # late requests that are not carried out yet
    counts: dict[str, int] = {}
    streams: list[tuple[str, str]] = []  # client and resource of each open one
    seen: list[Seen] = []


class Settings(msgspec.Struct, frozen=True):
    """How the process is started; paths of files."""

    host: str
    port: int
    authority: str  # of the API server
    certificate: str  # under which the proxy serves
    private_key: str
    control: str  # the unix socket
    seed: int
