"""Which request a standing fault hits, and how often."""

from __future__ import annotations

import pytest
from cdmo_harness.api_proxy.faults import Fault, FaultBook, Kind, Scope
from cdmo_harness.api_proxy.requests import Request

LIST_PODS = Request("list", "pods")
PATCH_STATUS = Request("patch", "nodes/status")


class Time:
    """A clock that stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def book(*faults: Fault, seed: int = 1, time: Time | None = None) -> FaultBook:
    """A book with these faults."""
    made = FaultBook(seed, time or Time())
    for each in faults:
        made.add(each)
    return made


@pytest.mark.parametrize(
    ("scope", "hit"),
    [
        (Scope(), True),
        (Scope(clients=("agent-*",)), True),
        (Scope(clients=("controller-*",)), False),
        (Scope(clients=("controller-*", "agent-gpu-1")), True),
        (Scope(verbs=("list", "watch")), True),
        (Scope(verbs=("patch",)), False),
        (Scope(resources=("pods",)), True),
        (Scope(resources=("pods/*", "nodes")), False),
        (Scope(clients=("agent-*",), verbs=("list",), resources=("nodes",)), False),
    ],
)
def test_a_fault_hits_only_what_its_scope_names(scope: Scope, hit: bool) -> None:
    made = book(Fault(kind=Kind.ANSWER, scope=scope, code=503))
    assert (made.draw(Kind.ANSWER, "agent-gpu-1", LIST_PODS) is not None) is hit
    assert made.counts == ({"answer 503": 1} if hit else {})


def test_a_fault_is_drawn_only_as_what_it_is() -> None:
    made = book(Fault(kind=Kind.BLACK_HOLE))
    assert made.draw(Kind.ANSWER, "a", LIST_PODS) is None
    assert made.draw(Kind.BLACK_HOLE, "a", LIST_PODS) is not None


def test_a_fault_happens_at_most_as_often_as_it_may() -> None:
    made = book(Fault(kind=Kind.LOSE_ANSWER, times=2, scope=Scope(verbs=("patch",))))
    drawn = [made.draw(Kind.LOSE_ANSWER, "a", asked) for asked in (LIST_PODS, *[PATCH_STATUS] * 4)]
    assert [each is not None for each in drawn] == [False, True, True, False, False]
    assert made.counts == {"lost answer": 2}


def test_a_fault_stands_as_long_as_it_was_told_to() -> None:
    time = Time()
    made = book(Fault(kind=Kind.REFUSE, seconds=5.0), time=time)
    assert made.stands(Kind.REFUSE, "a")
    time.now += 5.0
    assert not made.stands(Kind.REFUSE, "a")
    assert made.draw(Kind.REFUSE, "a") is None


def test_a_share_of_the_requests_is_hit_and_the_seed_says_which() -> None:
    def hits(seed: int) -> list[bool]:
        made = book(Fault(kind=Kind.ANSWER, code=500, share=0.3), seed=seed)
        return [made.draw(Kind.ANSWER, "a", LIST_PODS) is not None for _ in range(1000)]

    assert 240 < sum(hits(1)) < 360
    assert hits(1) == hits(1)
    assert hits(1) != hits(2)


def test_faults_can_be_taken_away_one_by_one_or_all_at_once_and_stay_counted() -> None:
    made = book()
    first = made.add(Fault(kind=Kind.ANSWER, code=500))
    second = made.add(Fault(kind=Kind.ANSWER, code=429))
    made.remove(first)
    made.remove(first)
    found = made.draw(Kind.ANSWER, "a", LIST_PODS)
    assert found is not None
    assert found.code == 429
    made.clear()
    made.remove(second)
    assert made.draw(Kind.ANSWER, "a", LIST_PODS) is None
    assert made.counts == {"answer 429": 1}
