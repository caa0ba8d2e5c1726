"""The one place that opens a connection to an API server.

lightkube reads the kubeconfig or the service account and brings the credentials and the TLS context; requests
then go through its transport (httpx2) as raw JSON. Its typed client is not used: it decodes strictly, so one
null in a required field would end a watch (see reflector.py).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import httpx2
import structlog
from lightkube.config.client_adapter import user_auth, verify_cluster
from lightkube.config.kubeconfig import DEFAULT_KUBECONFIG, SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.config.models import User

from cdmo.errors import BadInput, BadSettings, ClusterError
from cdmo.kube.answers import read_whole
from cdmo.kube.errors import translate
from cdmo.kube.resources import Ask, Kind
from cdmo.kube.yaml_values import yaml_documents
from cdmo.runtime.hostpaths import read_text
from cdmo.version import __version__

log = structlog.get_logger(__name__)

_PLAIN = httpx2.Timeout(connect=5.0, read=30.0, write=30.0, pool=5.0)  # seconds
_CHECK_S = 20.0
_CALL_S = 60.0  # for a whole call, however slowly its answer drips in
# Of a call's limit, for the TCP connection and once more for TLS. Both must run into their own limit before the
# call's: a handshake that is cancelled from outside leaves its socket open for as long as the peer is silent.
_CONNECT_SHARE = 0.4
_LIMITS = httpx2.Limits(max_connections=64, max_keepalive_connections=8, keepalive_expiry=30.0)

# A peer that vanished without a word is noticed after 15 + 3 * 5 seconds, as Go's own clients do; a watch that
# waits quietly would otherwise learn of it only from its read timeout, minutes later.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
_METHODS = {"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}


@dataclass(frozen=True, slots=True)
class ConnectSettings:
    """Where the credentials come from: `kubeconfig` if given, else $KUBECONFIG, else the pod's service account,
    else ~/.kube/config."""

    kubeconfig: Path | None = None
    context: str | None = None  # of the kubeconfig; None: its current one
    service_account: Path = Path(SERVICE_ACCOUNT)


class Connection:
    """Requests to one API server (and, with the same credentials, to its siblings). Close it when done."""

    def __init__(self, http: httpx2.AsyncClient, server: str, namespace: str) -> None:
        self._http = http
        self.server = server  # base URL, without a slash at its end
        self.namespace = namespace  # this process' own, or the context's
        self._host = urlsplit(server).hostname or ""

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def call(
        self,
        ask: Ask,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        server: str = "",
        limit_s: float = _CALL_S,
    ) -> bytes:
        """One request, its answer's body. `server` names another API server than the configured one; `limit_s`
        is for the whole of it, in seconds. Raises ClusterError."""
        # Every server behind the configured address must answer under that address' name, while its own address
        # need not be in its certificate.
        extensions = {"sni_hostname": self._host} if server and server != self.server else {}
        request = self._http.build_request(
            _METHODS[ask.verb],
            f"{server or self.server}/{ask.path}",
            params=dict(params or {}),
            content=body,
            headers={"Content-Type": content_type} if body is not None else {},
            timeout=_limits_within(limit_s),
            extensions=extensions,
        )
        try:
            async with asyncio.timeout(limit_s):
                response = await read_whole(await self._http.send(request, stream=True))
            response.raise_for_status()
        except Exception as error:  # every library failure is turned, whatever its class
            raise translate(error, ask) from error
        return response.content

    @asynccontextmanager
    async def stream(
        self, ask: Ask, params: Mapping[str, str], silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A streamed answer in chunks, as they come; more than `silence_s` seconds without one is a failure.
        Raises ClusterError, from the chunks as well."""
        request = self._http.build_request(
            "GET",
            f"{self.server}/{ask.path}",
            params=dict(params),
            headers={"Accept-Encoding": "identity"},  # a compressed stream holds events back in its window
            timeout=httpx2.Timeout(_PLAIN.connect, read=silence_s),
        )
        try:
            response = await self._http.send(request, stream=True)
        except Exception as error:
            raise translate(error, ask) from error
        try:
            await _expect_success(response, ask)
            yield _chunks(response, ask)
        finally:
            await response.aclose()

    async def check(self) -> str:
        """Whether the API server answers: its version. Raises ClusterError with a sentence for people."""
        ask = Ask("get", Kind("the version of the API server", "version"), f"at {self.server}")
        try:
            request = self._http.build_request("GET", f"{self.server}/version", timeout=httpx2.Timeout(5.0))
            async with asyncio.timeout(_CHECK_S):
                response = await read_whole(await self._http.send(request, stream=True))
            response.raise_for_status()
            version = response.json()
        except Exception as error:
            raise translate(error, ask) from error
        return str(version.get("gitVersion", "")) if isinstance(version, dict) else ""

    async def begin(self) -> None:
        """As `check`, for a process that goes on asking: an API server that gives no answer yet is no failure but a
        line in the log. Raises ClusterError where time alone will not help."""
        try:
            await self.check()
        except ClusterError as error:
            if not error.retryable:
                raise
            log.warning("the API server does not answer; it is waited for", error=str(error), hint=error.hint)


def _limits_within(limit_s: float) -> httpx2.Timeout:
    least = min(_CONNECT_SHARE * limit_s, _PLAIN.connect or limit_s)
    return httpx2.Timeout(connect=least, read=_PLAIN.read, write=_PLAIN.write, pool=_PLAIN.pool)


async def _expect_success(response: httpx2.Response, ask: Ask) -> None:
    try:
        (await read_whole(response) if response.is_error else response).raise_for_status()
    except Exception as error:
        raise translate(error, ask) from error


async def _chunks(response: httpx2.Response, ask: Ask) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_raw():
            yield chunk
    except Exception as error:
        raise translate(error, ask) from error


def connect(settings: ConnectSettings, environment: Mapping[str, str]) -> Connection:
    """Open a connection; nothing is sent yet. Raises BadSettings when there are no usable credentials."""
    source, config = _configuration(settings, environment)
    server = config.cluster.server.rstrip("/")
    url = _parts(server)
    if url is None or url.scheme not in ("http", "https") or not url.hostname:
        raise BadSettings(
            f"the server {server!r} in {source} is not a URL",
            hint="it must look like https://kubernetes.example:6443",
        )
    user = config.user if config.user is not None else User()
    config = config._replace(user=user)
    try:
        transport = httpx2.AsyncHTTPTransport(
            verify=verify_cluster(config.cluster, user, config.abs_file),
            limits=_LIMITS,
            proxy=_proxy(url.scheme, url.hostname),
            socket_options=_KEEPALIVE,
        )
        auth = user_auth(user)
    except Exception as error:  # files, base64, PEM, proxies: each library has classes of its own for them
        raise BadSettings(
            f"the credentials in {source} cannot be used: {_said(error)}",
            hint="check the certificate, key and CA it names",
        ) from error.with_traceback(None)  # its frames keep temporary files with the key alive
    headers = {"Accept": "application/json", "User-Agent": f"cdmo/{__version__}"}
    http = httpx2.AsyncClient(transport=transport, auth=auth, timeout=_PLAIN, headers=headers, trust_env=False)
    return Connection(http, server, config.namespace)


def _configuration(settings: ConnectSettings, environment: Mapping[str, str]) -> tuple[str, SingleConfig]:
    """What to connect with and, in words, where that was found."""
    named = str(settings.kubeconfig) if settings.kubeconfig else environment.get("KUBECONFIG", "")
    if not settings.kubeconfig and os.pathsep in named:
        raise BadSettings("KUBECONFIG names several files", hint="give the one to use with --kubeconfig")
    in_cluster = not named and (settings.service_account / "token").exists()
    source = "the pod's service account" if in_cluster else f"the kubeconfig {named or DEFAULT_KUBECONFIG}"
    try:
        if in_cluster:
            found = KubeConfig.from_service_account(settings.service_account).get()
        else:
            found = _from_file(named or DEFAULT_KUBECONFIG).get(settings.context)
    except Exception as error:  # missing keys, wrong types, broken YAML: lightkube lets them all through
        raise BadSettings(f"{source} cannot be used: {_said(error)}", hint=_HINT) from error
    if found is None:
        raise BadSettings(f"{source} has no current context", hint=_HINT)
    return source, found


def _parts(server: str) -> SplitResult | None:
    try:
        return urlsplit(server)
    except ValueError:  # brackets that do not hold an IPv6 address
        return None


def _from_file(named: str) -> KubeConfig:
    """A kubeconfig through the bounded reader of YAML: nesting, aliases and size have limits there."""
    path = Path(named).expanduser()
    documents = list(islice(yaml_documents(read_text(path).encode()), 2))
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise BadInput("it must be one mapping")
    return KubeConfig.from_dict(documents[0].value, fname=path)


_HINT = "give a kubeconfig with --kubeconfig or KUBECONFIG, or run in a pod with a service account"


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{text!r} is missing" if isinstance(error, KeyError) else (text or type(error).__name__)


def _proxy(scheme: str, host: str) -> str | None:
    """The proxy the environment wants for this host. Never for loopback, as Go's clients do it."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(scheme)
