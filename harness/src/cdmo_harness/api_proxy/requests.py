"""What a request to an API server asks for, read from its method and path as the API server itself does.

https://kubernetes.io/docs/reference/using-api/api-concepts/ and .../access-authn-authz/authorization/ (verbs)
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request in the words of RBAC."""

    verb: str  # get, list, watch, create, update, patch, delete; of other paths: the method in small letters
    resource: str  # plural, with the subresource behind a slash; of other paths: the path


def parse_request(method: str, target: str) -> Request:
    """Verb and resource of a request line."""
    url = urlsplit(target)
    parts = [part for part in url.path.split("/") if part]
    below = _below_version(parts)
    if not below:
        return Request(method.lower(), url.path)
    if below[0] == "namespaces" and len(below) > 2 and below[2] not in ("status", "finalize"):
        below = below[2:]
    collection = len(below) == 1
    resource = "/".join([below[0], *below[2:3]])
    if method != "GET":
        return Request(_VERBS.get(method, method.lower()), resource)
    if collection:
        watched = parse_qs(url.query).get("watch", [""])[0]
        return Request("watch" if watched in ("true", "1") else "list", resource)
    return Request("get", resource)


def _below_version(parts: list[str]) -> list[str]:
    """What follows /api/v1 or /apis/GROUP/VERSION."""
    if parts[:1] == ["api"]:
        return parts[2:]
    return parts[3:] if parts[:1] == ["apis"] else []
