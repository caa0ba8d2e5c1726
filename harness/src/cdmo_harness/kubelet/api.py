"""A small client of the Kubernetes API: what one simulated node needs, at a few megabytes a process."""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import structlog
import yaml

from cdmo.errors import BadSettings
from cdmo_harness.errors import ControlPlaneError

_log = structlog.get_logger(__name__)

STRATEGIC_MERGE = "application/strategic-merge-patch+json"
_GONE = 410  # the resource version of a watch is too old


class ApiRefused(ControlPlaneError):
    """The API server answered with a failure; `status` is the HTTP code, 0 when there was no answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed later."""
        return self.status == 0 or self.status == 429 or self.status >= 500


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`LISTED` brings all objects (`items`) and replaces what was known; the others bring one (`item`)."""

    kind: str  # LISTED | ADDED | MODIFIED | DELETED
    item: Mapping[str, Any]
    items: tuple[Mapping[str, Any], ...] = ()


class Api:
    """One HTTP client for one API server."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Api:
        """The current context of a kubeconfig file; raises BadSettings when it cannot be used."""
        try:
            document = yaml.safe_load(path.read_text())
            context = _named(document, "contexts", document["current-context"])["context"]
            cluster = _named(document, "clusters", context["cluster"])["cluster"]
            user = _named(document, "users", context["user"])["user"]
            tls = _tls(cluster, user, path.parent)
            server = cluster["server"]
        except (OSError, KeyError, TypeError, yaml.YAMLError, ssl.SSLError) as error:
            raise BadSettings(f"{path} is not a kubeconfig file this program can use: {error}") from error
        headers = {"Accept": "application/json", "User-Agent": "cdmo-harness-kubelet"}
        if "token" in user:
            headers["Authorization"] = f"Bearer {user['token']}"
        # One connection is kept busy by each watch; trust_env off: a loopback server needs no proxy.
        client = httpx2.AsyncClient(base_url=server, verify=tls, headers=headers, timeout=30.0, trust_env=False)
        return cls(client)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def get(self, path: str) -> Any:
        """Read one object or a list."""
        return await self.call("GET", path)

    async def call(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Any:
        """One request; the decoded answer. Raises ApiRefused."""
        content = None if body is None else msgspec.json.encode(body)
        try:
            answer = await self._client.request(method, path, content=content, headers={"Content-Type": content_type})
        except httpx2.HTTPError as error:
            raise ApiRefused(f"{method} {path}: {error!r}", 0) from error
        if answer.status_code >= 400:
            raise ApiRefused(f"{method} {path}: {answer.status_code} {answer.text[:300]}", answer.status_code)
        return msgspec.json.decode(answer.content)

    async def follow(self, path: str, selector: str) -> AsyncIterator[WatchEvent]:
        """List, then watch for ever. After any break it lists again, so a consumer only has to compare."""
        while True:
            try:
                listed = await self.get(f"{path}?fieldSelector={selector}")
                version = listed["metadata"]["resourceVersion"]
                yield WatchEvent("LISTED", {}, tuple(listed.get("items") or ()))
                async for event in self._watch(path, selector, version):
                    yield event
            except ApiRefused as error:
                _log.info("watch broke", path=path, error=str(error))
                await asyncio.sleep(0.3)

    async def _watch(self, path: str, selector: str, version: str) -> AsyncIterator[WatchEvent]:
        url = (
            f"{path}?watch=1&fieldSelector={selector}&resourceVersion={version}"
            "&allowWatchBookmarks=true&timeoutSeconds=600"
        )
        try:
            async with self._client.stream("GET", url, timeout=httpx2.Timeout(30.0, read=620.0)) as stream:
                if stream.status_code >= 400:
                    raise ApiRefused(f"WATCH {path}: {stream.status_code}", stream.status_code)
                async for line in stream.aiter_lines():
                    event = msgspec.json.decode(line)
                    if event["type"] == "ERROR":
                        raise ApiRefused(f"WATCH {path}: {event['object'].get('message')}", _GONE)
                    if event["type"] != "BOOKMARK":
                        yield WatchEvent(event["type"], event["object"])
        except httpx2.HTTPError as error:
            raise ApiRefused(f"WATCH {path}: {error!r}", 0) from error


def _named(document: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    for entry in document[kind]:
        if entry["name"] == name:
            found: Mapping[str, Any] = entry
            return found
    raise KeyError(f"{kind}: {name}")


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    authority = _content(cluster, "certificate-authority", folder)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    certificate, key = _content(user, "client-certificate", folder), _content(user, "client-key", folder)
    if certificate and key:
        # ssl reads a certificate chain from a file only; this one is gone again at the end of the block.
        with tempfile.NamedTemporaryFile() as both:
            both.write(certificate + b"\n" + key)
            both.flush()
            context.load_cert_chain(both.name)
    return context


def _content(section: Mapping[str, Any], key: str, folder: Path) -> bytes:
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"])
    return (folder / section[key]).read_bytes() if key in section else b""
