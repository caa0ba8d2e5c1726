"""docs/why-is-my-pod-pending.md lists every reason there is, in the words that the planner uses."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence

import pytest

from cdmo.model.cluster import Taint
from cdmo.model.plan import Waiting
from cdmo.model.reasons import EventReason, WaitingCode
from cdmo.model.snapshot import MigNodeView
from cdmo.planner import reasons
from tests.builders import IDLE, NOW, a30, h100, node, pod, resource, rtx_pro_6000, snapshot
from tests.docs.pages import REPOSITORY
from tests.planner.expect import planned, waits

PAGE = (REPOSITORY / "docs" / "why-is-my-pod-pending.md").read_text()
ROW = re.compile(r"^\| `(?P<code>\w+)` \| (?P<sentence>[^|]+?) \| (?P<what>[^|]+?) \|$", re.MULTILINE)


def said() -> list[tuple[WaitingCode, str]]:
    """What the planner answers in one small cluster after another, in the order of the page."""

    def to(asks: str | dict[str, int], *nodes: MigNodeView, avoid: Sequence[tuple[str, str]] = ()) -> Waiting:
        answer = planned(snapshot(nodes, [pod("train", asks)], avoid=avoid))
        return answer.waiting[0]

    busy = node("gpu-3", [h100({"1g.10gb@2": "ml/train-7", "3g.40gb@4": "ml/a"})])
    two = node("gpu-3", [h100({"2g.20gb@0": "ml/b"}), h100({"2g.20gb@0": "ml/c", "1g.10gb@2": "ml/d"})])
    answers = [
        to("4g.40gb", busy),
        to("1g.24gb+me.all", node("gpu-3", [rtx_pro_6000({"1g.24gb@9": "ml/old"})])),
        to({"4g.40gb": 2}, two),
        to({"3g.40gb": 1, "1g.10gb": 1}, node("gpu-3", [h100({"3g.40gb@0": "ml/a"})])),
        *kept(),
        short_of_cpu(),
        to("1g.10gb", node("gpu-3", [h100()], alive=False)),
        to("1g.10gb", node("gpu-3", [h100(problem="XID 95 (uncontained memory error)")])),
        to("1g.10gb", node("gpu-3", [h100()], taints=[Taint("dedicated", "vision", "NoSchedule")])),
        to("1g.10gb", node("gpu-3", [h100({"1g.10gb@6": IDLE})]), avoid=[("train", "gpu-3")]),
        to("1g.5gb", node("gpu-3", [a30()])),
        to("1g.10gb"),
        to({"1g.10gb": 15}, node("gpu-3", [h100(), h100()])),
        to({"7g.80gb": 1, "1g.10gb": 1}, node("gpu-3", [h100()])),
    ]
    return [(each.code, each.reason) for each in answers]


def kept() -> list[Waiting]:
    """The reasons of a pod that has waited for long, and of one that finds only the slots kept for it."""
    nodes = [node("gpu-3", [h100({"1g.10gb@2": "ml/train-7"})])]
    old, new = pod("whole", "7g.80gb", created=NOW - 3600), pod("train", "1g.10gb")
    answer = planned(snapshot(nodes, [old, new]))
    return [Waiting(each.key, *waits(answer, each.key.name)) for each in (old, new)]


def short_of_cpu() -> Waiting:
    """The reason of a pod for which slices could be cut, on a node without cpu."""
    bound = [pod("hog", on="gpu-3", requests={"cpu": 63_500})]
    return planned(snapshot([node("gpu-3", [h100()])], [pod("train", "1g.10gb")], bound)).waiting[0]


def test_the_page_has_the_planners_own_words() -> None:
    assert [(each["code"], each["sentence"]) for each in ROW.finditer(PAGE)] == [
        (str(code), sentence) for code, sentence in said()
    ]


def test_the_page_has_every_code() -> None:
    assert {each["code"] for each in ROW.finditer(PAGE)} == set(WaitingCode)


def test_the_page_has_every_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[str] = set()

    def noting(name: str, function: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(function)
        def noted(*args: object, **more: object) -> str:
            used.add(name)
            return function(*args, **more)

        return noted

    functions = dict(inspect.getmembers(reasons, inspect.isfunction))
    own = {name: each for name, each in functions.items() if each.__module__ == reasons.__name__}
    for name, function in own.items():
        monkeypatch.setattr(reasons, name, noting(name, function))
    said()
    assert own.keys() - used - {"spoken_for"} == set()  # a blocker like others, of pods that were bound just now


def test_the_page_names_the_events_on_pods() -> None:
    assert f"reason={EventReason.WAITING}" in PAGE
    assert str(EventReason.PLANNED) in PAGE
    assert resource("1g.10gb") in PAGE
