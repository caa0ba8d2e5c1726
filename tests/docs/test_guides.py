"""The guides: what they have their readers write is what CDMO and its neighbours take."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from cdmo.doctor.nodes import HANGING_DRIVERS
from cdmo.gpu_operator import Distribution
from cdmo.gpu_operator.chart import CDI_BY_DEFAULT
from cdmo.model.names import PARTITIONING_LABEL, PARTITIONING_VALUE
from cdmo.model.policy import Policy
from tests.docs.pages import REPOSITORY, blocks, files, shown

COMMAND = Path(sys.executable).with_name("cdmo")
CLUSTER = REPOSITORY / "examples" / "02-what-if" / "cluster.yaml"
QUEUES = REPOSITORY / "examples" / "01-clearml-queues" / "values.yaml"

# ClearML's guide, step by step: what its reader types.
OF_THE_GUIDE = (
    "helm repo add nvidia https://nvidia.github.io/gpu-operator",
    "helm repo update",
    "helm install -n gpu-operator gpu-operator nvidia/gpu-operator --create-namespace -f gpu-operator.override.yaml",
    'kubectl label nodes NODE_NAME "cdmo.clear.ml/gpu-partitioning=mig"',
)
OF_ITS_END = (
    'kubectl label nodes NODE_NAME "cdmo.clear.ml/gpu-partitioning-"',
    "helm upgrade -n gpu-operator gpu-operator nvidia/gpu-operator -f gpu-operator.override.yaml",
)


def typed(page: str) -> list[str]:
    return [each.command for each in shown(page)]


def documents(page: str) -> list[dict[str, Any]]:
    return [each for text in blocks(page, "yaml") for each in yaml.safe_load_all(text)]


def planned(pod: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What `cdmo plan` says of a pod in the cluster of the example."""
    (folder / "pod.yaml").write_text(yaml.safe_dump(pod))
    arguments = [str(COMMAND), "plan", "-f", str(CLUSTER), "-f", str(folder / "pod.yaml"), "-o", "json"]
    answer: dict[str, Any] = json.loads(subprocess.run(arguments, capture_output=True, timeout=15, check=True).stdout)
    return answer


def test_the_guides_steps_are_there_word_by_word_and_in_order() -> None:
    for page, steps in (("docs/install.md", OF_THE_GUIDE), ("docs/leave.md", OF_ITS_END)):
        commands = typed(page)
        places = [commands.index(each) for each in steps]
        assert places == sorted(places)
    joined = " ".join(typed("docs/install.md"))
    assert "helm upgrade -i -n cdmo cdmo " in joined
    assert "--create-namespace -f cdmo-values.override.yaml" in joined
    assert f"{PARTITIONING_LABEL}={PARTITIONING_VALUE}" in joined


def test_mode_and_instances_go_in_the_guides_order() -> None:
    ends = [each.rpartition(" -- ")[2] for each in typed("docs/leave.md") if "nvidia-smi" in each]
    assert ends == ["nvidia-smi mig -dci", "nvidia-smi mig -dgi", "nvidia-smi -mig 0"]


def test_each_distribution_has_its_command_before_the_operator_is_installed() -> None:
    commands = typed("docs/install.md")
    for where in Distribution:
        flag = "" if where is Distribution.KUBERNETES else f" --{where}"
        wanted = f"cdmo gpu-operator values{flag} > gpu-operator.override.yaml"
        assert commands.index(wanted) < commands.index(OF_THE_GUIDE[2])


def test_traps_are_named_before_the_step_that_they_would_spoil() -> None:
    page = (REPOSITORY / "docs" / "install.md").read_text()
    for trap, step in (
        (f"Charts from {CDI_BY_DEFAULT} on need one line more", OF_THE_GUIDE[2]),
        ("Helm replaces lists", "cdmo gpu-operator values > "),
        ("keepOffGpuNodes", "helm upgrade -i -n cdmo"),
        ("The agent is privileged", "helm upgrade -i -n cdmo"),
        ("Pods that ask for whole GPUs have to be off", "nvidia-smi -i GPU_ID -mig 1"),
        ("Profile names differ between cards", "kubectl apply -f first-slice.yaml"),
    ):
        assert page.index(trap) < page.index(step), trap
    assert all(driver in page for driver in HANGING_DRIVERS)


def test_the_first_slice_finds_a_place_in_a_cluster_of_h100(tmp_path: Path) -> None:
    pod = yaml.safe_load(files("docs/install.md")["first-slice.yaml"])
    answer = planned(pod, tmp_path)
    assert [each["pod"] for each in answer["placements"]] == ["default/first-slice"]


def test_a_pod_that_kueue_holds_back_is_left_alone_and_one_that_it_lets_go_is_planned(tmp_path: Path) -> None:
    (job,) = (each for each in documents("docs/kueue.md") if each.get("kind") == "Job")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "train-0", "namespace": "ml"}}
    spec = job["spec"]["template"]["spec"]
    held = {**pod, "spec": {**spec, "schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}}
    assert "ml/train-0" not in json.dumps(planned(held, tmp_path))
    assert "ml/train-0" in [each["pod"] for each in planned({**pod, "spec": spec}, tmp_path)["placements"]]


def test_kueues_objects_name_each_other_and_cover_the_job() -> None:
    found = {each["kind"]: each for each in documents("docs/kueue.md")}
    queue, flavor, job = found["ClusterQueue"], found["ResourceFlavor"], found["Job"]
    (group,) = queue["spec"]["resourceGroups"]
    (quotas,) = group["flavors"]
    assert quotas["name"] == flavor["metadata"]["name"]
    assert [each["name"] for each in quotas["resources"]] == group["coveredResources"]  # Kueue wants one order
    assert flavor["spec"]["nodeLabels"] == {PARTITIONING_LABEL: PARTITIONING_VALUE}
    assert found["LocalQueue"]["spec"]["clusterQueue"] == queue["metadata"]["name"]
    assert found["LocalQueue"]["metadata"]["name"] == job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert found["LocalQueue"]["metadata"]["namespace"] == job["metadata"]["namespace"]
    asked = job["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert {*asked["requests"], *asked["limits"]} <= set(group["coveredResources"])


def test_a_size_costs_as_many_slots_of_kueues_quota_as_it_takes_on_the_card() -> None:
    cards = json.loads((REPOSITORY / "tests" / "data" / "cards.json").read_text())
    sizes = {each["resource"]: each["size"] for each in cards["h100"]["profiles"]}
    (configuration,) = (each for each in documents("docs/kueue.md") if each.get("kind") == "Configuration")
    for each in configuration["resources"]["transformations"]:
        assert each["outputs"] == {"cdmo.clear.ml/slots": sizes[each["input"]]}


def test_the_queues_of_the_page_are_those_of_the_example() -> None:
    (values,) = documents("docs/clearml.md")
    assert values == yaml.safe_load(QUEUES.read_text())


def test_the_reserve_that_the_page_names_is_the_controllers() -> None:
    page = (REPOSITORY / "docs" / "clearml.md").read_text()
    assert re.search(rf"`controller\.reserveAfter`\s+seconds \({Policy().reserve_after:g}\)", page)
