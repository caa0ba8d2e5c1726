"""Files of Kubernetes objects, in every form in which they come and in those in which they should not."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml

from cdmo.kube import documents
from cdmo.kube.documents import Found, objects_in
from tests.kube.files import Content, listed, mignode, written
from tests.kube.objects import Json, node_json, pod_json

POD, NODE = pod_json("train"), node_json("gpu-1")
THREE = [POD, NODE, mignode()]


def taken_apart(folder: Path, content: Content, name: str = "") -> tuple[list[Found], list[str]]:
    """The objects of a file, and what was told of it without its path."""
    (path,) = written(folder, content)
    if name:
        path = str(Path(path).rename(folder / name))
    told: list[str] = []
    found = list(objects_in(path, 0, io.BytesIO(), told.append))
    return found, [each.removeprefix(f"{path}: ") for each in told]


def names(found: list[Found]) -> list[str]:
    return [str(each) for each in found]


ALL = ["Pod ml/train", "Node gpu-1", "MigNode gpu-1"]
FORMS: dict[str, str | bytes] = {
    "a List": json.dumps(listed(THREE), indent=4),
    "YAML of a List": yaml.safe_dump(listed(THREE)),
    "several YAML documents": "---\n" + "---\n".join(map(yaml.safe_dump, THREE)) + "---\n# nothing\n",
    "JSON objects one after the other": "\n".join(map(json.dumps, THREE)),
    "YAML that begins with a brace": "{kind: List, items: [" + ",\n".join(map(json.dumps, THREE)) + ",]}",
    "UTF-16 as PowerShell writes it": json.dumps(listed(THREE)).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(listed(THREE)).encode(),
    "several YAML documents of JSON": "---\n" + "\n---\n".join(map(json.dumps, THREE)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_objects(tmp_path: Path, form: str) -> None:
    name = "cluster.yaml" if "brace" in form else ""
    found, told = taken_apart(tmp_path, FORMS[form], name)
    assert (names(found), told) == (ALL, [])
    assert [each.group for each in found] == ["", "", "cdmo.clear.ml"]
    assert json.loads(bytes(found[0].raw)) == POD


def test_one_object_is_a_file(tmp_path: Path) -> None:
    assert names(taken_apart(tmp_path, POD)[0]) == ["Pod ml/train"]


@pytest.mark.parametrize(
    ("kind", "version", "item"),
    [("PodList", "v1", POD), ("NodeList", "v1", NODE), ("MigNodeList", "cdmo.clear.ml/v1alpha1", mignode())],
    ids=["pods", "nodes", "mignodes"],
)
def test_items_of_a_typed_list_need_no_kind_of_their_own(tmp_path: Path, kind: str, version: str, item: Json) -> None:
    bare = {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}
    found, told = taken_apart(tmp_path, {**listed([bare], kind), "apiVersion": version})
    assert told == []
    assert [(each.kind, each.group) for each in found] == [(item["kind"], version.rpartition("/")[0])]


@pytest.mark.parametrize("empty", [[], listed([]), {**listed([]), "items": None}], ids=["List", "again", "null"])
def test_an_empty_list_is_no_problem(tmp_path: Path, empty: Content) -> None:
    assert taken_apart(tmp_path, empty) == ([], [])


def test_standard_input_is_called_that() -> None:
    told: list[str] = []
    assert names(list(objects_in("-", 0, io.BytesIO(json.dumps(POD).encode()), told.append))) == ["Pod ml/train"]
    assert list(objects_in("-", 0, io.BytesIO(b"{"), told.append)) == []
    assert told[0].startswith("standard input: this is not JSON: ")


def test_a_file_that_is_not_there_or_is_a_folder_says_so(tmp_path: Path) -> None:
    told: list[str] = []
    for path in (tmp_path / "missing", tmp_path, "with\0zero"):
        assert list(objects_in(str(path), 0, io.BytesIO(), told.append)) == []
    assert told == [
        f"{tmp_path}/missing: it cannot be read: No such file or directory",
        f"{tmp_path}: it cannot be read: Is a directory",
        "with\0zero: it cannot be read: embedded null byte",
    ]


def test_a_file_beyond_the_limit_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            assert size > 0, "it has no end"
            return b" " * size

    monkeypatch.setattr(documents, "FILE_LIMIT", 3 * 2**20)
    told: list[str] = []
    assert list(objects_in("-", 0, Endless(), told.append)) == []  # type: ignore[arg-type]
    assert told == ["standard input: it has more than 3 MiB"]


TRUNCATED = json.dumps(listed(THREE), indent=4)[:700]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "it is empty"),
        (" \n\t\n", "it is empty"),
        ("# only a comment\n", "it holds no Kubernetes object"),
        ("---\n---\n", "it holds no Kubernetes object"),
        (TRUNCATED, "this is not JSON: "),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "this is not YAML: "),
        (b'{"kind": "Pod", "metadata": \xff}', "this is not JSON: "),
        ("[]", "this is no Kubernetes object: expected object, got array"),
        ("hello", "this is no Kubernetes object: expected object, got str"),
        ("- a\n- b\n", "this is no Kubernetes object: expected object, got array"),
        ('{"items": 3}', "this is no Kubernetes object: items: expected array, got int"),
        ('{"kind": "Pod", "metadata": []}', "this is no Kubernetes object: metadata: expected object, got array"),
        ("{}", "this is no Kubernetes object: it has no kind"),
        ('{"a":' + "[" * 5000 + "]" * 5000 + "}", "this is not JSON: "),
        ("{" * 5000, "this is not JSON: "),
        ("a: " + "[" * 5000, "line 1 is nested deeper than 100 levels"),
    ],
    ids=lambda each: repr(each[:24]),
)
def test_what_is_no_kubernetes_object_is_told_in_one_sentence(
    tmp_path: Path, content: bytes | str, complaint: str
) -> None:
    found, told = taken_apart(tmp_path, content)
    assert found == []
    (sentence,) = told
    assert sentence.startswith(complaint)
    assert "\n" not in sentence


def test_where_json_ends_too_early_is_told(tmp_path: Path) -> None:
    _, (sentence,) = taken_apart(tmp_path, '{"kind": "Pod",\n "metadata": {"name": "a"}')
    assert sentence == (
        "this is not JSON: Expecting ',' delimiter in line 2, column 27 (the file ends there: is it complete?)"
    )


def test_json_too_large_for_a_close_look_is_told_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_CLOSE_LOOK", 100)
    assert taken_apart(tmp_path, TRUNCATED) == ([], ["this is not JSON: Input data was truncated"])


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump], ids=["JSON", "YAML"])
def test_an_item_that_is_no_object_leaves_the_others(tmp_path: Path, write: object) -> None:
    assert callable(write)
    items = [POD, 3, {"metadata": {"name": "a"}}, {"kind": ["Pod"]}, NODE]
    found, told = taken_apart(tmp_path, write({"kind": "List", "items": items}))
    assert names(found) == ["Pod ml/train", "Node gpu-1"]
    assert told == [
        "items[1]: this is no Kubernetes object: expected object, got int",
        "items[2]: this is no Kubernetes object: it has no kind",
        "items[3]: this is no Kubernetes object: kind: expected str, got array",
    ]


TWICE = '{"kind": "Pod", "metadata": {"name": "a"}, "spec": {"c": [{"x": 1}, {"y": 1, "y": 2}], "priority": 1, %s}}'


@pytest.mark.parametrize("name", ["pods.json", "pods.yaml"])
@pytest.mark.parametrize("form", ["%s", '{"kind": "List", "items": [{"kind": "Pod"}, %s]}', "---\n%s"])
def test_a_key_that_stands_twice_is_named_with_its_object(tmp_path: Path, form: str, name: str) -> None:
    found, told = taken_apart(tmp_path, form % (TWICE % '"priority": 2'), name)
    assert json.loads(bytes(found[-1].raw))["spec"]["priority"] == 2
    assert told == [
        "Pod a spec.c[1].y: the key stands there twice; the last one counts",
        "Pod a spec.priority: the key stands there twice; the last one counts",
    ]


def test_a_key_of_the_list_itself_that_stands_twice_is_named(tmp_path: Path) -> None:
    found, told = taken_apart(tmp_path, f'{{"kind": "List", "items": [], "items": [{json.dumps(POD)}]}}')
    assert (names(found), told) == (["Pod ml/train"], ["items: the key stands there twice; the last one counts"])
