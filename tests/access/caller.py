"""Somebody with credentials of their own who asks the API server for something, and what it answers."""

from __future__ import annotations

import base64
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx2
import yaml

Json = dict[str, Any]

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"

NODES = "/api/v1/nodes"
MIGNODES = "/apis/cdmo.clear.ml/v1alpha1/mignodes"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
PROBE_BINDING = "/api/v1/namespaces/default/pods/cdmo-fence-probe/binding"


@dataclass(frozen=True, slots=True)
class Act:
    """One request."""

    method: str
    path: str
    body: Any = None
    form: str = JSON  # content type of the body
    dry_run: bool = False

    @property
    def query(self) -> dict[str, str]:
        """Its parameters."""
        asked = {"dryRun": "All"} if self.dry_run else {}
        if self.form == APPLY:
            asked |= {"fieldManager": "test", "force": "true"}
        return asked


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: Json

    @property
    def message(self) -> str:
        """The API server's sentence about a failure."""
        return str(self.body.get("message", ""))

    def require(self) -> Json:
        """The body of a success."""
        assert self.status < 300, f"{self.status}: {self.message}"
        return self.body


class Caller:
    """One identity. Close it when done."""

    def __init__(self, kubeconfig: Path, *, token: str = "") -> None:
        """`token` takes the place of the kubeconfig's user."""
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=_text(cluster["certificate-authority-data"]))
        token = token or user.get("token", "")
        if not token:
            pair = kubeconfig.with_suffix(".pem")  # beside the kubeconfig, which holds the same key
            pair.touch(mode=0o600)
            pair.write_text(_text(user["client-certificate-data"]) + _text(user["client-key-data"]))
            context.load_cert_chain(pair)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(
            base_url=cluster["server"], verify=context, headers=headers, trust_env=False, timeout=10.0
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def do(self, act: Act) -> Answer:
        """Ask for it."""
        content = None if act.body is None else json.dumps(act.body)
        headers = {"Content-Type": act.form} if content is not None else {}
        response = self._http.request(act.method, act.path, content=content, headers=headers, params=act.query)
        try:
            body = response.json()
        except ValueError:  # pod logs and the like
            body = {"message": response.text}
        return Answer(response.status_code, body)

    def get(self, path: str) -> Json:
        """An object that may be read."""
        return self.do(Act("GET", path)).require()

    def create(self, path: str, body: Json) -> Json:
        """An object that may be made."""
        return self.do(Act("POST", path, body)).require()

    def merge(self, path: str, change: Json) -> Json:
        """A merge patch that is allowed."""
        return self.do(Act("PATCH", path, change, MERGE)).require()


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
