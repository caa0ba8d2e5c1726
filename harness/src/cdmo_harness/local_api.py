"""The few requests that the harness itself makes to its API server. Programs under test bring their own client."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx2

from cdmo_harness.errors import ControlPlaneError, NoSuchObject

# Seconds for one answer; the server is on this machine.
_ANSWER_LIMIT = 10.0


class LocalApi:
    """Requests with a client certificate. Proxy settings of the environment do not apply to loopback."""

    def __init__(self, server: str, *, authority: Path, certificate: Path, private_key: Path) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        context.load_cert_chain(certificate, private_key)
        self._client = httpx2.Client(base_url=server, verify=context, trust_env=False, timeout=_ANSWER_LIMIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def answers(self, path: str) -> bool:
        """Whether a GET of this path succeeds; a refused connection is an answer of no."""
        try:
            return self._client.get(path).is_success
        except httpx2.HTTPError:
            return False

    def get(self, path: str) -> dict[str, Any]:
        """GET an object."""
        return self._request("GET", path, None)

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST an object; returns it as the server stored it."""
        return self._request("POST", path, body)

    def patch(self, path: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a change into an object (RFC 7386); null removes a field."""
        return self._request("PATCH", path, change, content_type="application/merge-patch+json")

    def delete(self, path: str, *, grace_seconds: int | None = None) -> None:
        """DELETE an object; a pod with `grace_seconds` 0 goes by force."""
        parameters = {} if grace_seconds is None else {"gracePeriodSeconds": str(grace_seconds)}
        self._request("DELETE", path, None, parameters=parameters)

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        content_type: str = "application/json",
        parameters: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        headers = {} if body is None else {"Content-Type": content_type}
        content = None if body is None else json.dumps(body)
        try:
            response = self._client.request(
                method, path, content=content, headers=headers, params=dict(parameters or {})
            )
        except httpx2.HTTPError as error:
            raise ControlPlaneError(
                f"the local API server did not answer {method} {path}: {error}",
                hint="is the control plane running? Its log is kube-apiserver.log",
            ) from error
        if not response.is_success:
            # A Status object says in `message` what is wrong; other bodies are shown as they are.
            status = _object(response)
            failure = NoSuchObject if response.status_code == httpx2.codes.NOT_FOUND else ControlPlaneError
            raise failure(
                f"the local API server refused {method} {path} ({response.status_code}): "
                f"{status.get('message', response.text[:300])}"
            )
        return _object(response)


def _object(response: httpx2.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
