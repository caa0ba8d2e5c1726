"""`cdmo plan` as people and scripts meet it: three forms, what goes where, the exit status."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from typer.testing import CliRunner, Result

from cdmo.cli.app import app
from tests.builders import BUS, IDLE, h100
from tests.kube.files import RECORDED, cluster, gpu_node, listed, mignode, sketched, waiting, written
from tests.kube.objects import Json

CLUSTER = str(RECORDED / "cluster.json")
WIDTH = 80


def plan(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    """The command inside this process."""
    return CliRunner().invoke(app, ["plan", *map(str, arguments)], input=stdin)


def answer(*arguments: str | Path) -> Json:
    """The plan as JSON, when nothing was wrong."""
    result = plan(*arguments, "-o", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    made: Json = json.loads(result.stdout)
    return made


def without_time(made: Json) -> Json:
    return {key: value for key, value in made.items() if key != "planSeconds"}


def test_a_window_is_kept_for_an_old_pod_only_when_asked_for(tmp_path: Path) -> None:
    busy = h100(slices={"4g.40gb@0": "ml/a", "1g.10gb@6": IDLE})
    old = waiting("whole", "7g.80gb", created="2025-12-01T00:00:00Z")
    (path,) = written(tmp_path, [gpu_node(), mignode("gpu-1", busy), old])
    assert answer("-f", path)["gpus"] == []
    kept = answer("-f", path, "--reserve-after", "60")
    assert kept["gpus"] == [
        {"node": "gpu-1", "gpu": BUS[0], "create": [], "destroy": [{"profileId": 19, "start": 6}]}
    ]
    assert "room is kept for it on node gpu-1" in kept["waiting"][0]["reason"]


def test_json_holds_placements_changes_and_reasons_under_their_agreed_keys(tmp_path: Path) -> None:
    busy = h100(slices={"4g.40gb@0": "ml/a", "2g.20gb@4": "ml/b", "1g.10gb@6": IDLE})
    pods = [waiting("one", "1g.10gb"), waiting("three", created="2026-09-02T00:00:00Z")]
    (path,) = written(tmp_path, [gpu_node(), mignode("gpu-1", busy), *pods, waiting("whole", "7g.80gb")])
    made = answer("-f", path)
    assert 0 < made.pop("planSeconds") < 5
    assert made.keys() == {"placements", "gpus", "waiting"}
    assert made["placements"] == [
        {
            "pod": "ml/one",
            "node": "gpu-1",
            "slices": [{"gpu": BUS[0], "profileId": 19, "start": 6, "action": "reuse"}],
        }
    ]
    assert made["gpus"] == []
    assert [(each["pod"], each["code"]) for each in made["waiting"]] == [
        ("ml/whole", "NoRoom"),
        ("ml/three", "NoRoom"),
    ]
    assert all(each.keys() == {"pod", "code", "reason"} and each["reason"] for each in made["waiting"])


def test_changes_of_gpus_say_what_is_created_and_destroyed(tmp_path: Path) -> None:
    whole = mignode("gpu-1", h100(slices={"7g.80gb@0": IDLE}))
    (path,) = written(tmp_path, [gpu_node(), whole, waiting("train", "4g.40gb")])
    made = answer("-f", path)
    assert made["placements"][0]["slices"] == [{"gpu": BUS[0], "profileId": 5, "start": 0, "action": "create"}]
    assert made["gpus"] == [
        {
            "node": "gpu-1",
            "gpu": BUS[0],
            "create": [{"profileId": 5, "start": 0}],
            "destroy": [{"profileId": 0, "start": 0}],
        }
    ]


def test_yaml_is_the_same_answer(tmp_path: Path) -> None:
    result = plan("-f", CLUSTER, "-o", "yaml")
    assert result.exit_code == 0
    assert without_time(yaml.safe_load(result.stdout)) == without_time(answer("-f", CLUSTER))


def test_a_plan_is_the_same_to_the_byte_whatever_the_order_of_objects(tmp_path: Path) -> None:
    items: list[Any] = json.loads(Path(CLUSTER).read_text())["items"]
    items += [sketched("b", "1g.10gb"), sketched("a", "1g.10gb"), gpu_node("gpu-9"), mignode("gpu-9")]
    texts = set()
    for seed in range(6):
        random.Random(seed).shuffle(items)
        (path,) = written(tmp_path, items)
        result = plan("-f", path, "-o", "json")
        texts.add(result.stdout.split("\n", 2)[2])
        assert '"planSeconds"' in result.stdout.split("\n", 2)[1]
    assert len(texts) == 1


TABLE = """\
POD              NODE   GPU      SLICES
default/what-if  gpu-2  10:00.0  create 1g.6gb at 2
                                 create 1g.6gb at 3
default/urgent   gpu-1  20:00.0  create 7g.80gb at 0

NODE   GPU      DESTROY  CREATE
gpu-1  20:00.0           7g.80gb at 0
gpu-2  10:00.0           1g.6gb at 2
                         1g.6gb at 3

"""


def in_80_columns(*arguments: str) -> tuple[str, str]:
    """The table of the installed script, without blanks at the ends of lines, and what it said beside."""
    script = Path(sys.executable).with_name("cdmo")
    result = subprocess.run([script, "plan", *arguments], capture_output=True, text=True, timeout=15, check=False)
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert max(map(len, lines)) <= WIDTH
    return "\n".join(lines) + "\n", result.stderr


def test_the_table_is_for_people_and_fits_80_columns(tmp_path: Path) -> None:
    pod = {**sketched("what-if", priority=2000), "metadata": {"name": "what-if"}}
    pod["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/mig-1g.6gb": 2}}
    (path,) = written(tmp_path, pod)
    table, said = in_80_columns("-f", CLUSTER, "-f", path)
    assert said == ""
    placed, changed, waits, summary = table.split("\n\n")
    assert f"{placed}\n\n{changed}\n\n" == TABLE
    assert waits.startswith("WAITING\nNoRoom: ")
    assert summary == "2 pods placed, 4 waiting. Slices: 0 reused, 3 created, 0 destroyed on 2 GPUs.\n"


def test_long_names_are_wrapped_and_nothing_of_them_is_lost(tmp_path: Path) -> None:
    name = "finetune-" + "x" * 150
    node = "gpu-node-with-a-long-name-in-a-large-data-centre-1"
    (path,) = written(
        tmp_path, [gpu_node(node), mignode(node), waiting(name), waiting(f"{name}-too", "7g.80gb", priority=-1)]
    )
    table, _ = in_80_columns("-f", path)
    placements, _, waits, _ = table.split("\n\n")
    assert placements.count("x") == 150
    assert "".join(waits.split()).count(f"ml/{name}-too") == 1


def test_pods_with_one_reason_stand_together(tmp_path: Path) -> None:
    (path,) = written(tmp_path, cluster(waiting("a", "9g.1gb"), waiting("b", "9g.1gb"), waiting("c", "8g.1gb")))
    waits = plan("-f", path).stdout
    assert "NoSuchProfile: ml/a, ml/b\n" in waits
    assert "NoSuchProfile: ml/c\n" in waits


def test_names_from_a_file_cannot_move_the_cursor(tmp_path: Path) -> None:
    (path,) = written(tmp_path, cluster(waiting("\x1b[2Jevil"), waiting("\x1b[31mworse", "7g.80gb")))
    assert "\x1b" not in plan("-f", path).stdout


def test_more_pods_and_nodes_are_one_more_file(tmp_path: Path) -> None:
    before = answer("-f", CLUSTER)
    assert {"default/train-1", "default/train-2"} <= {each["pod"] for each in before["waiting"]}
    (path,) = written(tmp_path, [gpu_node("gpu-9"), mignode("gpu-9")])
    after = answer("-f", CLUSTER, path)
    placed = {each["pod"]: each["node"] for each in after["placements"]}
    assert placed.keys() > {each["pod"] for each in before["placements"]}
    assert {placed[pod] for pod in ("default/train-1", "default/train-2")} == {"gpu-9"}


def test_standard_input_is_read_where_a_dash_stands(tmp_path: Path) -> None:
    (path,) = written(tmp_path, sketched("train", "1g.10gb"))
    result = plan("-f", path, "-f", "-", "-o", "json", stdin=json.dumps(listed(cluster())))
    assert result.exit_code == 0
    assert [each["pod"] for each in json.loads(result.stdout)["placements"]] == ["ml/train"]


def test_problems_are_a_sentence_each_on_stderr_and_the_rest_is_planned(tmp_path: Path) -> None:
    bad = [sketched("bad", priority="high"), mignode("gone"), waiting("lost", nodeName="gone")]
    good, broken = written(tmp_path, cluster(waiting("train"), *bad), '{"kind": "Pod"')
    result = plan("-f", good, broken, tmp_path / "missing", "-o", "json")
    assert result.exit_code == 1
    assert [each["pod"] for each in json.loads(result.stdout)["placements"]] == ["ml/train"]
    assert result.stderr.splitlines() == [
        f"error: {good}: MigNode gone: there is no Node of this name; it is left out",
        f"error: {good}: Pod ml/bad spec.priority: expected int, got str; it is left out",
        f"error: {good}: Pod ml/lost spec.nodeName: there is no Node gone; the pod is left out",
        f"error: {broken}: this is not JSON: Expecting ',' delimiter in line 1, column 15 "
        "(the file ends there: is it complete?)",
        f"error: {tmp_path}/missing: it cannot be read: No such file or directory",
    ]


def test_objects_that_no_plan_looks_at_are_noted_and_no_failure(tmp_path: Path) -> None:
    (path,) = written(tmp_path, cluster({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}))
    result = plan("-f", path)
    assert (result.exit_code, result.stderr) == (0, "note: no plan looks at objects of these kinds: 1 Secret\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing option '--file' / '-f'"),
        (("-f", CLUSTER, "-o", "xml"), "'xml' is not one of"),
        (("-f", "-", "-f", "-"), "standard input (-) can be read once"),
        (("-f", CLUSTER, "--now"), "No such option"),
    ],
    ids=["no-file", "no-such-form", "stdin-twice", "no-such-option"],
)
def test_wrong_usage_is_exit_status_2(arguments: tuple[str, ...], said: str) -> None:
    result = plan(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_no_cluster_and_no_kubeconfig_are_needed(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("cdmo")
    result = subprocess.run(
        [script, "plan", "-f", CLUSTER, "-o", "json"],
        capture_output=True,
        timeout=15,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": "/nowhere"},
    )
    assert msgspec.json.decode(result.stdout)["placements"]
