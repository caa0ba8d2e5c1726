"""What holds for every workload: nothing is lost, nothing is used twice, the same input gives the same course."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdmo.model.gpu import DeviceState
from cdmo.model.plan import Plan
from cdmo.model.policy import Policy
from cdmo.model.snapshot import Snapshot
from cdmo.planner.placement import table_of
from cdmo.simulation.backlog import Backlog
from cdmo.simulation.workload import Job
from tests.builders import Card, a30, h100, node, rtx_pro_6000
from tests.planner.expect import Judged
from tests.simulation.stage import job, played, starts

PROFILES = ("1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb", "1g.6gb", "2g.12gb", "1g.24gb", "9g.90gb")
CLUSTERS: tuple[list[list[Card]], ...] = (
    [[h100()]],
    [[h100(), h100()], [h100()]],
    [[h100()], [a30()], [rtx_pro_6000()]],
)
TIMES = st.integers(0, 12)


@st.composite
def jobs(draw: st.DrawFn) -> list[Job]:
    """A few jobs whose times often coincide."""
    asks = st.one_of(
        st.sampled_from(PROFILES),
        st.dictionaries(st.sampled_from(PROFILES), st.integers(1, 3), min_size=1, max_size=2),
    )
    return [
        job(
            f"p{index}",
            draw(asks),
            at=draw(TIMES),
            runs=draw(st.integers(1, 9)),
            priority=draw(st.sampled_from((0, 0, 9))),
        )
        for index in range(draw(st.integers(1, 12)))
    ]


class Judging(Judged):
    """The planner; judges every question and answer on the way."""

    def plan(self, snapshot: Snapshot, policy: Policy) -> Plan:
        """The planner's answer, if it is a legal one to a legal question."""
        for view in snapshot.nodes:
            for gpu in view.gpus:
                assert table_of(view.models[gpu.model]).is_legal(each.placement for each in gpu.slices)
                holders = [each.pod for each in gpu.slices if each.state is DeviceState.IN_USE]
                assert {each.key for each in view.pods} >= set(holders)
        answer = super().plan(snapshot, policy)
        answered = [each.pod for each in answer.placements] + [each.pod for each in answer.waiting]
        assert sorted(answered) == sorted(each.key for each in snapshot.pending)
        return answer


@given(jobs(), st.sampled_from(CLUSTERS), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_pod_is_accounted_for_once_and_never_are_more_slots_busy_than_exist(
    load: list[Job], cluster: list[list[Card]], loss: bool
) -> None:
    nodes = [node(f"n{index}", cards) for index, cards in enumerate(cluster)]
    course = played(load, nodes, loss=loss, planner=Judging())
    assert sorted(each.job.pod.key for each in course.outcomes) == sorted(each.pod.key for each in load)
    for each in course.outcomes:
        assert (each.started is None) != (each.why is None)  # it ran, or there is a reason; nobody is left over
        if each.started is not None:
            assert each.started >= each.job.pod.created
            assert not loss or each.started == each.job.pod.created
    assert all(0.0 <= each.utilisation <= 1.0 for each in course.points)
    assert all(0.0 <= each.fragmentation <= 1.0 + 1e-9 for each in course.points)


@given(jobs(), st.sampled_from(CLUSTERS), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_same_workload_runs_the_same_course(load: list[Job], cluster: list[list[Card]], loss: bool) -> None:
    nodes = [node(f"n{index}", cards) for index, cards in enumerate(cluster)]
    assert played(load, nodes, loss=loss) == played(list(reversed(load)), nodes, loss=loss)


@given(jobs(), st.sampled_from(CLUSTERS))
@settings(max_examples=40, deadline=None)
def test_what_a_plan_is_not_shown_could_not_have_been_placed(load: list[Job], cluster: list[list[Card]]) -> None:
    nodes = [node(f"n{index}", cards) for index, cards in enumerate(cluster)]
    course = starts(played(load, nodes))
    shown = Backlog.shown
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backlog, "shown", lambda waiting, free: shown(waiting, 10**6))
        assert starts(played(load, nodes)) == course
