"""Traces: what is read, and one sentence with file, line and field for each line that is not."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdmo.errors import BadInput
from cdmo.simulation.trace import MAX_LINE, Trace, lines_of, read_trace

HEADER = "pod,arrival,duration,resources,priority"
GOOD = "ml/a,0,1,nvidia.com/mig-1g.10gb=1,0"


def read(*lines: str) -> Trace:
    return read_trace([HEADER, *lines], "t.csv")


def test_a_line_becomes_a_job() -> None:
    trace = read("ml/train,12.5,600,nvidia.com/mig-1g.10gb=2;nvidia.com/mig-3g.40gb=1,-7")
    (job,) = trace.workload.jobs
    assert (job.pod.key.namespace, job.pod.key.name) == ("ml", "train")
    assert (job.pod.created, job.duration, job.pod.priority) == (12.5, 600.0, -7)
    assert job.demand == (("nvidia.com/mig-1g.10gb", 2), ("nvidia.com/mig-3g.40gb", 1))
    assert trace.problems == ()


def test_jobs_are_in_the_order_of_arrival_whatever_the_order_of_lines() -> None:
    trace = read("b,5,1,nvidia.com/mig-1g.10gb=1,0", "a,9,1,nvidia.com/mig-1g.10gb=1,0", GOOD)
    assert [str(each.pod.key) for each in trace.workload.jobs] == ["ml/a", "default/b", "default/a"]


def test_columns_may_come_in_any_order_with_others_between_and_without_priority() -> None:
    lines = ["\ufeffDuration,Resources,note,Pod,Arrival\n", '3,nvidia.com/mig-7g.80gb=1,"a, b",x,2\n', "\n"]
    (job,) = read_trace(lines, "t.csv").workload.jobs
    assert (job.pod.key.name, job.pod.created, job.duration, job.pod.priority) == ("x", 2.0, 3.0, 0)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (",0,1,nvidia.com/mig-1g.10gb=1,0", "pod: '' is neither NAME nor NAMESPACE/NAME"),
        ("a/b/c,0,1,nvidia.com/mig-1g.10gb=1,0", "pod: 'a/b/c' is neither"),
        (GOOD, "pod ml/a is named on line 2 already"),
        ("b,soon,1,nvidia.com/mig-1g.10gb=1,0", "arrival: 'soon' is not a number"),
        ("b,-1,1,nvidia.com/mig-1g.10gb=1,0", "arrival: '-1' is not between 0 and"),
        ("b,nan,1,nvidia.com/mig-1g.10gb=1,0", "arrival: 'nan' is not between 0 and"),
        ("b,0,,nvidia.com/mig-1g.10gb=1,0", "duration: '' is not a number"),
        ("b,0,0,nvidia.com/mig-1g.10gb=1,0", "duration: '0' is not above 0"),
        ("b,0,inf,nvidia.com/mig-1g.10gb=1,0", "duration: 'inf' is not between"),
        ("b,0,1,,0", "resources: '' is not of the form nvidia.com/mig-PROFILE=COUNT"),
        ("b,0,1,nvidia.com/gpu=1,0", "resources: 'nvidia.com/gpu=1' is not of the form"),
        ("b,0,1,nvidia.com/mig-=1,0", "resources: 'nvidia.com/mig-=1' is not of the form"),
        ("b,0,1,nvidia.com/mig-1g.10gb,0", "resources: 'nvidia.com/mig-1g.10gb' is not of the form"),
        ("b,0,1,nvidia.com/mig-1g.10gb=0,0", "resources: the count of 'nvidia.com/mig-1g.10gb' is not a whole"),
        ("b,0,1,nvidia.com/mig-1g.10gb=1.5,0", "resources: the count of"),
        ("b,0,1,nvidia.com/mig-1g.10gb=1;nvidia.com/mig-1g.10gb=1,0", "'nvidia.com/mig-1g.10gb' is there twice"),
        ("b,0,1,nvidia.com/mig-1g.10gb=1,high", "priority: 'high' is not a whole number"),
        ("b,0,1,nvidia.com/mig-1g.10gb=1,9999999999", "priority: '9999999999' is not a whole number from"),
        ("b,0,1", "resources: the field is missing, the line has 3 of 5 fields"),
        ("b,0,1,nvidia.com/mig-1g.10gb=1,0,more", "the line has 6 fields, the first line names 5"),
        ('b,0,1,"nvidia.com/mig-1g.10gb=1,0', "the line is no CSV"),
        ("b" * 70_000, "the line is longer than 65536 characters"),
    ],
)
def test_a_bad_line_is_told_and_the_others_are_read(line: str, sentence: str) -> None:
    trace = read(GOOD, line, "z,3,1,nvidia.com/mig-1g.10gb=1,")
    (problem,) = trace.problems
    assert problem.startswith("t.csv, line 3: ")
    assert sentence in problem
    assert len(problem) < 300
    assert [each.pod.key.name for each in trace.workload.jobs] == ["a", "z"]


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ([], "the column pod and arrival and duration and resources is missing"),
        (["pod,arrival,duration"], "the column resources is missing"),
        (["pod,pod,arrival,duration,resources"], "the column pod is there twice"),
        (['pod,"arrival'], "the line is no CSV"),
    ],
)
def test_without_its_columns_a_file_is_refused_with_what_they_are(header: list[str], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence) as refused:
        read_trace(header, "t.csv")
    assert "pod,arrival,duration,resources,priority" in refused.value.hint


@given(st.lists(st.text('ab0.9-,;=/" \x00é\u2028', max_size=40), max_size=5))
def test_any_line_is_either_a_job_or_a_sentence(lines: list[str]) -> None:
    trace = read(*lines)
    blank = sum(not each.strip() for each in lines)
    assert len(trace.workload.jobs) + len(trace.problems) + blank == len(lines)


def test_a_line_without_end_is_never_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    text = io.StringIO("a\r\n" + "x" * 300_000 + "\nlast")

    def readline(most: int) -> str:
        sizes.append(most)
        return text.readline(most)

    first, long, last = lines_of(readline, "t.csv")
    assert (first.strip(), len(long), last) == ("a", MAX_LINE + 1, "last")
    assert max(sizes) == MAX_LINE + 1
    monkeypatch.setattr("cdmo.simulation.trace.MAX_FILE", 100_000)
    with pytest.raises(BadInput, match="more than 100000 characters"):
        list(lines_of(lambda most: "x" * most, "t.csv"))
