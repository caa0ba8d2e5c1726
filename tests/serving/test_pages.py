"""What is answered to which path, and what without a token."""

from __future__ import annotations

import pytest

from cdmo.serving.access import Verdict
from cdmo.serving.pages import Request
from tests.serving.client import pages


class Always:
    """An Access with one answer."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.asked: list[str] = []

    async def of(self, authorization: str, path: str) -> Verdict:
        self.asked.append(path)
        return self.verdict


def get(path: str, authorization: str = "", method: str = "GET") -> Request:
    return Request(method, path, authorization)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_probes_need_no_token_and_learn_one_word(path: str) -> None:
    access = Always(Verdict.UNKNOWN)
    good = await pages(access).answer(get(path))
    assert (good.status, good.body) == (200, b"ok\n")
    assert access.asked == []
    bad = await pages(access, live_rounds="a secret", ready_rounds="a secret").answer(get(path))
    assert (bad.status, bad.body) == (503, b"not ok\n")


async def test_who_may_see_it_is_told_what_is_wrong() -> None:
    access = Always(Verdict.ALLOWED)
    told = await pages(access, ready_pods="not synced", ready_lease="no answer").answer(get("/readyz", "Bearer x"))
    assert access.asked == ["/metrics"]  # by the right to those: anybody may get /readyz of an API server
    assert told.status == 503
    assert told.body.decode().splitlines() == ["not ok", "pods: not synced", "lease: no answer"]


async def test_not_ready_is_not_dead() -> None:
    both = pages(Always(Verdict.UNKNOWN), ready_pods="not synced")
    assert (await both.answer(get("/livez"))).status == 200
    assert (await both.answer(get("/readyz"))).status == 503


@pytest.mark.parametrize("verdict", [each for each in Verdict if each is not Verdict.ALLOWED])
async def test_metrics_are_for_those_who_may(verdict: Verdict) -> None:
    answer = await pages(Always(verdict)).answer(get("/metrics", "Bearer x"))
    assert answer.status == verdict.value
    assert b"answer" not in answer.body
    assert (("WWW-Authenticate", "Bearer") in answer.headers) == (verdict is Verdict.UNKNOWN)


async def test_metrics_are_in_prometheus_text() -> None:
    answer = await pages(Always(Verdict.ALLOWED)).answer(get("/metrics", "Bearer x"))
    assert answer.status == 200
    assert answer.content_type.startswith("text/plain; version=")
    assert b"# HELP answer To everything.\n# TYPE answer gauge\nanswer 42.0\n" in answer.body


@pytest.mark.parametrize("path", ["/", "/metrics/", "/livez/x", "//metrics", "/debug/pprof", "*", ""])
async def test_there_is_nothing_else(path: str) -> None:
    access = Always(Verdict.ALLOWED)
    assert (await pages(access).answer(get(path))).status == 404
    assert access.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "get"])
async def test_nothing_can_be_done_but_reading(method: str) -> None:
    assert (await pages().answer(get("/metrics", "Bearer x", method))).status == 405
