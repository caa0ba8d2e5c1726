"""Whether a token's owner may see what we serve: the API server's word, also an odd one; and the real one's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cdmo_harness.control_plane import ControlPlane

from cdmo.errors import ClusterError, ClusterUnavailable
from cdmo.kube.access_review import KubeAccessReview
from cdmo.kube.resources import Kind
from tests.fakes import faults
from tests.fakes.api_server import FakeApiServer
from tests.kube.objects import connection_to
from tests.kube.real import as_administrator, create

USER = {"username": "system:serviceaccount:monitoring:scraper", "uid": "u1", "groups": ["g"], "extra": {"k": ["v"]}}


def answered(**status: Any) -> Any:
    return faults.body(json.dumps({"status": status}).encode(), 201)


async def review(tmp_path: Path, *answers: Any) -> tuple[bool | None, list[Any]]:
    """What comes of these answers, and what was sent."""
    async with FakeApiServer() as server, connection_to(server.url, tmp_path) as connection:
        for each in answers:
            server.script("post", each)
        result = await KubeAccessReview(connection).may_get("a-token", "/metrics")
        return result, [each.json() for each in server.requests]


async def test_the_owner_is_asked_for_first_and_then_what_they_may(tmp_path: Path) -> None:
    allowed, sent = await review(tmp_path, answered(authenticated=True, user=USER), answered(allowed=True))
    assert allowed is True
    assert sent[0]["spec"] == {"token": "a-token"}
    spec = sent[1]["spec"]
    assert (spec["user"], spec["uid"], spec["groups"], spec["extra"]) == tuple(USER.values())
    assert spec["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}


@pytest.mark.parametrize("status", [{}, {"authenticated": False, "user": USER}, {"authenticated": True},
                                    {"authenticated": True, "user": {"username": ""}}])  # fmt: skip
async def test_a_token_of_nobody_is_of_nobody(status: dict[str, Any], tmp_path: Path) -> None:
    known, sent = await review(tmp_path, answered(**status))
    assert known is None
    assert len(sent) == 1


@pytest.mark.parametrize("status", [{}, {"allowed": False}, {"allowed": True, "denied": True}])
async def test_what_is_not_allowed_is_refused(status: dict[str, Any], tmp_path: Path) -> None:
    allowed, _ = await review(tmp_path, answered(authenticated=True, user=USER), answered(**status))
    assert allowed is False


BROKEN = {
    "garbage": faults.body(faults.GARBAGE, 201),
    "another type": faults.body(b'{"status": 7}', 201),
    "reset": faults.reset,
    "refused": faults.answer(403, "Forbidden"),
    "nested": faults.body(b"[" * 100000, 201),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("step", [0, 1])
async def test_an_answer_that_is_none_is_a_failure_and_never_a_yes(broken: Any, step: int, tmp_path: Path) -> None:
    good = [answered(authenticated=True, user=USER)]
    with pytest.raises(ClusterError):
        await review(tmp_path, *good[:step], broken)


async def test_an_api_server_that_is_overloaded_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ClusterUnavailable):
        await review(tmp_path, faults.answer(503, "ServiceUnavailable"))


@pytest.mark.cluster
@pytest.mark.timeout(120)
async def test_the_real_api_server_knows_its_tokens_and_who_may(control_plane: ControlPlane) -> None:
    rbac = "rbac.authorization.k8s.io"
    role = Kind("ClusterRole", "clusterroles", rbac)
    binding = Kind("ClusterRoleBinding", "clusterrolebindings", rbac)
    account = Kind("ServiceAccount", "serviceaccounts", namespaced=True)
    async with as_administrator(control_plane) as connection:
        for name in ("scraper", "stranger"):
            await create(
                connection,
                account,
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": f"review-{name}"}},
                namespace="default",
            )
        version = f"{rbac}/v1"
        rule = {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
        named = {"name": "review-metrics"}
        await create(
            connection, role, {"apiVersion": version, "kind": "ClusterRole", "metadata": named, "rules": [rule]}
        )
        await create(
            connection,
            binding,
            {
                "apiVersion": version,
                "kind": "ClusterRoleBinding",
                "metadata": named,
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "review-metrics"},
                "subjects": [{"kind": "ServiceAccount", "name": "review-scraper", "namespace": "default"}],
            },
        )
        reviewer = KubeAccessReview(connection)
        token = {name: token_of(control_plane, f"review-{name}") for name in ("scraper", "stranger")}
        assert await reviewer.may_get(token["scraper"], "/metrics") is True
        assert await reviewer.may_get(token["scraper"], "/debug/pprof") is False
        assert await reviewer.may_get(token["stranger"], "/metrics") is False
        # By a role that Kubernetes brings: what only some may see must not hang on these paths.
        assert await reviewer.may_get(token["stranger"], "/readyz") is True
        assert await reviewer.may_get(token["scraper"] + "x", "/metrics") is None
        assert await reviewer.may_get("made up", "/metrics") is None


def token_of(control_plane: ControlPlane, account: str) -> str:
    """A token of a service account of namespace default."""
    path = control_plane.service_account_kubeconfig("default", account)
    token = json.loads(path.read_text())["users"][0]["user"]["token"]
    assert isinstance(token, str)
    return token
