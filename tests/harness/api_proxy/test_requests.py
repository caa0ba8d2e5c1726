"""Faults are aimed by verb and resource: what a request line asks for."""

from __future__ import annotations

import pytest
from cdmo_harness.api_proxy.requests import Request, parse_request


@pytest.mark.parametrize(
    ("method", "target", "verb", "resource"),
    [
        ("GET", "/api/v1/pods?limit=500", "list", "pods"),
        ("GET", "/api/v1/pods?watch=true&resourceVersion=7", "watch", "pods"),
        ("GET", "/api/v1/pods?watch=false", "list", "pods"),
        ("GET", "/api/v1/namespaces/ml/pods/train", "get", "pods"),
        ("GET", "/api/v1/namespaces/ml", "get", "namespaces"),
        ("PUT", "/api/v1/namespaces/ml/finalize", "update", "namespaces/finalize"),
        ("POST", "/api/v1/namespaces/ml/pods", "create", "pods"),
        ("POST", "/api/v1/namespaces/ml/pods/train/binding?dryRun=All", "create", "pods/binding"),
        ("PATCH", "/api/v1/nodes/gpu-1/status", "patch", "nodes/status"),
        ("PATCH", "/apis/cdmo.clear.ml/v1alpha1/mignodes/gpu-1/status", "patch", "mignodes/status"),
        ("GET", "/apis/cdmo.clear.ml/v1alpha1/mignodes", "list", "mignodes"),
        ("DELETE", "/apis/coordination.k8s.io/v1/namespaces/cdmo/leases/one", "delete", "leases"),
        ("GET", "/version", "get", "/version"),
        ("GET", "/apis", "get", "/apis"),
        ("POST", "/", "post", "/"),
    ],
)
def test_a_request_line_is_read_in_the_words_of_rbac(method: str, target: str, verb: str, resource: str) -> None:
    assert parse_request(method, target) == Request(verb, resource)
