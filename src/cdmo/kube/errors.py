"""What the API server, its connection or its content did, in the words of `cdmo.errors`.

Every library failure is turned here and nowhere else: `translate(error, ask)` gives the failure to raise
`from error`. The sentence names the request and the object, the hint says what to do.
"""

from __future__ import annotations

import os
import ssl

import aiohttp
import msgspec
from lightkube.core.exceptions import ConfigError

from cdmo.api.decoding import decoder
from cdmo.errors import (
    AlreadyExists,
    ClusterError,
    ClusterUnavailable,
    Conflict,
    Denied,
    Expired,
    Invalid,
    NotFound,
)
from cdmo.kube.answers import Refused
from cdmo.kube.resources import Ask

_SAID_LIMIT = 600  # characters of somebody else's text that a sentence of ours carries
_RETRY_AFTER_LIMIT = 60.0  # seconds; a proxy may ask for absurd ones


class Cause(msgspec.Struct, frozen=True):
    """One field the API server complains about."""

    field: str | None = None
    message: str | None = None


class Details(msgspec.Struct, frozen=True):
    """The object a Status is about."""

    name: str | None = None
    kind: str | None = None
    causes: list[Cause] | None = None


class Status(msgspec.Struct, frozen=True):
    """The API server's own words for a failure (metav1.Status), only what is used and lenient."""

    message: str | None = None
    reason: str | None = None
    code: int | None = None
    details: Details | None = None


_decode = decoder(Status)

# Codes with a meaning of their own. 409 also stands for AlreadyExists: told apart by the Status' reason.
_BY_CODE: dict[int, type[ClusterError]] = {
    400: Invalid,
    401: Denied,
    403: Denied,
    404: NotFound,
    408: ClusterUnavailable,
    409: Conflict,
    410: Expired,
    412: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: ClusterUnavailable,
}


def failure_of_code(code: int, reason: str = "") -> type[ClusterError]:
    """The failure that an HTTP status (and a Status' reason) stands for. Every 5xx is worth another try."""
    if reason == "AlreadyExists":
        return AlreadyExists
    if code >= 500:
        return ClusterUnavailable
    return _BY_CODE.get(code, ClusterError)


def failure_of_status(status: Status, code: int, ask: Ask) -> ClusterError:
    """The failure for a refusal, from the API server's own words."""
    reason = status.reason or ""
    failure = failure_of_code(code, reason)
    said = _clip(status.message or reason or f"HTTP {code}")
    return failure(f"could not {ask}: {said}", hint=_hint(failure, code, ask))


def translate(error: Exception, ask: Ask) -> ClusterError:
    """The failure to raise `from error`, whatever library raised it."""
    if isinstance(error, ClusterError):
        return error
    if isinstance(error, Refused):
        return failure_of_status(status_of(error.answer.content), error.answer.status, ask)
    if isinstance(error, msgspec.ValidationError):
        return Invalid(
            f"could not {ask}: what the API server holds is not what CDMO expects: {_clip(str(error))}",
            hint=f"compare the object with the {ask.kind.kind} of this CDMO version; is the CRD of another version?",
        )
    if isinstance(error, msgspec.MsgspecError):
        return ClusterUnavailable(f"could not {ask}: the answer is not JSON: {_clip(str(error))}", hint=_PROXY_HINT)
    if isinstance(error, ConfigError):
        return Denied(f"could not {ask}: {_clip(str(error))}", hint="check the credentials this process was given")
    return _of_connection(error, ask)


def status_of(body: bytes) -> Status:
    """The Status in a response's body; of a body that is none, its first characters as the message."""
    try:
        return _decode(body)
    except msgspec.MsgspecError:
        return Status(message=_clip(body[: 4 * _SAID_LIMIT].decode("utf-8", "replace").strip()))


def retry_after_s(error: BaseException) -> float:
    """Seconds the server asked to be left alone for (Retry-After), 0 when it did not."""
    cause = error.__cause__
    if not isinstance(cause, Refused):
        return 0.0
    try:
        asked = float(cause.answer.retry_after or "0")
    except ValueError:  # the other legal form, a date, is never sent by an API server
        return 0.0
    return min(max(asked, 0.0), _RETRY_AFTER_LIMIT) if asked == asked else 0.0


_PROXY_HINT = "a proxy or load balancer may stand between; the request is tried again"
_SERVER_HINT = "is the API server up, and reachable from here? The request is tried again"


def _of_connection(error: Exception, ask: Ask) -> ClusterError:
    said = _clip(_words_of(error)) or f"the connection broke ({type(error).__name__})"
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return ClusterError(f"could not {ask}: {said}", hint="the server's URL must start with https:// or http://")
    if isinstance(error, TimeoutError):
        return ClusterUnavailable(f"could not {ask}: no answer in time ({type(error).__name__})", hint=_SERVER_HINT)
    if _is_certificate_trouble(error):
        return ClusterUnavailable(
            f"could not {ask}: the API server's certificate is not trusted: {said}",
            hint="the CA in the kubeconfig or service account must be the one that signed it",
        )
    if isinstance(error, (aiohttp.ClientError, OSError)):
        return ClusterUnavailable(f"could not {ask}: {said}", hint=_SERVER_HINT)
    return ClusterError(f"could not {ask}: {said}", hint="this is a defect of CDMO; please report it")


def _words_of(error: Exception) -> str:
    """What happened. aiohttp's own words for a connection that failed end with the address of an object in memory."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection to {error.host}:{error.port}: {_reason_of(error.os_error)}"
    return str(error)


def _reason_of(error: OSError) -> str:
    """The system's words for its own numbers; TLS and name resolution have other ones."""
    own = error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError)
    return os.strerror(error.errno or 0) if own else str(error)


def _is_certificate_trouble(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _hint(failure: type[ClusterError], code: int, ask: Ask) -> str:
    resource = f"{ask.kind.plural}/{ask.subresource}" if ask.subresource else ask.kind.plural
    if code == 401:
        return "the token or client certificate is missing, expired or of another cluster"
    if failure is Denied:
        return f"see `kubectl auth can-i {ask.verb} {resource}` for this identity, and the policies that apply to it"
    if failure is NotFound and ask.kind.group.endswith("clear.ml"):
        return f"if no {ask.kind.kind} is known at all, install CDMO's CRD"
    if failure is Conflict:
        return "somebody else wrote it first: read it again, then write"
    if failure is Expired:
        return "the resource version is too old: list again"
    if failure is ClusterUnavailable:
        return _SERVER_HINT
    return ""


def _clip(text: str) -> str:
    return text if len(text) <= _SAID_LIMIT else text[: _SAID_LIMIT - 1] + "…"
