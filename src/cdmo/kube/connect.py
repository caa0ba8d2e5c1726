"""The one place that opens a connection to an API server.

lightkube reads the kubeconfig or the service account and brings the credentials and the TLS context; requests
then go through aiohttp as raw JSON, for its parser is compiled: a change of a node is a dozen calls, one after the
other, and each takes half the processor time that it takes with lightkube's own transport. lightkube's typed client
is not used either: it decodes strictly, so one null in a required field would end a watch (see reflector.py).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import aiohttp
import msgspec
import structlog
from aiohttp.connector import NEEDS_CLEANUP_CLOSED
from lightkube.config.client_adapter import user_auth, verify_cluster
from lightkube.config.kubeconfig import DEFAULT_KUBECONFIG, SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.config.models import User
from yarl import URL

from cdmo.api.decoding import decoder
from cdmo.errors import BadInput, BadSettings, ClusterError
from cdmo.kube.answers import hang_up, is_success, read_whole
from cdmo.kube.credentials import Credentials
from cdmo.kube.errors import translate
from cdmo.kube.resources import Ask, Kind
from cdmo.kube.yaml_values import yaml_documents
from cdmo.runtime.hostpaths import read_text
from cdmo.version import __version__

log = structlog.get_logger(__name__)

_CONNECT_S = 5.0  # for TCP and TLS together; as long again for a free place among the connections
_SILENCE_S = 30.0  # without a byte of the answer
_CHECK_S = 20.0  # of one that somebody waits for at a terminal
_CHECK_SILENCE_S = 5.0
_CALL_S = 60.0  # for a whole call, however slowly its answer drips in
# Of a call's limit. A connection must run into its own limit before the call's: a handshake that is cancelled from
# outside leaves its socket open for as long as the peer is silent.
_CONNECT_SHARE = 0.8
_MOST_CONNECTIONS = 64
_IDLE_S = 30.0  # that a connection is kept for the next call

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


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    git_version: str | None = None


_decode_version = decoder(_Version)


@dataclass(frozen=True, slots=True)
class ConnectSettings:
    """Where the credentials come from: `kubeconfig` if given, else $KUBECONFIG, else the pod's service account,
    else ~/.kube/config."""

    kubeconfig: Path | None = None
    context: str | None = None  # of the kubeconfig; None: its current one
    service_account: Path = Path(SERVICE_ACCOUNT)


@dataclass(frozen=True, slots=True)
class _Way:
    """How an API server is reached."""

    tls: ssl.SSLContext
    credentials: Credentials
    proxy: str | None = None


class Connection:
    """Requests to one API server (and, with the same credentials, to its siblings). Close it when done."""

    def __init__(self, way: _Way, server: str, namespace: str) -> None:
        self._way = way
        self._session: aiohttp.ClientSession | None = None
        self.server = server  # base URL, without a slash at its end
        self.namespace = namespace  # this process' own, or the context's
        self._host = urlsplit(server).hostname or ""

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

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
        headers = {"Content-Type": content_type} if body is not None else {}
        try:
            url = _url(server or self.server, ask.path, params)
            return await self._whole(_METHODS[ask.verb], url, headers, body, limit_s=limit_s)
        except Exception as error:  # every library failure is turned, whatever its class
            raise translate(error, ask) from error

    async def _whole(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        limit_s: float,
        silence_s: float = _SILENCE_S,
    ) -> bytes:
        async with asyncio.timeout(limit_s):
            timeout = _timeout(min(_CONNECT_SHARE * limit_s, _CONNECT_S), silence_s)
            answer = await read_whole(await self._send(method, url, timeout, headers, body))
        answer.expect_success()
        return answer.content

    async def _send(
        self,
        method: str,
        url: URL,
        timeout: aiohttp.ClientTimeout,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> aiohttp.ClientResponse:
        """The head of an answer, its body still to be read. Credentials that are refused are renewed once."""

        async def send() -> aiohttp.ClientResponse:
            return await self._opened().request(
                method,
                url,
                data=body,
                headers={**headers, **await self._way.credentials.header()},
                timeout=timeout,
                proxy=self._way.proxy,
                # Every server behind the configured address must answer under that address' name, while its own
                # address need not be in its certificate.
                server_hostname=None if url.raw_host == self._host else self._host,
                allow_redirects=False,  # of a request with credentials, to wherever somebody says
            )

        response = await send()
        if response.status == 401:
            try:
                renewed = await self._way.credentials.renewed()
            except BaseException:
                hang_up(response)
                raise
            if renewed:
                hang_up(response)
                response = await send()
        return response

    def _opened(self) -> aiohttp.ClientSession:
        """Made when it is first needed, for it belongs to the event loop that runs then."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=self._way.tls,
                limit=_MOST_CONNECTIONS,
                keepalive_timeout=_IDLE_S,
                socket_factory=_kept_alive,
                enable_cleanup_closed=NEEDS_CLEANUP_CLOSED,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"Accept": "application/json", "User-Agent": f"cdmo/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    @asynccontextmanager
    async def stream(
        self, ask: Ask, params: Mapping[str, str], silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A streamed answer in chunks, as they come; more than `silence_s` seconds without one is a failure.
        Raises ClusterError, from the chunks as well."""
        headers = {"Accept-Encoding": "identity"}  # a compressed stream holds events back in its window
        try:
            url = _url(self.server, ask.path, params)
            response = await self._send("GET", url, _timeout(_CONNECT_S, silence_s), headers)
            if not is_success(response.status):
                (await read_whole(response)).expect_success()
        except Exception as error:
            raise translate(error, ask) from error
        try:
            yield _chunks(response, ask)
        finally:
            hang_up(response)

    async def check(self) -> str:
        """Whether the API server answers: its version. Raises ClusterError with a sentence for people."""
        ask = Ask("get", Kind("the version of the API server", "version"), f"at {self.server}")
        try:
            url = _url(self.server, "version")
            body = await self._whole("GET", url, {}, limit_s=_CHECK_S, silence_s=_CHECK_SILENCE_S)
            return _decode_version(body).git_version or ""
        except Exception as error:
            raise translate(error, ask) from error

    async def begin(self) -> None:
        """As `check`, for a process that goes on asking: an API server that gives no answer yet is no failure but a
        line in the log. Raises ClusterError where time alone will not help."""
        try:
            await self.check()
        except ClusterError as error:
            if not error.retryable:
                raise
            log.warning("the API server does not answer; it is waited for", error=str(error), hint=error.hint)


def _url(server: str, path: str, params: Mapping[str, str] | None = None) -> URL:
    """As it is to be sent: the path is quoted already, and a name of dots in it is no way up. Raises InvalidURL."""
    query = f"?{urlencode(params, quote_via=quote)}" if params else ""
    try:
        url = URL(f"{server}/{path}{query}", encoded=True)
        _ = url.port  # checked only when it is read
    except ValueError as error:
        raise aiohttp.InvalidURL(server, str(error)) from error
    return url


def _timeout(connect_s: float, silence_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=2 * connect_s, sock_connect=connect_s, sock_read=silence_s)


def _kept_alive(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    for option in _KEEPALIVE:
        made.setsockopt(*option)
    return made


async def _chunks(response: aiohttp.ClientResponse, ask: Ask) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
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
        tls = verify_cluster(config.cluster, user, config.abs_file)
        credentials = Credentials(user_auth(user), server)
    except Exception as error:  # files, base64, PEM: each library has classes of its own for them
        raise BadSettings(
            f"the credentials in {source} cannot be used: {_said(error)}",
            hint="check the certificate, key and CA it names",
        ) from error.with_traceback(None)  # its frames keep temporary files with the key alive
    return Connection(_Way(tls, credentials, _proxy(url.scheme, url.hostname)), server, config.namespace)


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
        parts = urlsplit(server)
        return parts if parts.port != 0 else None
    except ValueError:  # brackets that do not hold an IPv6 address, a port that is none
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
    """The proxy the environment wants for this host, never for loopback, as Go's clients do it. BadSettings: it is of
    a kind that cannot be used."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback or urllib.request.proxy_bypass(host):
        return None
    proxy = urllib.request.getproxies().get(scheme)
    if proxy is None:
        return None
    kind, separator, _ = proxy.partition("://")
    if not separator:  # as everybody else reads it
        return f"http://{proxy}"
    if kind.lower() not in ("http", "https"):
        raise BadSettings(  # not with the whole of it: there may be a password in it
            f"the environment wants a {kind} proxy for {host}, and CDMO only knows those of HTTP",
            hint=f"set {scheme}_proxy to an http:// proxy, or name {host} in no_proxy",
        )
    return proxy
