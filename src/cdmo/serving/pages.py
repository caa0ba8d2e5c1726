"""What is answered to which path. Probes need no token and learn one word; everything else does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from cdmo.serving.access import Access, Verdict
from cdmo.serving.health import Check, Health, answers

METRICS = "/metrics"
_PLAIN = "text/plain; charset=utf-8"
_WORDS = {
    Verdict.UNKNOWN: "a bearer token is needed that this cluster's API server knows",
    Verdict.FORBIDDEN: "the token's owner may not get this path: a ClusterRole with nonResourceURLs grants it",
    Verdict.BUSY: "too many unknown tokens at once, try again",
    Verdict.UNDECIDED: "the API server cannot be asked about the token, try again",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as far as anybody here wants to know."""

    method: str
    path: str
    authorization: str  # the header's value, or empty


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes
    content_type: str = _PLAIN
    headers: tuple[tuple[str, str], ...] = ()


class Pages:
    """The three paths of a process."""

    def __init__(self, health: Health, registry: CollectorRegistry, access: Access) -> None:
        self._registry = registry
        self._access = access
        self._checks: Mapping[str, Mapping[str, Check]] = {"/livez": health.live, "/readyz": health.ready}
        self._content: Mapping[str, Callable[[], Answer]] = {METRICS: self._metrics}

    async def answer(self, request: Request) -> Answer:
        """The answer to one request; never fails."""
        if request.method not in ("GET", "HEAD"):
            return _said(405, "only GET is answered", ("Allow", "GET, HEAD"))
        if request.path in self._checks:
            return await self._probe(request)
        if request.path not in self._content:
            return _said(404, "there are /livez, /readyz and /metrics")
        verdict = await self._access.of(request.authorization, request.path)
        if verdict is Verdict.ALLOWED:
            return self._content[request.path]()
        challenge = (("WWW-Authenticate", "Bearer"),) if verdict is Verdict.UNKNOWN else ()
        return _said(verdict.value, _WORDS[verdict], *challenge)

    async def _probe(self, request: Request) -> Answer:
        said = answers(self._checks[request.path])
        good = not any(said.values())
        status = 200 if good else 503
        # The details name objects and say what fails: for those who may see them. A probe's answer never waits for
        # the API server, so a token is only looked at where one was sent.
        told = not good and await self._may_see(request)
        lines = [f"{name}: {sentence}" for name, sentence in said.items() if sentence] if told else []
        return _said(status, "\n".join(["ok" if good else "not ok", *lines]))

    async def _may_see(self, request: Request) -> bool:
        # Not by the probe's own path: the API server lets everybody get /livez and /readyz (its role
        # system:public-info-viewer means its own).
        return await self._access.of(request.authorization, METRICS) is Verdict.ALLOWED

    def _metrics(self) -> Answer:
        return Answer(200, generate_latest(self._registry), CONTENT_TYPE_LATEST)


def _said(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, f"{text}\n".encode(), headers=headers)
