"""What becomes of a check's troubles."""

from __future__ import annotations

from collections.abc import Iterator

from cdmo.doctor import Check, ClusterFacts, Finding, Source, Status
from cdmo.doctor.finding import Trouble


def one_trouble(_: ClusterFacts) -> Iterator[Trouble]:
    yield Trouble("Node/a", "is odd", "mend it", Status.WARNING)


def none(_: ClusterFacts) -> Iterator[Trouble]:
    yield from ()


def test_troubles_become_findings_under_the_checks_name() -> None:
    check = Check("c", "all is well", (), one_trouble)
    assert list(check.findings(ClusterFacts(0.0))) == [Finding("c", Status.WARNING, "Node/a", "is odd", "mend it")]


def test_no_trouble_is_one_ok() -> None:
    check = Check("c", "all is well", (), none)
    assert list(check.findings(ClusterFacts(0.0))) == [Finding("c", Status.OK, "cluster", "all is well")]


def test_a_check_is_not_asked_without_its_facts() -> None:
    check = Check("c", "all is well", (Source.NODES,), one_trouble)
    (found,) = check.findings(ClusterFacts(0.0, unread={Source.NODES: "forbidden"}))
    assert found.status is Status.WARNING
    assert found.sentence == "not checked: nodes could not be read"
