"""Whatever a library raises becomes a failure of ours that names the request and says what to do."""

from __future__ import annotations

import errno
import inspect
import json
import socket
import ssl

import aiohttp
import msgspec
import pytest
from aiohttp.client_reqrep import ConnectionKey
from lightkube.core.exceptions import ConfigError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

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
from cdmo.kube.answers import Answer, Refused
from cdmo.kube.errors import Status, failure_of_status, retry_after_s, status_of, translate
from cdmo.kube.resources import EVENT, MIG_NODE, NODE, POD, Ask

ASK = Ask("get", NODE, "gpu-1")

EXPECTED: dict[int, type[ClusterError]] = {
    **dict.fromkeys(range(400, 500), ClusterError),
    **dict.fromkeys(range(500, 600), ClusterUnavailable),
    **dict.fromkeys((400, 413, 415, 422), Invalid),
    **dict.fromkeys((401, 403), Denied),
    **dict.fromkeys((408, 429), ClusterUnavailable),
    **dict.fromkeys((409, 412), Conflict),
    404: NotFound,
    410: Expired,
}


def refusal(code: int, body: bytes = b"", retry_after: str = "") -> Refused:
    """As a connection raises it for an answer with this status."""
    with pytest.raises(Refused) as caught:
        Answer(code, body, retry_after).expect_success()
    return caught.value


@pytest.mark.parametrize("code", range(400, 600))
def test_every_status_has_its_failure(code: int) -> None:
    failure = translate(refusal(code), ASK)
    assert type(failure) is EXPECTED[code]
    assert str(failure).startswith("could not get Node gpu-1: ")
    assert failure.retryable == (EXPECTED[code] in (ClusterUnavailable, Conflict, Expired))


KEY = ConnectionKey("10.0.0.1", 6443, True, True, None, None, None)
HEAD = aiohttp.RequestInfo(URL("https://10.0.0.1"), "GET", CIMultiDictProxy(CIMultiDict()), URL("https://10.0.0.1"))


def made(kind: type[Exception]) -> Exception:
    """A failure of this class, as aiohttp makes it."""
    if issubclass(kind, aiohttp.ClientConnectorCertificateError):
        return kind(KEY, ssl.SSLCertVerificationError("self-signed"))
    if issubclass(kind, aiohttp.ClientConnectorError):
        return kind(KEY, ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"))
    if issubclass(kind, aiohttp.ClientResponseError):
        return kind(HEAD, ())
    if issubclass(kind, aiohttp.ServerFingerprintMismatch):
        return kind(b"", b"", "10.0.0.1", 6443)
    return kind("something broke")


def connection_failures() -> list[type[Exception]]:
    """Every exception class of aiohttp that a request can end with."""
    members = [one for _, one in inspect.getmembers(aiohttp, inspect.isclass)]
    return [one for one in members if issubclass(one, aiohttp.ClientError)]


def test_no_class_of_the_library_is_forgotten() -> None:
    kinds = {aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.InvalidURL, aiohttp.ClientOSError}
    assert kinds <= set(connection_failures())


PERMANENT = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)


@pytest.mark.parametrize("kind", connection_failures(), ids=lambda kind: kind.__name__)
def test_every_connection_failure_is_retryable_unless_trying_again_cannot_help(kind: type[Exception]) -> None:
    failure = translate(made(kind), ASK)
    assert type(failure) is (ClusterError if issubclass(kind, PERMANENT) else ClusterUnavailable)
    assert "could not get Node gpu-1: " in str(failure)
    assert "object at 0x" not in str(failure)
    assert failure.hint


def test_a_connection_that_fails_is_told_in_the_systems_words() -> None:
    refused = aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"))
    assert str(translate(refused, ASK)).endswith(": no connection to 10.0.0.1:6443: Connection refused")
    unknown = aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "Name or service not known"))
    assert str(translate(unknown, ASK)).endswith("Name or service not known")
    tls = aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "wrong version number"))
    assert str(translate(tls, ASK)).endswith("wrong version number")


@pytest.mark.parametrize("error", [OSError("no route to host"), ConnectionResetError(), TimeoutError(), EOFError()])
def test_failures_of_the_system_are_translated_too(error: Exception) -> None:
    failure = translate(error, ASK)
    assert isinstance(failure, ClusterUnavailable) == isinstance(error, OSError)


def test_a_failure_of_ours_passes_as_it_is() -> None:
    ours = NotFound("could not get Node gpu-1")
    assert translate(ours, ASK) is ours


def test_the_api_servers_words_are_in_the_sentence() -> None:
    said = json.dumps({"kind": "Status", "message": 'nodes "gpu-1" is forbidden: User "x" cannot get', "code": 403})
    failure = translate(refusal(403, said.encode()), Ask("patch", NODE, "gpu-1", subresource="status"))
    assert str(failure) == 'could not patch the status of Node gpu-1: nodes "gpu-1" is forbidden: User "x" cannot get'
    assert "kubectl auth can-i patch nodes/status" in failure.hint


def test_an_object_that_is_there_already_is_told_from_a_lost_race() -> None:
    body = json.dumps({"reason": "AlreadyExists", "message": "exists"}).encode()
    assert type(translate(refusal(409, body), Ask("create", MIG_NODE, "gpu-1"))) is AlreadyExists


def test_a_missing_crd_is_hinted_at() -> None:
    assert "CRD" in translate(refusal(404), Ask("get", MIG_NODE, "gpu-1")).hint


def test_what_a_proxy_says_is_cut_short() -> None:
    failure = translate(refusal(502, b"<html>" + b"x" * 100_000), ASK)
    assert len(str(failure)) < 700


def test_an_object_of_another_shape_names_the_field() -> None:
    class Shape(msgspec.Struct):
        spec: dict[str, int]

    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(b'{"spec": {"gpus": "two"}}', type=Shape)
    failure = translate(caught.value, Ask("get", MIG_NODE, "gpu-1"))
    assert type(failure) is Invalid
    assert "$.spec" in str(failure)


def test_an_untrusted_certificate_points_at_the_ca() -> None:
    failure = translate(made(aiohttp.ClientConnectorCertificateError), ASK)
    assert type(failure) is ClusterUnavailable
    assert "self-signed" in str(failure)
    assert "CA" in failure.hint


def test_credentials_that_cannot_be_read_are_denied() -> None:
    assert type(translate(ConfigError("Token file /x not found"), ASK)) is Denied


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(("7", 7.0), ("0", 0.0), ("-3", 0.0), ("86400", 60.0), ("nan", 0.0), ("", 0.0)),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0),
    ],
)
def test_how_long_to_wait_is_read_from_the_answer_within_reason(header: str, seconds: float) -> None:
    error = refusal(429, retry_after=header)
    failure = translate(error, ASK)
    failure.__cause__ = error
    assert retry_after_s(failure) == seconds


def test_requests_are_named_in_words() -> None:
    assert str(Ask("list", POD)) == "list pods"
    assert str(Ask("list", POD, namespace="ml")) == "list pods in namespace ml"
    assert str(Ask("create", POD, "a", "ml", "binding")) == "create the binding of Pod ml/a"
    assert Ask("create", POD, "a", "ml", "binding").path == "api/v1/namespaces/ml/pods/a/binding"
    assert Ask("create", EVENT, namespace="ml").path == "apis/events.k8s.io/v1/namespaces/ml/events"


def test_a_name_cannot_climb_out_of_its_path() -> None:
    assert Ask("get", NODE, "../../secrets?x=1").path == "api/v1/nodes/..%2F..%2Fsecrets%3Fx%3D1"


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"message": "\xff"}', b"{", b"x" * 10_000, b"\x1b[2J"])
def test_a_refusal_in_any_form_is_one_sentence(body: bytes) -> None:
    failure = failure_of_status(status_of(body), 503, ASK)
    assert isinstance(failure, ClusterUnavailable)
    assert str(failure).isprintable() and len(str(failure)) < 1000


def test_a_long_reason_is_cut_as_a_long_message_is() -> None:
    assert len(str(failure_of_status(Status(reason="R" * 10_000), 400, ASK))) < 1000
