"""From the chart's values to the template that the glue completes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cdmo_harness.clearml.errors import BadQueues
from cdmo_harness.clearml.queues import read_queues


def values(folder: Path, text: str) -> Path:
    """A values file with this content."""
    path = folder / "values.yaml"
    path.write_text(text)
    return path


def queue(overrides: str) -> str:
    """A values file whose one queue has these overrides (flow style YAML)."""
    return f"agentk8sglue: {{queues: {{train: {{templateOverrides: {overrides}}}}}}}"


def test_the_guides_queues_ask_for_one_slice_each(example: Path) -> None:
    limits = {name: overrides.resources.limits for name, overrides in read_queues(example).items()}
    assert limits == {
        "slice-1": {"nvidia.com/mig-1g.10gb": "1"},
        "slice-2": {"nvidia.com/mig-2g.20gb": "1"},
        "slice-4": {"nvidia.com/mig-4g.40gb": "1"},
        "slice-7": {"nvidia.com/mig-7g.80gb": "1"},
    }


def test_resources_go_to_the_container_and_the_rest_to_the_pod(tmp_path: Path) -> None:
    text = queue(
        '{resources: {limits: {nvidia.com/mig-1g.10gb: 2}, requests: {cpu: "1"}}, labels: {team: a},'
        " annotations: {why: test}, nodeSelector: {pool: gpu}, tolerations: [{key: gpu, operator: Exists}]}"
    )
    template = read_queues(values(tmp_path, text))["train"].pod_template({"cdmo-harness/run-seconds": "3"})
    assert template == {
        "metadata": {"labels": {"team": "a"}, "annotations": {"why": "test", "cdmo-harness/run-seconds": "3"}},
        "spec": {
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "containers": [{"resources": {"limits": {"nvidia.com/mig-1g.10gb": 2}, "requests": {"cpu": "1"}}}],
        },
    }


def test_a_queue_without_overrides_adds_nothing(tmp_path: Path) -> None:
    queues = read_queues(values(tmp_path, "agentk8sglue: {queues: {plain: {}}, image: {tag: x}}\nother: 1\n"))
    assert queues["plain"].pod_template({}) == {"metadata": {}, "spec": {"containers": [{}]}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (queue("{affinity: {}}"), "affinity"),
        (queue("{resources: {limit: {}}}"), "limit"),
        (queue("{resources: {limits: {nvidia.com/mig-1g.10gb: [1]}}}"), "mig-1g.10gb|limits"),
        ("queues: {}", "agentk8sglue"),
        ("agentk8sglue: {queues: [", "YAML|flow|parsing"),
    ],
)
def test_what_cannot_be_translated_is_refused_and_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadQueues, match=words) as failure:
        read_queues(values(tmp_path, text))
    assert "examples/01-clearml-queues" in failure.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadQueues, match=r"nowhere\.yaml cannot be read: No such file"):
        read_queues(tmp_path / "nowhere.yaml")
