"""The proxy as its caller sees it: a process that stands between clients and one API server.

    with ApiProxy.for_control_plane(control_plane, seed=7) as proxy:
        kubeconfig = proxy.kubeconfig_for(control_plane.service_account_kubeconfig("cdmo", "cdmo-agent"), "agent-1")
        ...                                           # start a client with it
        proxy.answer(503, share=0.2, clients=["agent-*"])
        proxy.cut_streams(resources=["pods"])
        proxy.clear()

Each client has a name and a port of its own. TLS ends in the proxy, so clients must prove themselves by a token.
Calls block for milliseconds; from asynchronous code run them with `asyncio.to_thread`. They may come from several
threads.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import msgspec

from cdmo_harness import pki
from cdmo_harness.api_proxy.control import Add, Answer, Clear, Command, Drop, Listen, Order, Remove, Settings, Tell
from cdmo_harness.api_proxy.faults import READS, WRITES, Fault, Kind, Scope
from cdmo_harness.api_proxy.requests import Request
from cdmo_harness.api_proxy.streams import Act, StreamOrder
from cdmo_harness.control_plane import ControlPlane, free_port
from cdmo_harness.errors import HarnessError, NotReadyInTime
from cdmo_harness.processes import ManagedProcess, ended

_LOOPBACK = "127.0.0.1"
_ANSWER_LIMIT = 10.0  # seconds for one command; a loaded machine is slow, not silent
_READY_LIMIT = 30.0  # seconds
_POLL = 0.02
ANY: Sequence[str] = ()


class ApiProxy:
    """One proxy. Stopped and started again it has the same ports and no faults."""

    def __init__(self, upstream: str, authority: bytes, folder: Path, *, seed: int, name: str = "api-proxy") -> None:
        """`upstream`: the API server's URL; `authority`: the CA that signed its certificate, PEM. `folder`: for
        the proxy's files, at most 60 bytes long; `name`: of its process and of a folder below."""
        url = urlsplit(upstream)
        if url.scheme != "https" or not url.hostname or not url.port:
            raise HarnessError(f"{upstream!r} is not the address of an API server", hint="https://127.0.0.1:PORT")
        self._folder = folder / name
        self._host, self._port = url.hostname, url.port
        self._upstream_authority = authority
        self._seed = seed
        self._name = name
        self._authority = pki.CertificateAuthority("cdmo-api-proxy-authority", now=datetime.now(UTC))
        self._ports: dict[str, int] = {}
        self._process: ManagedProcess | None = None

    @classmethod
    def for_control_plane(cls, control_plane: ControlPlane, *, seed: int, name: str = "api-proxy") -> ApiProxy:
        """A proxy in front of a started control plane, with its files in that one's folder."""
        config = json.loads(control_plane.admin_kubeconfig.read_text())
        authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
        return cls(control_plane.server, authority, control_plane.directory, seed=seed, name=name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- the process ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process; returns when it takes connections for every client that is known."""
        if self._process is not None:
            raise HarnessError("the API proxy is started already")
        settings = self._write_settings()
        self._control.unlink(missing_ok=True)
        command = [sys.executable, "-m", "cdmo_harness.api_proxy", str(settings)]
        self._process = ManagedProcess(self._name, command, folder=self._folder, environment={})
        try:
            self._wait_for_control()
            for client, port in self._ports.items():
                self._tell(Listen(client, port))
        except BaseException:
            self.stop()
            raise

    def stop(self, *, grace: float = 0.0) -> None:
        """End the process, and with it every connection through it; fine when it is stopped."""
        process, self._process = self._process, None
        if process is not None:
            process.stop(grace=grace)

    @property
    def process(self) -> ManagedProcess:
        """The process: to pause or to kill it, as a load balancer that fails."""
        if self._process is None:
            raise HarnessError("the API proxy is not started", hint="call start() first")
        return self._process

    def _write_settings(self) -> Path:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        pair = self._authority.issue_server("cdmo-api-proxy", host_names=("localhost",), addresses=(_LOOPBACK,))
        certificate, private_key = pki.write_pair(self._folder, "serving", pair)
        authority = pki.write_private(self._folder / "upstream-ca.crt", self._upstream_authority)
        settings = Settings(
            host=self._host,
            port=self._port,
            authority=str(authority),
            certificate=str(certificate),
            private_key=str(private_key),
            control=str(self._control),
            seed=self._seed,
        )
        return pki.write_private(self._folder / "settings.json", msgspec.json.encode(settings))

    @property
    def _control(self) -> Path:
        return self._folder / "control.sock"

    def _wait_for_control(self) -> None:
        limit = time.monotonic() + _READY_LIMIT
        while True:
            try:
                self._tell(Tell())
            except HarnessError as error:
                if ended([self.process], _POLL) or time.monotonic() > limit:
                    raise NotReadyInTime(f"the API proxy did not start:\n{self.process.tail(12)}") from error
            else:
                return

    # --- clients --------------------------------------------------------------------------------------------

    def address_for(self, client: str) -> str:
        """The server's URL for this client; it gets a port of its own at the first call."""
        if client not in self._ports:
            self._ports[client] = free_port()
            if self._process is not None:
                self._tell(Listen(client, self._ports[client]))
        return f"https://{_LOOPBACK}:{self._ports[client]}"

    def kubeconfig_for(self, kubeconfig: Path, client: str) -> Path:
        """A copy of a kubeconfig (one of the harness, with a token) that leads through the proxy."""
        user = json.loads(kubeconfig.read_text())["users"][0]["user"]
        if "token" not in user:
            raise HarnessError(
                f"{kubeconfig.name} has no token, and TLS ends in the API proxy",
                hint="use ControlPlane.service_account_kubeconfig",
            )
        content = pki.kubeconfig(self.address_for(client), self._authority.pair.certificate, user)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return pki.write_private(self._folder / f"{client}.kubeconfig", content)

    # --- faults that stand ----------------------------------------------------------------------------------
    #
    # Scope: clients, verbs and resources are shell patterns; none given means any. `share` is the part of the
    # requests in scope that is hit, `times` how many at most, `seconds` how long the fault stands. All return the
    # fault's number, for `remove`.

    def add(self, fault: Fault) -> int:
        """Let a fault stand that was built by hand."""
        return self._tell(Add(fault)).number

    def answer(
        self,
        code: int,
        *,
        clients: Sequence[str] = ANY,
        verbs: Sequence[str] = ANY,
        resources: Sequence[str] = ANY,
        share: float = 1.0,
        times: int | None = None,
        seconds: float | None = None,
        retry_after: int | None = None,
    ) -> int:
        """Requests are refused with this code and never reach the server. 410 is for lists and watches unless
        verbs are given; `retry_after`, in seconds, goes with 429 and 503."""
        wanted = READS if code == 410 and not verbs else verbs
        return self.add(
            Fault(
                kind=Kind.ANSWER,
                scope=_scope(clients, wanted, resources),
                share=share,
                times=times,
                seconds=seconds,
                code=code,
                retry_after=retry_after,
            )
        )

    def slow(
        self,
        delay: float | None,
        *,
        before: bool = False,
        clients: Sequence[str] = ANY,
        verbs: Sequence[str] = ANY,
        resources: Sequence[str] = ANY,
        share: float = 1.0,
        times: int | None = None,
        seconds: float | None = None,
    ) -> int:
        """Answers come up to `delay` seconds late (drawn evenly; None: at `clear`). With `before`, the request
        itself reaches the server late, also when its sender has given up meanwhile."""
        kind = Kind.LATE_REQUEST if before else Kind.SLOW_ANSWER
        scope = _scope(clients, verbs, resources)
        return self.add(Fault(kind=kind, scope=scope, share=share, times=times, seconds=seconds, delay=delay))

    def lose_answers(
        self,
        *,
        clients: Sequence[str] = ANY,
        verbs: Sequence[str] = WRITES,
        resources: Sequence[str] = ANY,
        share: float = 1.0,
        times: int | None = None,
        seconds: float | None = None,
    ) -> int:
        """The server carries a write out, and the connection breaks before its answer."""
        scope = _scope(clients, verbs, resources)
        return self.add(Fault(kind=Kind.LOSE_ANSWER, scope=scope, share=share, times=times, seconds=seconds))

    def black_hole(
        self,
        *,
        clients: Sequence[str] = ANY,
        verbs: Sequence[str] = ANY,
        resources: Sequence[str] = ANY,
        share: float = 1.0,
        times: int | None = None,
        seconds: float | None = None,
    ) -> int:
        """Requests are taken, not passed on and never answered, until the client gives up or `clear`."""
        scope = _scope(clients, verbs, resources)
        return self.add(Fault(kind=Kind.BLACK_HOLE, scope=scope, share=share, times=times, seconds=seconds))

    def swallow_connections(
        self, *, clients: Sequence[str] = ANY, share: float = 1.0, seconds: float | None = None
    ) -> int:
        """New connections are accepted, and not even TLS is answered."""
        return self.add(Fault(kind=Kind.SWALLOW, scope=_scope(clients), share=share, seconds=seconds))

    def refuse_connections(self, *, clients: Sequence[str] = ANY, seconds: float | None = None) -> int:
        """Nobody listens. Open connections live on: see `drop_connections`."""
        return self.add(Fault(kind=Kind.REFUSE, scope=_scope(clients), seconds=seconds))

    def withhold_bookmarks(
        self, *, clients: Sequence[str] = ANY, resources: Sequence[str] = ANY, seconds: float | None = None
    ) -> int:
        """Watches, also open ones, get no bookmarks."""
        scope = _scope(clients, ANY, resources)
        return self.add(Fault(kind=Kind.NO_BOOKMARKS, scope=scope, seconds=seconds))

    def cut_off(self, client: str) -> None:
        """A network that loses every packet from and to this client, without a word, until `clear`."""
        self.swallow_connections(clients=[client])
        self.black_hole(clients=[client])
        self.stall_streams(clients=[client])

    def remove(self, number: int) -> None:
        """Take one fault away; fine when it has run out."""
        self._tell(Remove(number))

    def clear(self) -> None:
        """Take all faults away. Stalled streams go on with what they missed, held requests are reset."""
        self._tell(Clear())

    # --- faults that happen now -----------------------------------------------------------------------------
    #
    # To the streams that are open now, or to a share of them. All return how many were hit.

    def cut_streams(self, *, clients: Sequence[str] = ANY, resources: Sequence[str] = ANY, share: float = 1.0) -> int:
        """They end in peace after a whole event, as when the server ends them."""
        return self._order(Act.CUT, clients, resources, share)

    def reset_streams(
        self, *, clients: Sequence[str] = ANY, resources: Sequence[str] = ANY, share: float = 1.0
    ) -> int:
        """RST."""
        return self._order(Act.RESET, clients, resources, share)

    def cut_within_event(
        self, *, clients: Sequence[str] = ANY, resources: Sequence[str] = ANY, share: float = 1.0
    ) -> int:
        """Half of their next event, then their end: in peace, by a closed connection or by RST, as is drawn."""
        return self._order(Act.HALF_EVENT, clients, resources, share)

    def expire_streams(
        self, *, clients: Sequence[str] = ANY, resources: Sequence[str] = ANY, share: float = 1.0
    ) -> int:
        """An ERROR event 410, then their end."""
        return self._order(Act.EXPIRE, clients, resources, share)

    def stall_streams(
        self,
        seconds: float | None = None,
        *,
        clients: Sequence[str] = ANY,
        resources: Sequence[str] = ANY,
        share: float = 1.0,
    ) -> int:
        """No byte comes for this long (None: until `clear`), then what was missed: an API server that lags."""
        return self._order(Act.STALL, clients, resources, share, seconds=seconds)

    def replay_events(
        self,
        events: int = 1,
        *,
        clients: Sequence[str] = ANY,
        resources: Sequence[str] = ANY,
        share: float = 1.0,
    ) -> int:
        """Their last events (100 are remembered) come once more, in their order."""
        return self._order(Act.REPLAY, clients, resources, share, events=events)

    def drop_connections(self, *, clients: Sequence[str] = ANY) -> int:
        """Every open connection is reset, idle ones too."""
        return self._tell(Drop(_scope(clients))).number

    def _order(
        self,
        act: Act,
        clients: Sequence[str],
        resources: Sequence[str],
        share: float,
        *,
        seconds: float | None = None,
        events: int = 1,
    ) -> int:
        scope = _scope(clients, ANY, resources)
        order = StreamOrder(act=act, scope=scope, share=share, seconds=seconds, events=events)
        return self._tell(Order(order)).number

    # --- looking --------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """How often each kind of fault has happened since the start."""
        return self._tell(Tell()).counts

    def held(self) -> int:
        """How many late requests the server has not carried out yet."""
        return self._tell(Tell()).held

    def streams(self, *, client: str = "") -> list[tuple[str, str]]:
        """Client and resource of every open stream, or of one client's."""
        return sorted(each for each in self._tell(Tell()).streams if client in ("", each[0]))

    def seen(
        self, *, clients: Sequence[str] = ANY, verbs: Sequence[str] = ANY, resources: Sequence[str] = ANY
    ) -> int:
        """How many such requests have come since the start, those that a fault hit included."""
        scope = _scope(clients, verbs, resources)
        return sum(
            each.count
            for each in self._tell(Tell()).seen
            if scope.holds(each.client, Request(each.verb, each.resource))
        )

    def _tell(self, command: Command) -> Answer:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_ANSWER_LIMIT)
                connection.connect(str(self._control))
                connection.sendall(msgspec.json.encode(command) + b"\n")
                with connection.makefile("rb") as stream:
                    line = stream.readline()
        except OSError as error:
            raise HarnessError(
                f"the API proxy does not answer: {error}", hint="is it started, and its process alive?"
            ) from error
        answer = msgspec.json.decode(line, type=Answer) if line else Answer(error="it closed the connection")
        if answer.error:
            raise HarnessError(f"the API proxy refused a command: {answer.error}")
        return answer


def _scope(clients: Sequence[str], verbs: Sequence[str] = ANY, resources: Sequence[str] = ANY) -> Scope:
    return Scope(tuple(clients), tuple(verbs), tuple(resources))
